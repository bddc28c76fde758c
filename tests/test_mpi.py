"""Real runs: mpirun in a subprocess, on the built-in data."""

import itertools
import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from harness import SMALL, Finished, command, execute, train
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from reference import gradient_descent

from erasurehead_jax import Logistic, collect
from erasurehead_jax.cluster.replay import replay
from erasurehead_jax.data import Dataset, synthetic
from erasurehead_jax.job import Job, build
from erasurehead_jax.optimizers import gd
from erasurehead_jax.rundir.files import history_columns
from erasurehead_jax.settings import CONFIG_DIR
from erasurehead_jax.types import Params
from erasurehead_jax.update import apply_gradient, start

pytestmark = pytest.mark.mpi
# Spaced so that the order of arrival is certain even on a busy machine; the last worker sleeps for an hour.
SPACED = ("delay._target_=harness.Fixed", "+delay.seconds=[0.0,0.4,0.8,3600]", "rounds=3")


def small_dataset() -> Dataset:
    return synthetic(rows=1003, fields=5, categories=40)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    """Runs by their overrides, each run once."""
    made: dict[tuple[str, ...], Finished] = {}

    def run(*overrides: str) -> Finished:
        if overrides not in made:
            made[overrides] = train(tmp_path_factory.mktemp("run"), *SMALL, *overrides)
            assert made[overrides].status == 0, made[overrides].err
        return made[overrides]

    return run


@pytest.mark.parametrize("scheme", ["uncoded", "egc", "egc_cyclic"])
def test_exact_schemes_are_gradient_descent(runs, scheme: str):
    expected = gradient_descent(small_dataset(), "logistic", rounds=8, step_size=2.0)
    history = runs(f"scheme={scheme}", "x64=true").history
    np.testing.assert_allclose(history["train_loss"], expected, rtol=1e-10)
    assert history["exact"].all() and (history["decode_error"] < 1e-9).all()


def test_float32(runs):
    expected = gradient_descent(small_dataset(), "logistic", rounds=8, step_size=2.0)
    np.testing.assert_allclose(runs("scheme=uncoded").history["train_loss"], expected, rtol=1e-4)


def test_dense_data_and_least_squares(runs):
    """Every worker touches every coordinate, and the objective follows the task."""
    overrides = ("data.dense=true", "data.task=regression", "objective=least_squares", "optimizer.step_size=0.1")
    run = runs("scheme=uncoded", "x64=true", *overrides, "cluster.chunk_rows=64")
    train_rows = synthetic(rows=1003, fields=5, categories=40, dense=True, task="regression").train
    X, y = np.asarray(train_rows.features.matrix), np.asarray(train_rows.target)  # pyright: ignore
    x, losses = np.zeros(X.shape[1]), []
    for _ in range(8):
        x = x - 0.1 * (2 * X.T @ (X @ x - y) / len(y) + 2 * x / len(y))
        losses.append(np.mean((y - X @ x) ** 2))
    np.testing.assert_allclose(run.history["train_loss"], losses, rtol=1e-10)
    assert list(run.history)[-1] == "test_mse"


def test_the_run_directory(runs):
    run = runs("scheme=uncoded")
    names = {path.name for path in run.run_dir.iterdir()}
    assert names == {".hydra", "history.csv", "summary.json", "arrivals.npz", "model.npz", "train.log", "checkpoint"}
    assert list(run.history) == history_columns("auc")
    assert (run.history["round"] == np.arange(8)).all()
    assert run.history.notna().all().all()
    assert run.arrival_s.shape == (8, 4) and not np.isnan(run.arrival_s).any()
    needed = (
        "scheme code workers blocks load wait_for late data features train_rows test_rows rounds seed clock_s ideal_s"
    )
    needed += " overhead eval_s startup_s cancelled lost_workers faulty_answers telemetry final versions"
    assert set(needed.split()) <= set(run.summary)
    assert run.summary["train_rows"] == 803 and run.summary["wait_for"] == 4 and run.summary["load"] == 1
    assert run.summary["final"]["train_loss"] == run.history["train_loss"].iloc[-1]
    assert run.summary["clock_s"] >= run.history["clock_s"].iloc[-1] >= run.history["round_s"].sum() - 1e-6
    config = OmegaConf.load(run.run_dir / ".hydra" / "config.yaml")
    assert config.workers == 4 and config.scheme.code.blocks == 4


