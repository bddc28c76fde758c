"""Bad input: one line that names the field, the value and the rule; status 2; nothing left behind."""

from pathlib import Path

import pytest
from harness import Finished, train, train_many

BAD = {
    "load=4": "load=4: must divide blocks=30",
    "workers=25 blocks=30": "workers=25: must be a multiple of blocks/load=10",
    "wait_for=0": "wait_for=0: must be a whole number, at least 1",
    "wait_for=31": "wait_for=31: must lie between 1 and workers=30",
    "wait_for=2.5": "wait_for=2.5: must be a whole number, at least 1",
    "scheme=ignore_stragglers wait_for=31": "wait_for=31: must lie between 1 and workers=30",
    "scheme=nothing": "scheme=nothing: unknown; choose one of egc, egc_cyclic, erasurehead",
    "scheme=egc_cyclic blocks=60": "blocks=60: cyclic repetition needs as many blocks as workers (30)",
    "delay=exponential delay.mean_s=-1": "delay.mean_s=-1: must be a finite number, 0 or more",
    "delay=exponential delay.mean_s=soon": "delay.mean_s=soon: must be a finite number, 0 or more",
    "delay=shifted_exponential delay.shift_s=inf": "delay.shift_s=inf: must be a finite number, 0 or more",
    "rounds=0": "rounds=0: must be a whole number, at least 1",
    "rounds=many": "rounds=many: must be a whole number, at least 1",
    "seed=-1": "seed=-1: must be a whole number, at least 0",
    "scheme=uncoded workers=10 blocks=20000": "blocks=20000: there are only 19200 training rows",
    "late=queue": "late=queue: must be one of cancel, skip, wait",
    "init=ones": "init=ones: must be zeros or normal",
    "l2=-1": "l2=-1: must be a finite number, 0 or more",
    "x64=perhaps": "x64=perhaps: must be true or false",
    "evaluate_every=0": "evaluate_every=0: must be a whole number, at least 1",
    "optimizer.step_size=0": "optimizer.step_size=0: must be a finite number, above 0",
    "optimizer.decay=1.5": "optimizer.decay=1.5: must be a finite number, above 0 and at most 1",
    "optimizer=newton": "optimizer=newton: unknown; choose one of agd, gd, nesterov",
    "optimizer._target_=optax.nothing": "optimizer: cannot be built from its settings",
    "scheme.decode.rescale=twice": "rescale=twice: must be none, expected or covered",
    "data.task=regression": "objective=logistic: needs targets -1 and +1",
    "data.rows=1": "data.rows=1: must be a whole number, at least 5",
    "cluster.chunk_rows=0": "cluster.chunk_rows=0: must be a whole number, at least 1",
    "cluster.program=no-such-mpirun": "cluster.program=no-such-mpirun: not found in",
    "cluster.on_loss=hope": "cluster.on_loss=hope: must be one of stop, approximate",
    "cluster.heartbeat_s=0": "cluster.heartbeat_s=0: must be a finite number, above 0",
    "cluster.heartbeat_s=soon": "cluster.heartbeat_s=soon: must be a finite number, above 0",
    "cluster.shutdown_s=-1": "cluster.shutdown_s=-1: must be a finite number, above 0",
    "cluster.startup_s=null": "cluster.startup_s=None: must be a finite number, above 0",
    "checkpoint.every=0": "checkpoint.every=0: must be a whole number, at least 1",
    "checkpoint.keep=some": "checkpoint.keep=some: must be a whole number, at least 1",
    "checkpoint=null": "checkpoint=None: must be",
    "resume=no-such-folder": "no-such-folder: not a run directory",
    "workers=[1,2]": "workers=[1, 2]: must be a whole number, at least 1",
    "workers=null": "workers=None: must be a whole number, at least 1",
    "load={a:1}": "load={'a': 1}: must be a whole number, at least 1",
    "delay=exponential delay.mean_s=null": "delay.mean_s=None: must be a finite number, 0 or more",
    "delay=exponential delay.mean_s=[1]": "delay.mean_s=[1]: must be a finite number, 0 or more",
    "delay=slow_workers delay.slow=31": "delay.slow=31: must be a whole number between 0 and workers=30",
    "delay=trace delay.path=nowhere.npz": "delay.path=nowhere.npz: cannot be read as a .npz recording",
    "delay=trace": "needs a value",
    "l2=nan": "l2=nan: must be a finite number, 0 or more",
    "late=null": "late=None: must be one of cancel, skip, wait",
    "backend=quantum": "backend=quantum: must be mpi or simulate",
    "backend=simulate late=never": "late=never: must be one of",
    "optimizer=null": "optimizer",
    "tracking=null": "tracking",
    "tracking=wandb tracking.timeout_s=never": "tracking.timeout_s=never: must be a finite number, above 0",
    "target=soon": "target=soon: must be a finite number, 0 or more",
    "delay=trace delay.path=nowhere.npz delay.scale=0": "delay.scale=0: must be a finite number, above 0",
    "scheme=null": "scheme",
    "data=null": "data",
    "delay=null": "delay",
    "scheme.code._target_=erasurehead_jax.codes.Nothing": "scheme",
    "delay._target_=builtins.dict": "delay",
    "cluster.program=null": "cluster.program=None",
    "workers=4294967296 blocks=4294967296": "workers=4294967296: must be below 2^32",
    "rouns=3": "Could not override 'rouns'",
    "workers": "workers",
}


