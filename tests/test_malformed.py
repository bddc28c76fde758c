"""Malformed traces, data files and run directories: one line, status 2, nothing written; and random bytes."""

import gzip
import io
import lzma
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from harness import SMALL, Finished, train, train_many
from hypothesis import HealthCheck, given, settings, strategies as st

from erasurehead_jax import ConfigError
from erasurehead_jax.cluster.checkpoint import Checkpoints, Snapshot, newest, read
from erasurehead_jax.delays import Trace
from erasurehead_jax.optimizers import agd, gd, nesterov
from erasurehead_jax.rundir.files import ARRIVED, ITERATES, LOCK, History, Progress, Vectors, kept_rows, read_history
from erasurehead_jax.update import State, start

ANYTHING = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


GOOD_TRACE = npz(times_s=np.ones((200, 30)))
TRACES = {
    "empty": b"",
    "text": b"worker,seconds\n1,2\n",
    "torn": GOOD_TRACE[:-100],
    "zip of something else": b"PK\x05\x06" + bytes(18),
    "pickle": pickle.dumps([1, 2, 3]),
    "pickle inside": npz(times_s=np.array([{"a": 1}], object)),
    "words": npz(times_s=np.array([["a", "b"]])),
    "one axis": npz(times_s=np.ones(30)),
    "no rounds": npz(times_s=np.ones((0, 30))),
    "negative": npz(times_s=-np.ones((200, 30))),
    "endless": npz(times_s=np.full((200, 30), np.inf)),
    "mostly nan": npz(times_s=np.full((200, 30), np.nan)),
    "other arrays": npz(seconds=np.ones((200, 30))),
    "owner of another size": npz(arrival_s=np.ones((200, 30)), owner=np.arange(3), workers=np.array(30)),
    "too few workers": npz(times_s=np.ones((200, 3))),
    "too few rounds": npz(times_s=np.ones((3, 30))),
}
NO_ARRAYS = ("text", "pickle", "pickle inside")
DATA = {
    "kc_house_data.csv": b"",
    "kc_house_data.csv.gz": gzip.compress(b"id,price\n1,2\n" * 1000)[:-30],
    "kc_house_data.csv.xz": lzma.compress(b"id,price\n1,2\n" * 1000)[:-30],
    "amazon_employee_access_train.csv": bytes(range(256)),
    "amazon_employee_access_train.csv.gz": b"no gzip",
    "covtype.data": b"1,2,3\n",
}


def refused(run: Finished, *parts: str) -> None:
    """Asserts status 2 and a single error line that contains these parts."""
    assert run.status == 2, run.err
    lines = run.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), run.err
    assert all(part in lines[0] for part in parts), run.err


@pytest.mark.slow
def test_traces(tmp_path: Path):
    cases = []
    for name, content in TRACES.items():
        (folder := tmp_path / name).mkdir()
        (folder / "trace.npz").write_bytes(content)
        cases.append((folder, ["delay=trace", "delay.path=trace.npz"]))
    for name, run in zip(TRACES, train_many(cases), strict=True):
        refused(run, f"delay.path={run.run_dir.parent / 'trace.npz'}: ")
        assert "unsafe" not in run.err
        assert ("it contains no numeric arrays; write it with np.savez" in run.err) is (name in NO_ARRAYS)
        assert [path.name for path in run.run_dir.parent.iterdir()] == ["trace.npz"]


def test_a_trace_may_be_a_plain_array(tmp_path: Path):
    times_s = np.random.default_rng(0).exponential(size=(7, 3)).astype(np.float32)
    np.save(tmp_path / "times.npy", times_s)
    np.savez(tmp_path / "times.npz", times_s=times_s)
    plain, named = (Trace(str(tmp_path / f"times.{ending}")) for ending in ("npy", "npz"))
    np.testing.assert_array_equal(plain.times_s, times_s)
    np.testing.assert_array_equal(plain.times_s, named.times_s)


@pytest.mark.parametrize("objects", ["npy", "npz"])
def test_a_trace_of_objects_is_refused_and_never_unpickled(tmp_path: Path, objects: str):
    (tmp_path / "here").mkdir()
    array = np.empty(1, object)
    array[0] = _MakesAFolder(str(tmp_path / "here" / "made"))
    save = {"npy": lambda path: np.save(path, array), "npz": lambda path: np.savez(path, times_s=array)}[objects]
    save(path := tmp_path / f"times.{objects}")
    with pytest.raises(ConfigError, match=r"it contains no numeric arrays; write it with"):
        Trace(str(path))
    assert not list((tmp_path / "here").iterdir())


