"""The own loop: coded gradients against jax.grad and against training, simulated and on real ranks; its refusals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import loop_script
import numpy as np
import optax
import pytest
from harness import LIMIT_S, TESTS, environment, execute, ranks_of
from hypothesis import given, settings, strategies as st
from jax import export

import erasurehead_jax as eh
from erasurehead_jax import run
from erasurehead_jax.cluster import lend, script
from erasurehead_jax.data import Dense, OneHot, Rows, synthetic
from erasurehead_jax.errors import Status
from erasurehead_jax.loop.loss import Loss
from erasurehead_jax.loop.parameters import Parameters
from erasurehead_jax.loop.rows import as_rows

EXAMPLE = TESTS.parent / "examples" / "own_loop.py"
ROWS = np.random.default_rng(1).standard_normal((50, 3))
TARGET = ROWS @ [1.0, -2.0, 0.5] + 0.1
SCHEME = eh.egc(workers=6, load=3)
START = {"w": jnp.zeros(3), "b": [jnp.ones(()), None]}
DATA = synthetic(rows=1003, fields=5, categories=40)


def squares(params: Any, rows: Any, target: Any) -> jax.Array:
    """One loss a row."""
    return (rows @ params["w"] + params["b"][0] - target) ** 2


def mean(params: Any, *data: Any) -> jax.Array:
    return squares(params, *data).mean()


def dataset(features: Any) -> eh.Dataset:
    return eh.Dataset("mine", Rows(features, TARGET), Rows(features.take(slice(5)), TARGET[:5]))


one_hot = OneHot(np.random.default_rng(2).integers(0, 3, (2, 50)), 3)
FORMS: dict[str, tuple[Callable[..., Any], Any]] = {
    "one loss a row": (squares, (ROWS, TARGET)),
    "their mean": (mean, (ROWS, TARGET)),
    "a list, and a column": (lambda p, x, y: squares(p, x, y[:, 0]).mean(), [ROWS, TARGET[:, None]]),
    "one argument": (lambda p, data: mean(p, data["x"], *data["y"]), {"x": ROWS, "y": [TARGET]}),
    "integers": (mean, (np.arange(150).reshape(50, 3) % 7, np.arange(50) % 2 == 0)),
    "a dense data set": (mean, dataset(Dense(ROWS))),
    "a sparse data set": (squares, dataset(one_hot)),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_exact_code_gives_what_jax_grad_gives(form: str):
    check_exact(form, np.dtype(np.float64))


def test_an_exact_code_is_exact_in_float32():
    with jax.enable_x64(False):
        check_exact("their mean", np.dtype(np.float32))


def check_exact(form: str, precision: np.dtype) -> None:
    loss, data = FORMS[form]
    given_to = {"a dense data set": (ROWS, TARGET), "a sparse data set": (one_hot, TARGET)}.get(form)
    arguments = given_to or (data if isinstance(data, tuple | list) else (data,))
    start = jax.tree.map(lambda leaf: leaf.astype(precision), START)
    true = jax.grad(lambda p: loss(p, *arguments).mean())(start)
    with eh.coded_gradient(loss, start, data, SCHEME) as gradient:
        found, info = gradient(start)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=100 * np.finfo(precision).eps), found, true)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, start)
    assert info == (0, True, 0.0, 6, 0.0, 0.0, 0)


@given(st.integers(1, 40), st.sampled_from(["one loss a row", "their mean", "a sparse data set"]))
@settings(max_examples=6)
def test_what_is_sent_to_ranks_computes_the_same_for_any_number_of_rows(count: int, form: str):
    loss, data = FORMS[form]
    own, rows = Loss(loss, Parameters(START)), as_rows(data)
    random = np.random.default_rng(count)
    x, weights, some = random.standard_normal(4), random.standard_normal(count), rows.take(np.arange(count))
    sent = export.deserialize(bytearray(own.exported(rows)))
    found = sent.call(x, weights, *jax.tree.leaves(some))
    np.testing.assert_allclose(found, jax.jit(own.gradient)(x, some, weights), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("batch", "late"), [(None, "skip"), (20, "queue")])
@pytest.mark.slow
def test_a_loop_is_training(batch: int | None, late: str, tmp_path: Path):
    """The same rounds as `train`: the same clock, the same answers and, with the same steps, the same model."""
    scheme, common = eh.erasurehead(4, 2, 1), {"batch": batch, "seed": 3, "compute_s": 0.2, "late": late}
    delay, x = eh.Exponential(0.05), np.zeros(DATA.dim)
    target = np.where(DATA.train.target > 0, 1.0, -1.0)
    own = eh.Dataset("own", Rows(DATA.train.features, target), DATA.test)
    trained = eh.train(
        own, eh.Logistic(), scheme, delay=delay, optimizer=optax.sgd(2.0), rounds=8, run_dir=tmp_path, l2=0.0, x64=True,
        **common,
    )  # fmt: skip
    infos = []
    with eh.coded_gradient(
        lambda x, features, y: jnp.logaddexp(0, -y * (features @ x)), x, own, scheme, delay=delay, **common
    ) as gradient:
        for _ in range(8):
            step, info = gradient(x)
            x = x - 2.0 * step
            infos.append(info)
    np.testing.assert_allclose(x, trained.x, rtol=1e-12)
    for name in ("round", "exact", "decode_error", "waited", "round_s", "clock_s", "lost"):
        np.testing.assert_array_equal([getattr(info, name) for info in infos], trained.history[name])


def with_start(start: Any) -> dict[str, Any]:
    return {"params": start}


REFUSED: dict[str, dict[str, Any]] = {
    r"loss: returned shape \(13, 3\) for 13 rows; must return one loss a row, or": {"loss": lambda p, x, y: x},
    r"loss: returned a tuple; must .*, as one array": {"loss": lambda p, x, y: (mean(p, x, y), 1.0)},
    r"loss: returned int64; must .*, as floats": {"loss": lambda p, x, y: jnp.sum(y > 0)},
    r"loss: of 13 rows is 56\.\d+, but of each alone it is 4\.\d+ in the mean; .*no sums": {
        "loss": lambda p, *data: squares(p, *data).sum()
    },
    r"loss: of 13 rows is .*no batch normalisation": {
        "loss": lambda p, x, y: squares(p, (x - x.mean(0)) / (x.std(0) + 1), y),
        "params": START | {"w": jnp.ones(3)},
    },
    r"loss: of 13 rows is 7\.\d+, but of one row alone it is nan; .* on other rows \(no batch": {
        "loss": lambda p, x, y: squares(p, (x - x.mean(0)) / x.std(0), y * 0.1),
        "params": START | {"w": jnp.ones(3)},
    },
    r"data: one array, but the loss takes 2 arguments besides params: give a tuple of 2": {"data": ROWS},
    r"data: 3 arrays, but the loss takes 2 arguments besides params: give a tuple of 2": {"data": (ROWS, TARGET, ROWS)},
    r"loss: cannot be called with params and 2 arguments": {"loss": lambda p, x, y, *, z: x},
    r"loss: is nan at the start; must be finite": {"loss": lambda p, x, y: jnp.log(p["b"][0] - 2.0) * y},
    r"loss: its gradient at the start is not finite": {"loss": lambda p, x, y: jnp.sqrt((x @ p["w"]) ** 2)},
    r"params\['w'\]: has type int\d+; must be an array of floats": with_start({"w": jnp.arange(3)}),
    r"params\['f'\]: is a function; .*eqx.partition": with_start({"f": mean}),
    r"params: has no arrays": with_start({}),
    r"params\[0\]: nan at the start; must be finite": with_start([np.array([0.0, np.nan])]),
    r"data\[1\]: has 49 rows, but data\[0\] has 50; must have equally many": {"data": (ROWS, TARGET[1:])},
    r"data\['x'\]: nan at \[3, 1\]; must be finite": {"data": {"x": np.where(ROWS[3, 1] == ROWS, np.nan, ROWS)}},
    r"data\[0\]: has type <U1; must be an array of numbers": {"data": (np.array(["a", "b"]),)},
    r"data\[0\]: is a single value": {"data": (3.0,)},
    r"data: has no arrays": {"data": ()},
    r"data\[0\]: has no rows": {"data": (ROWS[:0],)},
    r"blocks=60: must be at most the number of training rows, 50": {"scheme": eh.uncoded(60)},
    r"batch=9: must be at most 8": {"batch": 9},
    r"los_s=3: unknown setting; did you mean lost_s\?": {"los_s": 3},
    r"rounds=3: unknown setting": {"rounds": 3},
    r"cluster.on_loss=pray: must be stop or approximate": {"on_loss": "pray"},
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_what_does_not_fit_is_one_line(says: str):
    given_to = {"loss": squares, "params": START, "data": (ROWS, TARGET), "scheme": SCHEME} | REFUSED[says]
    with pytest.raises(eh.ConfigError, match=says) as refused, eh.coded_gradient(**given_to):
        pass
    assert "\n" not in str(refused.value)


def test_a_call_that_does_not_fit_is_one_line():
    with eh.coded_gradient(squares, START, (ROWS, TARGET), SCHEME) as gradient:
        with pytest.raises(eh.ConfigError, match=r"structure .* must be that of the params"):
            gradient({"w": jnp.zeros(3)})
        with pytest.raises(eh.ConfigError, match=r"params\['w'\]: has shape \(4,\); coded_gradient was given \(3,\)"):
            gradient(START | {"w": jnp.zeros(4)})
        with pytest.raises(eh.ConfigError, match=r"its only argument is params, because the workers hold the data"):
            gradient(START, ROWS, TARGET)
        with pytest.raises(eh.ConfigError, match=r"inside jax\.jit"):
            jax.jit(gradient)(START)
        nested = eh.coded_gradient(squares, START, (ROWS, TARGET), SCHEME)
        with pytest.raises(eh.ConfigError, match="is already open"), nested:
            pass
        for use in (lambda: nested(START), lambda: [*nested]):
            with pytest.raises(eh.ConfigError, match="is not open; open it with `with"):
                use()
        with pytest.raises(eh.Diverged, match="gradient of round 0 is not finite"):
            gradient(jax.tree.map(lambda leaf: leaf + 1e308, START))
    with pytest.raises(eh.ConfigError, match="after its with block"):
        gradient(START)


def test_a_recording_that_ends_before_the_loop(tmp_path: Path):
    np.save(tmp_path / "times.npy", np.full((2, 6), 0.1))
    delay = eh.Trace(str(tmp_path / "times.npy"))
    with eh.coded_gradient(squares, START, (ROWS, TARGET), SCHEME, delay=delay) as gradient:
        assert [gradient(START)[1].clock_s for _ in range(2)] == pytest.approx([0.1, 0.2])
        with pytest.raises(eh.ConfigError, match="has 2 rounds, fewer than rounds=3"):
            gradient(START)


def test_a_loss_that_calls_back_into_python_is_not_sent(monkeypatch: pytest.MonkeyPatch):
    def loss(params: Any, *data: Any) -> jax.Array:
        jax.debug.print("{}", params["b"][0])
        return squares(params, *data)

    with pytest.raises(eh.ConfigError, match=r"loss: cannot be sent to the ranks \(.*without jax.debug.print"):
        Loss(loss, Parameters(START)).exported(as_rows((ROWS, TARGET)))

    def pure(params: Any, *data: Any) -> jax.Array:
        zero = jax.pure_callback(lambda: np.zeros(()), jax.ShapeDtypeStruct((), float))
        return squares(params, *data) + jax.lax.stop_gradient(zero)

    for platforms in ("", "cpu"):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        with pytest.raises(eh.ConfigError, match=r"loss: cannot be sent to the ranks \(.*without jax.debug.print"):
            Loss(pure, Parameters(START)).exported(as_rows((ROWS, TARGET)))
    with pytest.raises(eh.ConfigError, match="set TMPDIR to a folder that all hosts share"):
        lend.require_shared(Path("/nowhere"))


class Told(NamedTuple):
    """What tests/loop_script.py says."""

    status: int
    lines: list[str]
    err: str
    facts: dict[str, dict[str, Any]]


def start(folder: Path, workers: int, *line: str | Path) -> subprocess.Popen[str]:
    """A run whose ranks, and temporary folder, can be found in this folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "erasurehead_jax.run", "-n", str(workers), *line],
        env=environment(TMPDIR=str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("run")
    process = start(folder, 4, "--log", folder / "log", TESTS / "loop_script.py", "-n", "9")
    out, err = process.communicate("standard input\n", timeout=LIMIT_S)
    assert process.returncode == 7, out + err
    assert [path.name for path in folder.iterdir()] == ["log"]
    lines = out.splitlines()
    facts = [json.loads(line) for line in lines if line.startswith("{")]
    return Told(process.returncode, lines, err, {each.pop("name"): each for each in facts})


@pytest.mark.mpi
@pytest.mark.slow
def test_a_script_is_executed_as_by_python(told: Told):
    assert told.lines[0] == "standard output ['-n', '9'] standard input"
    assert told.err.startswith("standard error\n") and "Traceback" not in told.err
    here = TESTS / "loop_script.py"
    assert told.facts["main"] == {"module": "__main__", "beside": str(TESTS), "file": str(here)}


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["exact", "uncoded", "killed", "without them"])
def test_real_workers_give_what_jax_grad_gives(told: Told, name: str):
    facts, simulated = told.facts[name], loop_script.descend(loop_script.EXACT)
    assert max(facts["errors"]) < 1e-8  # a parameter is in float32
    assert facts["loss"] == pytest.approx(simulated["loss"], rel=1e-12)
    infos = facts["infos"]
    assert [info["round"] for info in infos] == list(range(6))
    assert all(info["exact"] for info in infos)
    clock_s = np.cumsum([info["round_s"] for info in infos])
    assert (np.array([info["clock_s"] for info in infos]) >= clock_s * (1 - 1e-9)).all()
    if name != "killed":  # there, the losses may be noticed after the last round only
        assert {info["lost"] for info in infos} == {2 if name == "without them" else 0}