def refused(run: Finished) -> str:
    """The one line of a refusal."""
    assert run.status == 2, run.err
    lines = run.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), run.err
    return lines[0]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """Of every bad command line."""
    cases = [(tmp_path_factory.mktemp("bad"), overrides.split(" ")) for overrides in BAD]
    return dict(zip(BAD, train_many(cases), strict=True))


@pytest.mark.parametrize("overrides", BAD)
def test_refusals(overrides: str, refusals: dict[str, Finished]):
    run = refusals[overrides]
    assert BAD[overrides] in refused(run)
    assert list(run.run_dir.parent.iterdir()) == []


def test_refusals_of_the_real_command(tmp_path: Path):
    assert BAD["load=4"] in refused(train(tmp_path, "load=4"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_with_something_in_it_is_left_as_it_is(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text("precious")
    assert "must be new or empty" in refused(train(tmp_path))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["history.csv"]
    assert (tmp_path / "run" / "history.csv").read_text() == "precious"


def test_a_run_directory_that_is_a_file(tmp_path: Path):
    (tmp_path / "run").write_text("precious")
    assert "File exists" in refused(train(tmp_path))
    assert (tmp_path / "run").read_text() == "precious"


def test_missing_raw_data_says_where_it_was_looked_for(tmp_path: Path):
    for folder in ("nothing", "cache"):
        (tmp_path / folder).mkdir()
    run = train(
        tmp_path,
        "data=amazon",
        ERASUREHEAD_DATA=str(tmp_path / "nothing"),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        HTTPS_PROXY="http://127.0.0.1:9",
    )
    line = refused(run)
    assert str(tmp_path / "nothing" / "amazon_employee_access_train.csv") in line
    assert str(tmp_path / "cache") in line and "set ERASUREHEAD_DATA" in line
    assert not (tmp_path / "run").exists()


def test_corrupt_raw_data(tmp_path: Path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "kc_house_data.csv").write_text("id,price\n1,2\n")
    run = train(tmp_path, "data=kc_housing", ERASUREHEAD_DATA=str(raw), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "kc_house_data.csv is corrupt or another version" in refused(run)
    (raw / "kc_house_data.csv").unlink()
    (raw / "kc_house_data.csv.gz").write_bytes(b"not gzip at all")
    run = train(tmp_path, "data=kc_housing", ERASUREHEAD_DATA=str(raw), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "kc_house_data.csv.gz cannot be read" in refused(run)
