"""Training from Python: the same as the command, with objects of a script's own; callbacks and early stopping."""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest
import yaml
from harness import SMALL, execute, train as run_command, train_many

import erasurehead_jax as eh
from erasurehead_jax.cluster.parcel import PARCEL, parcel, unpack
from erasurehead_jax.data import synthetic
from erasurehead_jax.optimizers import gd
from erasurehead_jax.rundir.callbacks import Evaluation
from erasurehead_jax.settings.describe import described
from erasurehead_jax.training import train

DATA = synthetic(rows=1003, fields=5, categories=40)
SCHEME = eh.erasurehead(workers=4, load=2, wait_for=2)
QUICK: dict[str, Any] = {"rounds": 8, "optimizer": functools.partial(gd, step_size=2.0), "x64": True}


def plain(folder: Path, **more: Any) -> eh.Run:
    return train(DATA, eh.Logistic(), SCHEME, run_dir=folder / "run", **QUICK | more)


def test_it_is_the_command(tmp_path: Path):
    run = plain(tmp_path, delay=eh.Exponential(0.01))
    delays = ("delay=exponential", "delay.mean_s=0.01", "x64=true")
    (tmp_path / "command").mkdir()
    done = run_command(tmp_path / "command", *SMALL, *delays, "backend=simulate")
    assert done.status == 0, done.err
    other = eh.load(done.run_dir)
    np.testing.assert_array_equal(run.history.drop(columns="last_host"), other.history.drop(columns="last_host"))
    np.testing.assert_array_equal(run.x, other.x)
    assert run.summary["scheme"] == "erasurehead" and run.config["delay"]["mean_s"] == 0.01


@pytest.mark.mpi
def test_ranks_get_what_a_script_defines(tmp_path: Path):
    class Mine(eh.Logistic):
        """Nobody can import this class."""

    exact = eh.egc(workers=4, load=2)
    common: dict[str, Any] = QUICK | {"delay": eh.Exponential(0.001), "evaluate_every": 4}
    runs = [
        train(DATA, Mine(), exact, backend=backend, run_dir=tmp_path / backend, **common)
        for backend in ("simulate", "mpi")
    ]
    simulated, real = (run.history["train_loss"] for run in runs)
    np.testing.assert_allclose(real, simulated, rtol=1e-12)
    assert np.isfinite(real.to_numpy(float)).sum() == 2
    assert not (runs[1].folder / PARCEL).exists()


def test_a_callback_sees_the_model_and_ends_the_run(tmp_path: Path):
    seen: list[Evaluation] = []

    def second(evaluation: Evaluation) -> bool:
        seen.append(evaluation)
        return len(seen) == 2

    run = plain(tmp_path, evaluate_every=3, callbacks=[second])
    assert [[row["round"] for row in each.rows] for each in seen] == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(seen[-1].params, run.x)
    assert run.history["test_auc"].iloc[-1] == seen[-1].last["test_auc"]
    assert (run.summary["stopped"], run.summary["interrupted"], run.summary["rounds"]) == ("callback", False, 6)


def test_early_stopping_from_the_command_line(tmp_path: Path):
    own = (*SMALL, "backend=simulate", "evaluate_every=1", "rounds=30")
    endings = {
        "target": ("target=0.6", "stop_at_target=true"),
        "patience": ("patience=2", "optimizer.step_size=1e-9", "init=normal", "l2=0"),
    }
    for reason, settings in endings.items():
        (tmp_path / reason).mkdir()
        done = run_command(tmp_path / reason, *own, *settings)
        assert done.status == 0, done.err
        assert done.summary["stopped"] == reason and len(done.history) < 30
        values = done.history["test_auc"]
        if reason == "target":
            *before, last = values.tolist()
            assert last >= 0.6 * (1 - 1e-4) and max(before, default=0.0) < 0.6
        else:
            assert len(values) - 1 - values.to_numpy().argmax() == 2
        again = run_command(tmp_path / reason, *own, *settings, "resume=auto")
        assert again.status == 0 and "already complete" in again.out


def test_refusals_of_the_command(tmp_path: Path):
    cases = {
        "patience=3": "patience=3: needs evaluations while the run goes on; set evaluate_every=10",
        "stop_at_target=true": "stop_at_target=true: needs a target",
        "callbacks=3": "callbacks=3: must be a list of groups with a _target_",
        "callbacks=[{_target_: no.such.thing}]": "callbacks.0._target_=no.such.thing: there is no module 'no'",
    }
    runs = [(tmp_path, [*SMALL, override]) for override in cases]
    for (override, says), done in zip(cases.items(), train_many(runs), strict=True):
        assert done.status == 2 and says in done.err, (override, done.err)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # W&B leaves a file open