@pytest.mark.mpi
def test_real_workers_give_what_is_simulated(told: Told):
    """With mini-batches and an approximate scheme, whose order of arrival is certain."""
    simulated, real = loop_script.descend(**loop_script.APPROXIMATE), told.facts["approximate"]
    assert real["loss"] == pytest.approx(simulated["loss"], rel=1e-12)
    np.testing.assert_allclose(real["errors"], simulated["errors"], rtol=1e-9)
    for name in ("round", "exact", "decode_error", "waited", "lost"):
        assert [info[name] for info in real["infos"]] == [info[name] for info in simulated["infos"]]


@pytest.mark.mpi
def test_what_does_not_fit_on_real_ranks_is_one_line(told: Told):
    refused = told.facts["refused"]
    assert "only the main thread can" in refused["thread"]
    assert "is already open" in refused["nested"]
    assert "after its with block" in refused["late"]
    assert refused["other"] == "scheme: has 6 workers, but this script was started with 4; use -n 6"
    assert "its gradient at the start is not finite" in refused["infinite"]


@pytest.mark.mpi
def test_a_block_goes_on_after_ctrl_c(told: Told):
    assert told.facts["interrupted"]["error"] < 1e-8


@pytest.mark.mpi
def test_lost_workers_are_reported_and_can_be_too_many(told: Told):
    warnings = [line for line in told.err.splitlines() if line.startswith("warning: worker ")]
    assert {line.split()[2] for line in warnings} == {"1", "2"}
    assert all(" is lost in round " in line for line in warnings)
    assert "no more can arrive (lost workers: 1, 2;" in told.facts["stopped"]["reason"]
    infos = told.facts["what is left"]["infos"]
    assert {info["decode_error"] for info in infos} == {2.0} and not any(info["exact"] for info in infos)