class _MakesAFolder:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (Path(self.path),)


@pytest.mark.parametrize("name", DATA)
def test_data_files(tmp_path: Path, name: str):
    (raw := tmp_path / "raw").mkdir()
    (raw / name).write_bytes(DATA[name])
    data = {"kc": "kc_housing", "am": "amazon", "co": "covertype"}[name[:2]]
    env = {"ERASUREHEAD_DATA": str(raw), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    refused(train_many([(tmp_path, [f"data={data}"])], **env)[0], f"data={data}: ", name)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with checkpoints after 4 and 8 rounds."""
    run = train(tmp_path_factory.mktemp("run"), *SMALL, "checkpoint.every=4")
    assert run.status == 0, run.err
    return run.run_dir


def edited(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(run_dir: Path) -> None:
        for path in run_dir.glob(name):
            path.write_bytes(edit(path.read_bytes()))

    return apply


def changed(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """An edit that replaces one array in every checkpoint."""

    def edit(content: bytes) -> bytes:
        arrays = dict(np.load(io.BytesIO(content)))
        return npz(**arrays | {name: value(arrays[name])})

    return edited("checkpoint/*.npz", edit)


def without(name: str) -> Callable[[Path], None]:
    def apply(run_dir: Path) -> None:
        path = run_dir / name
        (shutil.rmtree if path.is_dir() else Path.unlink)(path)

    return apply


RUNS = {
    "checkpoints torn": (edited("checkpoint/*.npz", lambda content: content[:-50]), "round-0000000008.npz: is damaged"),
    "checkpoints empty": (edited("checkpoint/*.npz", lambda _: b""), "round-0000000004.npz: is damaged"),
    "checkpoints of text": (edited("checkpoint/*.npz", lambda _: b"round 8"), "is damaged or not a checkpoint"),
    "checkpoints pickled": (edited("checkpoint/*.npz", lambda _: pickle.dumps([8])), "is damaged or not a checkpoint"),
    "pickle in checkpoints": (changed("state_0", lambda x: np.array([{}], object)), "is damaged or not a checkpoint"),
    "another format": (changed("format", lambda _: np.array(99)), "has format 99"),
    "another run's": (changed("fingerprint", lambda _: np.array("f" * 64)), "belongs to a run with different settings"),
    "another model's": (changed("state_0", lambda x: x[:-1]), "shapes and types"),
    "another precision": (changed("state_0", lambda x: x.astype(float)), "shapes and types"),
    "nan": (changed("state_0", lambda x: x * np.nan), "is not finite"),
    "no history": (without("history.csv"), "history.csv: cannot be read"),
    "short history": (
        edited("history.csv", lambda text: b"\n".join(text.split(b"\n")[:3]) + b"\n"),
        "does not contain the 8 rounds",
    ),
    "history of bytes": (edited("history.csv", lambda _: bytes(range(256))), "history.csv"),
    "words in history": (edited("history.csv", lambda text: text.replace(b"\n2,", b"\ntwo,")), "history.csv"),
    "history with gaps": (
        edited("history.csv", lambda text: text.replace(b"\n2,", b"\n3,")),
        "does not contain the 8 rounds",
    ),
    "other columns": (
        edited("history.csv", lambda text: text.replace(b"waited", b"wanted")),
        "does not contain the 8 rounds",
    ),
    "short arrivals": (
        edited("checkpoint/arrivals.bin", lambda data: data[:9]),
        "arrivals.bin: has fewer rounds than the 8",
    ),
    "no config": (without(".hydra/config.yaml"), "not a run directory"),
    "no .hydra": (without(".hydra"), "not a run directory"),
    "no choices": (without(".hydra/hydra.yaml"), "not a run directory"),
    "config of bytes": (edited(".hydra/config.yaml", lambda _: bytes(range(128, 256))), "not a run directory"),
    "config of nothing": (edited(".hydra/config.yaml", lambda _: b""), "config.yaml: has no setting"),
    "config is a list": (edited(".hydra/config.yaml", lambda _: b"- 1\n- 2\n"), "not a run directory"),
    "config is no yaml": (edited(".hydra/config.yaml", lambda _: b"a: [1, {"), "not a run directory"),
    "config lacks rounds": (
        edited(".hydra/config.yaml", lambda t: t.replace(b"rounds:", b"r:")),
        "no setting 'rounds'",
    ),
    "config lacks its cluster": (edited(".hydra/config.yaml", lambda t: t.replace(b"cluster:", b"c:")), "no setting"),
    "simulated": (
        edited(".hydra/config.yaml", lambda t: t.replace(b"backend: mpi", b"backend: simulate")),
        "writes no checkpoints",
    ),
    "other settings": (edited(".hydra/config.yaml", lambda t: t.replace(b"seed: 0", b"seed: 1")), "different settings"),
}


@pytest.mark.mpi
@pytest.mark.slow
def test_run_directories(finished: Path, tmp_path: Path):
    cases = []
    for name, (spoil, _) in RUNS.items():
        shutil.copytree(finished, tmp_path / name / "run")
        spoil(tmp_path / name / "run")
        cases.append((tmp_path / name, ["resume=run"]))
    before = [contents(folder) for folder, _ in cases]
    for run, (_, message), was in zip(train_many(cases), RUNS.values(), before, strict=True):
        refused(run, message)
        assert contents(run.run_dir.parent) == was, "something was written"


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, except the lock, which every command that reads a run directory takes."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != Path(LOCK).name]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.mpi
def test_what_a_resumed_run_may_not_change(finished: Path, tmp_path: Path):
    reasons = {
        "seed=1": "keeps its settings",
        "load=1": "keeps its settings",
        "rounds=3": "must be at least 8, the rounds already completed",
    }
    for i in range(len(reasons)):  # a directory each, because a run directory has one owner
        shutil.copytree(finished, tmp_path / str(i))
    runs = train_many([(tmp_path, [f"resume={i}", override]) for i, override in enumerate(reasons)])
    for run, (override, why) in zip(runs, reasons.items(), strict=True):
        refused(run, override, why)


@pytest.mark.mpi
def test_the_checkpoint_before_a_torn_one_is_used(finished: Path, tmp_path: Path):
    """The torn checkpoint is named, the rounds after the older one are repeated, and the result is the same."""
    shutil.copytree(finished, tmp_path / "run")
    torn = tmp_path / "run" / "checkpoint" / "round-0000000008.npz"
    torn.write_bytes(torn.read_bytes()[:1000])
    run = train(tmp_path, f"resume={tmp_path / 'run'}")
    assert run.status == 0, run.err
    assert run.err.count(f"warning: checkpoint skipped: {torn}: is damaged") == 1
    assert run.history["round"].tolist() == list(range(8)) and run.history.notna().all().all()


STATES = {
    name: start(make(0.1), jnp.linspace(0, 1, 7)) for name, make in [("gd", gd), ("nesterov", nesterov), ("agd", agd)]
}
COUNTS = {"late_answers": np.arange(3), "faulty_answers": np.zeros(3, int), "suspected": np.ones(3, int)}
COUNTS |= {"losses": np.array([[1, 2]]), "asked": np.array(24)}
CONFIG = {"seed": 0, "evaluate_every": 1, "checkpoint": {"every": 2, "keep": 2}, "cluster": {"chunk_rows": 9}}


def written(run_dir: Path, state: State, *rounds: int) -> Checkpoints:
    run_dir.mkdir(exist_ok=True)
    checkpoints = Checkpoints(run_dir, CONFIG)
    for done in rounds:
        checkpoints.save(Snapshot(Progress(done, 1.5, 1.25, 0.1), state, COUNTS), lambda: None)
    checkpoints.wait()
    return checkpoints


def same(a: Snapshot, b: Snapshot) -> bool:
    import jax

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) and np.asarray(x).dtype == np.asarray(y).dtype for x, y in pairs)


@pytest.mark.parametrize("name", STATES)
def test_checkpoints_are_exact_and_only_the_newest_are_kept(tmp_path: Path, name: str):
    folder = written(tmp_path, STATES[name], 2, 4, 6).folder
    assert sorted(path.name for path in folder.iterdir()) == ["round-0000000004.npz", "round-0000000006.npz"]
    (folder / ARRIVED).write_bytes(bytes(6 * 3 * 8))
    History(tmp_path, "auc").close()
    rows = History(tmp_path, "auc")
    for t in range(6):
        rows.append({name: 0 for name in rows.columns} | {"round": t})
    rows.close()
    path, snapshot, refused_ = newest(tmp_path, CONFIG, STATES[name], "auc", messages=3)
    assert path == folder / "round-0000000006.npz" and not refused_
    assert snapshot and same(snapshot, Snapshot(Progress(6, 1.5, 1.25, 0.1), STATES[name], COUNTS))
    assert not (folder / ITERATES).exists()


def test_a_checkpoint_that_cannot_be_written_is_no_checkpoint(tmp_path: Path):
    checkpoints = written(tmp_path, STATES["gd"], 2)

    def fail() -> None:
        raise OSError("the disk is full")

    checkpoints.save(Snapshot(Progress(4, 0.0, 0.0, 0.0), STATES["gd"], COUNTS), fail)
    with pytest.raises(OSError, match="the disk is full"):
        checkpoints.wait()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["round-0000000002.npz"]


@ANYTHING
@given(
    spoil=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=3),
    cut=st.integers(0, 60),
)
def test_a_checkpoint_with_wrong_bytes_is_refused_or_whole(tmp_path: Path, spoil: list[tuple[int, int]], cut: int):
    checkpoints = written(tmp_path, STATES["agd"], 2)
    path = checkpoints.folder / "round-0000000002.npz"
    whole = read(path, checkpoints._fingerprint, STATES["agd"])
    content = bytearray(path.read_bytes())
    for at, bits in spoil:
        content[at % len(content)] ^= bits
    path.write_bytes(content[: len(content) - cut])
    with warnings.catch_warnings(action="ignore"):  # zipfile warns of duplicate names
        try:
            found = read(path, checkpoints._fingerprint, STATES["agd"])
        except ConfigError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert same(found, whole)


@ANYTHING
@given(content=st.one_of(st.binary(max_size=300), st.binary(max_size=50).map(lambda b: GOOD_TRACE[:-60] + b)))
def test_random_bytes_are_no_trace_and_no_checkpoint(tmp_path: Path, content: bytes):
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"some\.npz"):
        Trace(str(path))
    with pytest.raises(ConfigError, match=r"some\.npz"):
        read(path, "", STATES["gd"])


@ANYTHING
@given(
    content=st.one_of(st.binary(max_size=300), st.text(alphabet="0123456789,.\n-einf", max_size=300).map(str.encode))
)
def test_random_bytes_are_no_history(tmp_path: Path, content: bytes):
    (tmp_path / "history.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=r"history\.csv"):
        kept_rows(tmp_path, "auc", 3)


def test_history_keeps_whole_rows_only(tmp_path: Path):
    history = History(tmp_path, "auc")
    for t in range(4):
        history.append({name: 0.5 for name in history.columns} | {"round": t})
    history.close()
    with (tmp_path / "history.csv").open("a") as file:
        file.write("4,0.5,0.")  # the process died here
    assert [row["round"] for row in read_history(tmp_path)] == [0, 1, 2, 3]
    again = History(tmp_path, "auc", keep=3)
    assert again.count == again.evaluated == 3 and again.last["round"] == 2
    again.append({name: 0.5 for name in history.columns[:-3]} | {"round": 3})
    again.fill([{name: 0.25 for name in history.columns[-3:]}])
    assert [row["train_loss"] for row in read_history(tmp_path)] == [0.5, 0.5, 0.5, 0.25]
    again.close()


def test_vectors_keep_the_first(tmp_path: Path):
    vectors = Vectors(tmp_path / "v", 3, np.dtype(float))
    for t in range(5):
        vectors.append(np.full(3, float(t)))
    vectors.close()
    again = Vectors(tmp_path / "v", 3, np.dtype(float), keep=2)
    again.append(np.full(3, 9.0))
    assert np.concatenate(list(again.batches(2)))[:, 0].tolist() == [0, 1, 9]
    again.close()
    with pytest.raises(ConfigError, match="has fewer rounds than the 4"):
        Vectors(tmp_path / "v", 3, np.dtype(float), keep=4)