def test_wandb_hears_of_a_run_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from erasurehead_jax.tracking import Wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    known = []

    def look(evaluation: Evaluation) -> None:
        path = tmp_path / "run" / "wandb" / "reported.json"
        known.append((len(evaluation.rows), json.loads(path.read_text())["rounds"] if path.exists() else 0))

    plain(tmp_path, evaluate_every=2, callbacks=[look], tracking=Wandb())
    assert known == [(2, 0), (2, 2), (2, 4), (2, 6)]
    assert json.loads((tmp_path / "run" / "wandb" / "reported.json").read_text())["rounds"] == 8


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"batch": 300}, eh.ConfigError, "batch=300: must be at most 200"),
        ({"rnds": 3}, eh.ConfigError, "rnds=3: unknown setting; did you mean rounds?"),
        ({"late": "never"}, eh.ConfigError, "late=never: must be one of"),
        ({"cluster": {"los_s": 3}}, eh.ConfigError, "cluster.los_s=3: unknown setting; did you mean lost_s?"),
        ({"callbacks": [print]}, eh.ConfigError, "callbacks: needs evaluations"),
        ({"optimizer": optax.sgd(1e300)}, eh.Diverged, "not finite.*has the rounds before"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, more: dict[str, Any], error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        plain(tmp_path, **more)
    assert error is eh.Diverged or not (tmp_path / "run").exists()


def test_blocks_that_nobody_holds_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    held = np.zeros((4, 4))
    held[0] = 1
    scheme = eh.Scheme(eh.Custom(held), eh.Decodable(), eh.ByCode())
    train(DATA, eh.Logistic(), scheme, run_dir=tmp_path / "run", **QUICK)
    assert "warning: Custom: no worker holds blocks 1, 2, 3, whose rows are never used\n" in capsys.readouterr().err


def test_an_optimizer_of_optax_equals_ours(tmp_path: Path):
    ours, theirs = (
        plain(tmp_path / str(i), optimizer=each).history["train_loss"]
        for i, each in enumerate((functools.partial(gd, step_size=2.0), optax.sgd(2.0)))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)


def test_a_parcel_is_private_mapped_and_gone_afterwards(tmp_path: Path):
    sent = {"a": np.arange(5.0), "f": lambda x: x + 1, "empty": np.empty((0, 3)), "text": np.array(["yes", None])}
    with parcel(tmp_path, sent):
        assert (tmp_path / PARCEL).stat().st_mode & 0o777 == 0o600
        got = unpack(tmp_path)
    np.testing.assert_array_equal(got["a"], sent["a"])
    assert not got["a"].flags.writeable and got["f"](1) == 2 and got["empty"].shape == (0, 3)
    assert got["text"].tolist() == ["yes", None] and not list(tmp_path.iterdir())


def test_what_cannot_be_sent_is_one_line(tmp_path: Path):
    with pytest.raises(eh.ConfigError, match="cannot be sent to the ranks"), parcel(tmp_path, (i for i in "ab")):
        pass
    with pytest.raises(eh.ConfigError, match="must be on a disk that all hosts share"):
        unpack(tmp_path)
    (tmp_path / "elsewhere.py").write_text("def loss(x): return x\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import elsewhere  # pyright: ignore[reportMissingImports]

        (tmp_path / "sub").mkdir()
        with parcel(tmp_path / "sub", elsewhere.loss):
            patch.undo()
            patch.delitem(__import__("sys").modules, "elsewhere")
            with pytest.raises(eh.ConfigError, match=r"No module named 'elsewhere'.*beside the script"):
                unpack(tmp_path / "sub")


def test_schemes_by_name_are_those_of_the_yamls():
    for name in ("uncoded", "egc", "erasurehead", "ignore_stragglers"):
        made = eh.named_scheme(name, workers=6, load=2, wait_for=3)
        sizes = {"uncoded": (6,), "egc": (6, 2), "erasurehead": (6, 2, 3), "ignore_stragglers": (6, 3)}[name]
        assert described(getattr(eh, name)(*sizes)) == described(made)
    with pytest.raises(eh.ConfigError, match=r"scheme=erasurehaed: unknown; did you mean erasurehead\?"):
        eh.named_scheme("erasurehaed", workers=6)


def test_the_config_of_a_run_is_plain(tmp_path: Path):
    config = yaml.safe_load((plain(tmp_path).folder / ".hydra" / "config.yaml").read_text())
    assert config["scheme"]["code"]["_target_"].endswith("FractionalRepetition")
    assert config["data"]["train"]["target"].startswith("float64 [803] ")
    assert config["optimizer"] == {"_target_": "erasurehead_jax.optimizers.gd", "_args_": [], "step_size": 2.0}


def test_objects_of_other_kinds_are_named(tmp_path: Path):
    """In a process of its own: here types are checked before."""
    script = """
import numpy as np
import erasurehead_jax as eh

X, y = np.ones((20, 2)), np.arange(20) % 2
data = eh.array_dataset(X, y)
loss, scheme = eh.Logistic(), eh.uncoded(2)
for arguments in [((X, y), loss, scheme), (data, object(), scheme), (data, loss, "egc")]:
    try:
        eh.train(*arguments)
    except eh.ConfigError as error:
        print(error)
"""
    done = execute([sys.executable, "-c", script], tmp_path)
    said = done.stdout.splitlines()
    assert [line.split(";")[0] for line in said] == [
        "dataset: is tuple",
        "objective: is object",
        "scheme: is str",
    ], done.stderr
    assert "array_dataset(X, y) makes one of arrays" in said[0] and not (tmp_path / "outputs").exists()