@pytest.mark.mpi
@pytest.mark.slow
def test_the_example_is_the_same_on_real_ranks(tmp_path: Path):
    """The acceptance of the own loop: the same losses; and simulated without MPI."""
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    without_mpi = f"import runpy, sys; runpy.run_path({str(EXAMPLE)!r}); print('mpi4py' in sys.modules)"
    simulated = execute([sys.executable, "-c", without_mpi], tmp_path)
    real = execute([sys.executable, "-m", "erasurehead_jax.run", "-n", "6", EXAMPLE], tmp_path)
    assert real.returncode == simulated.returncode == 0, simulated.stderr + real.stderr
    *_, loss, last = simulated.stdout.split("loss ")[1].split(",")[0], simulated.stdout.splitlines()[-1]
    assert last == "False"
    assert float(real.stdout.split("loss ")[1].split(",")[0]) == pytest.approx(float(loss), abs=1e-6)


FOREVER = """
import jax.numpy as jnp
import erasurehead_jax as eh

with eh.coded_gradient(lambda p, x: (p * x) ** 2, 1.0, (jnp.ones(6),), eh.egc(2, 2)) as gradient:
    print("inside", flush=True)
    while True:
        gradient(1.0)
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("number", "of", "status", "says"),
    [
        (signal.SIGINT, "command", 130, "interrupted\n"),
        (signal.SIGTERM, "command", 128 + signal.SIGTERM, ""),
        (signal.SIGKILL, "script", 1, "(rank 0) is lost"),
    ],
    ids=["Ctrl-C", "SIGTERM", "rank 0 killed"],
)
@pytest.mark.slow
def test_no_process_outlives_a_script_however_it_ends(
    tmp_path: Path, number: signal.Signals, of: str, status: int, says: str
):
    (tmp_path / "forever.py").write_text(FOREVER)
    with start(tmp_path, 2, tmp_path / "forever.py") as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "inside\n"
        (folder,) = tmp_path.glob("erasurehead-jax-*")
        ranks = ranks_of(folder)
        assert sorted(ranks) == [0, 1, 2]
        os.kill(process.pid if of == "command" else ranks[0], number)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == status
    assert says in err and len(err.splitlines()) == {"command": bool(says), "script": 2}[of], err
    assert ranks_of(folder) == {}
    assert folder.exists() == (of == "script")  # with the workers' output


ENDINGS: dict[str, tuple[int, str]] = {
    "import sys; sys.exit()": (0, ""),
    "import sys; sys.exit(300)": (44, ""),
    "import sys; sys.exit('a message')": (1, "a message\n"),
    "raise KeyboardInterrupt": (Status.INTERRUPTED, ""),
    "import erasurehead_jax as eh; eh.egc(5, 3)": (Status.BAD_INPUT, "error: load=3: must divide blocks=5"),
    "import erasurehead_jax as eh; raise eh.Stopped('no more')": (Status.UNDECODABLE, "stopped: no more\n"),
    "def f():\n    1 / 0\nf()": (1, 'Traceback (most recent call last):\n  File "{path}", line 3, in <module>\n'),
    "x = = 3": (1, '  File "{path}", line 1\n'),
}


@pytest.mark.parametrize("text", ENDINGS)
def test_the_end_of_a_script(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "mine.py"
    path.write_text(text)
    status, says = ENDINGS[text]
    assert script.status_of(str(path)) == status
    err = capsys.readouterr().err
    assert err.startswith(says.format(path=path)) and bool(err) == bool(says)


def test_the_command_line():
    own = str(Path(__file__))
    given_to = ["-n", "30", "--log", "/tmp/log", "cluster=hostfile", "cluster.hosts=h", own, "-n", "3", "cluster=x"]
    settings_of = ["cluster=hostfile", "cluster.hosts=h"]
    assert run.parsed(given_to) == (30, Path("/tmp/log"), settings_of, own, ["-n", "3", "cluster=x"])


@pytest.mark.parametrize(
    ("given_to", "says"),
    [
        ([], "the following arguments are required: -n"),
        (["-n", "0", "x.py"], "-n=0: must be a whole number, at least 1"),
        (["-n", "many", "x.py"], "-n=many: must be a whole number"),
        (["-n", "2"], "no script is given; usage: python -m erasurehead_jax.run"),
        (["-n", "2", "nowhere.py"], "nowhere.py: no such file"),
        (["-n", "2", "cluster.hosts=h"], "no script is given"),
        (["-n", "2", "--fast", "x.py"], "unrecognized arguments: --fast"),
        (["-n", "2", "--log", "/nowhere/log", __file__], "--log=/nowhere/log: must be a file in a folder that exists"),
    ],
)
def test_a_wrong_command_line_is_one_line(given_to: list[str], says: str):
    with pytest.raises(eh.ConfigError, match=says) as refused:
        run.parsed(given_to)
    assert "\n" not in str(refused.value)


@pytest.mark.mpi
def test_workers_that_had_nothing_to_do_are_mentioned(tmp_path: Path):
    (tmp_path / "mine.py").write_text("print('done')")
    done = execute([sys.executable, "-m", "erasurehead_jax.run", "-n", "2", "mine.py"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr == "warning: mine.py has opened no coded_gradient; its workers had nothing to do\n"


def test_the_command_refuses_in_one_line(tmp_path: Path):
    (tmp_path / "mine.py").write_text("")
    line = [sys.executable, "-m", "erasurehead_jax.run", "-n", "2"]
    done = execute([*line, "cluster.on_los=stop", "mine.py"], tmp_path)
    assert (done.returncode, done.stdout) == (Status.BAD_INPUT, "")
    assert done.stderr == "error: cluster.on_los=stop: unknown setting; did you mean on_loss?\n"