def test_only_touched_coordinates_travel(runs):
    """Each of four workers sends a header of 16 bytes, and 4 bytes per coordinate that its rows touch."""
    dataset = small_dataset()
    touched = [dataset.train.take(slice(a, b)).features.touched() for a, b in _quarters(len(dataset.train))]
    expected = sum(16 + 4 * len(t) for t in touched if t is not None)
    assert (runs("scheme=uncoded").history["received_bytes"] == expected).all()
    assert expected < 4 * (16 + 4 * dataset.dim)


def test_a_message_a_block_has_only_what_its_block_touches(runs):
    dataset = small_dataset()
    blocks = [dataset.train.take(slice(a, b)).features.touched() for a, b in _parts(len(dataset.train), 8)]
    expected = sum(16 + 4 * len(t) for t in blocks if t is not None)
    run = runs("scheme=uncoded", "blocks=8", "messages=per_block")
    assert (run.history["received_bytes"] == expected).all()


def _quarters(rows: int) -> list[tuple[int, int]]:
    return _parts(rows, 4)


def _parts(rows: int, count: int) -> list[tuple[int, int]]:
    return list(itertools.pairwise(i * rows // count for i in range(count + 1)))


@pytest.mark.parametrize(
    ("scheme", "late"),
    [
        ("egc", "cancel"),
        ("erasurehead", "skip"),
        ("ignore_stragglers", "cancel"),
        pytest.param("egc", "skip", marks=pytest.mark.soak),
        pytest.param("erasurehead", "cancel", marks=pytest.mark.soak),
        pytest.param("ignore_stragglers", "skip", marks=pytest.mark.soak),
    ],
)
def test_the_same_workers_as_in_the_simulation(runs, scheme: str, late: str):
    """Delays, answers and models are equal; the worker that sleeps for an hour delays neither a round nor the end."""
    run = runs(f"scheme={scheme}", f"late={late}", "x64=true", *SPACED)
    job = _job(f"scheme={scheme}", *SPACED)
    arrival_s = job.delays()(0)[job.scheme.code.owner]
    got, _ = collect(job.scheme, arrival_s)
    np.testing.assert_array_equal(~np.isnan(run.arrival_s), np.tile(got, (3, 1)))
    assert (run.arrival_s >= arrival_s)[:, got].all()
    np.testing.assert_allclose(np.load(run.run_dir / "model.npz")["x"], _simulated(job, np.asarray(got)), atol=1e-12)


def _job(*overrides: str) -> Job:
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = OmegaConf.to_container(compose("train", [*SMALL, *overrides, "x64=true"]), resolve=True)
    return build(config)  # pyright: ignore[reportArgumentType]


def _simulated(job: Job, got: np.ndarray) -> Params:
    rows, code = job.problem.dataset.train, job.scheme.code
    bounds = np.arange(code.blocks + 1) * len(rows) // code.blocks
    w = np.repeat(code.G @ job.scheme.decode(code, got), np.diff(bounds))
    state = start(gd(2.0), jax.numpy.zeros(job.problem.dataset.dim))
    for _ in range(job.settings.rounds):
        decoded = Logistic().gradient(state.x, rows, w)
        state, _ = apply_gradient(gd(2.0), job.problem.l2, len(rows), state, decoded)
    return state.x


def test_wait_drains_on_the_clock(runs):
    """With late=wait a round takes as long as its slowest worker, which the published code's clock would not show."""
    sleeps = ("delay._target_=harness.Fixed", "+delay.seconds=[0.0,0.0,0.0,0.5]", "rounds=4")
    summary = runs("scheme=erasurehead", "late=wait", *sleeps).summary
    assert summary["clock_s"] >= 4 * 0.5
    assert summary["recorded_s"] <= summary["clock_s"] - 1.0
    assert summary["late_answers"] + summary["cancelled"] > 0


def test_skip_finishes_late_work(runs):
    """A late worker finishes its answer, which is dropped, and then takes the newest model."""
    sleeps = ("delay._target_=harness.Fixed", "+delay.seconds=[0.0,0.3,0.0,0.3]", "rounds=40")
    summary = runs("scheme=ignore_stragglers", "late=skip", *sleeps).summary
    assert summary["rounds"] == 40
    assert summary["late_answers"] + summary["cancelled"] > 40


def test_evaluation_on_the_way_is_the_same_and_off_the_clock(runs):
    every = runs("scheme=uncoded", "evaluate_every=3")
    expected = runs("scheme=uncoded").history
    evaluated = [2, 5, 7]
    np.testing.assert_allclose(every.history["train_loss"][evaluated], expected["train_loss"][evaluated], rtol=1e-6)
    assert every.history["train_loss"].notna().sum() == len(evaluated)
    assert every.summary["eval_s"] > 0


def test_an_objective_need_not_have_as_many_parameters_as_columns(tmp_path: Path):
    own = ("objective._target_=user_code.TwoNumbers", "~objective.start", "data.dense=true", "optimizer.step_size=0.1")
    common = (*SMALL, *own, "scheme=egc", "x64=true", "evaluate_every=4")
    models = []
    for backend in ("mpi", "simulate"):
        (tmp_path / backend).mkdir()
        run = train(tmp_path / backend, *common, f"backend={backend}")
        assert run.status == 0, run.err
        models.append(np.load(run.run_dir / "model.npz")["x"])
    assert models[0].shape == (2,) and (models[0] != 0).all()
    np.testing.assert_allclose(models[0], models[1], rtol=1e-12)


def test_recorded_events_replay_to_the_same_decisions(runs):
    run = runs("scheme=erasurehead", "cluster.record_events=true", "delay=exponential", "delay.mean_s=0.01")
    replayed = list(replay(run.run_dir))
    assert [each.now for each in replayed] == [each.recorded for each in replayed]
    updates = [each for each in replayed if each.now.startswith("update")]
    used = {each.round: each.now for each in updates}
    assert used == {
        t: f"update with messages {np.flatnonzero(~np.isnan(row)).tolist()}" for t, row in enumerate(run.arrival_s)
    }


def test_a_deadline_needs_no_arrival(tmp_path: Path):
    """If no worker answers in time, the step at the deadline uses the regulariser alone."""
    stop = ("scheme.stop._target_=erasurehead_jax.stopping.Deadline", "+scheme.stop.seconds=0.05", "~scheme.stop.rules")
    run = train(tmp_path, *SMALL, *stop, "delay._target_=harness.Fixed", "+delay.seconds=[9,9,9,9]", "rounds=3")
    assert run.status == 0, run.err
    assert set(run.history["waited"]) == {0} and set(run.history["decode_error"]) == {4.0}


def test_a_rank_that_raises_ends_the_job_and_is_shown_once(tmp_path: Path):
    data = ("data._target_=harness.broken_on_rank", "+data.rank=2")
    run = train(tmp_path, *SMALL, *data)
    assert run.status == 1
    assert run.err.count("RuntimeError: the disk of this rank is on fire") == 1
    assert "rank 2 failed" in run.err
    assert "Traceback" in run.err


def test_any_optax_transformation(tmp_path: Path):
    optimizer = (
        "optimizer._target_=optax.adam",
        "~optimizer.step_size",
        "~optimizer.decay",
        "+optimizer.learning_rate=0.1",
    )
    small = (override for override in SMALL if not override.startswith("optimizer"))
    run = train(tmp_path, *small, *optimizer, "init=normal", "delay=shifted_exponential", "delay.shift_s=0.01")
    assert run.status == 0, run.err
    assert run.history["train_loss"].iloc[-1] < run.history["train_loss"].iloc[0]


def test_multirun(tmp_path: Path):
    line = command("-m", *SMALL, "rounds=2", "scheme=uncoded,egc", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = execute(line, tmp_path)
    assert done.returncode == 0, done.stderr
    summaries = sorted((tmp_path / "sweep").glob("*/summary.json"))
    assert [json.loads(path.read_text())["scheme"] for path in summaries] == ["uncoded", "egc"]
    report = execute([command()[0], "-m", "erasurehead_jax.report", tmp_path / "sweep"], tmp_path)
    assert report.returncode == 0, report.stderr
    table = pd.read_csv(tmp_path / "sweep" / "report" / "synthetic-nodelay.csv")
    assert list(table["scheme"]) == ["uncoded", "egc c=2"]
    assert table["last_x"].iloc[0] == 1
