"""The simulator: its rounds are those of real ranks, and do not depend on which runs are simulated together."""

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from harness import LIMIT_S, SMALL, SMALL_DATA, train
from hypothesis import given, settings, strategies as st
from jax.tree_util import Partial
from jaxtyping import Array, Float
from uneven import Uneven

from erasurehead_jax import (
    AbstractDelay,
    AbstractObjective,
    AnyOf,
    ByCode,
    ByLeastSquares,
    ConfigError,
    Count,
    CyclicRepetition,
    Dataset,
    Decodable,
    DecodeError,
    Exponential,
    FractionalRepetition,
    Huber,
    Logistic,
    Scheme,
    ShiftedExponential,
    Uncoded,
)
from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.data import Rows, block_bounds, synthetic
from erasurehead_jax.objectives import METRICS, Metric
from erasurehead_jax.optimizers import agd, gd, nesterov
from erasurehead_jax.scheme import collect
from erasurehead_jax.simulation.engine import Simulation, sharing
from erasurehead_jax.simulation.rounds import Point, play, stack
from erasurehead_jax.studies import montecarlo
from erasurehead_jax.studies.bounds import STEP_SIZES, simulate_convergence
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.montecarlo import time_grid, train_grid
from erasurehead_jax.types import Key, Late, Number
from erasurehead_jax.update import apply_gradient, iterate, start

DATA = synthetic(rows=503, fields=4, categories=12)
ERASUREHEAD = Scheme(FractionalRepetition(6, 6, 2), AnyOf((Decodable(), Count(3))), ByCode())
IGNORE = Scheme(Uncoded(6, 6), Count(3), ByCode("covered"))
CYCLIC = Scheme(CyclicRepetition(6, 6, 3), Decodable(), ByCode())


def point(scheme: Scheme = ERASUREHEAD, late: str = "cancel", step_size: float = 0.5, l2: float = 1e-3) -> Point:
    return Point(scheme, Exponential(0.5), late, optimizer=Partial(gd, step_size=step_size), l2=l2)


def simulate(points: list[Point], which: list[int], seeds: list[int], rounds: int = 8, devices=()):
    """The iterates (d, runs) and all rounds (rounds, runs, ...)."""
    simulation = Simulation(DATA, Logistic(), points, devices)
    batch, runs = simulation.begin(which, seeds)
    runs, played, norms = simulation.advance(batch, runs, rounds, norms=True)
    return np.asarray(runs.x), jax.tree.map(np.asarray, played), np.asarray(norms)


# --- The same as MPI


@pytest.mark.mpi
@pytest.mark.parametrize("late", ["cancel", "skip"])
@pytest.mark.slow
def test_real_ranks_take_the_same_workers_and_end_at_the_same_model(late: str, tmp_path: Path):
    """Spaced delays make the order of arrival certain, and skipped work ends well apart from the next round."""
    delay = "delay._target_=harness.Spaced" if late == "cancel" else "delay._target_=harness.Fixed"
    more = () if late == "cancel" else ("+delay.seconds=[0.1,0.16,0.35,0.83]",)
    common = (*SMALL, "rounds=10", "x64=true", "optimizer=nesterov", f"late={late}", delay, *more)
    (tmp_path / "mpi").mkdir()
    (tmp_path / "simulated").mkdir()
    real = train(tmp_path / "mpi", *common)
    simulated = train(tmp_path / "simulated", *common, "backend=simulate")
    assert (real.status, simulated.status) == (0, 0), real.err + simulated.err
    np.testing.assert_array_equal(np.isnan(real.arrival_s), np.isnan(simulated.arrival_s))
    assert (~np.isnan(simulated.arrival_s)).any(0).sum() > 2 or late == "skip"
    models = [np.load(run.run_dir / "model.npz")["x"] for run in (real, simulated)]
    np.testing.assert_allclose(models[0], models[1], rtol=0, atol=1e-12)
    same = ["round", "waited", "exact", "decode_error", "grad_norm", "train_loss", "test_loss", "test_auc"]
    np.testing.assert_allclose(real.history[same], simulated.history[same], atol=1e-9)
    assert list(real.history) == list(simulated.history)
    assert set(simulated.summary) == set(real.summary)
    assert simulated.summary["late_answers"] in (0, None)
    assert {path.name for path in simulated.run_dir.iterdir()} == {
        path.name for path in real.run_dir.iterdir() if path.name not in ("train.log", "checkpoint")
    }
    if late == "cancel":
        assert simulated.summary["overhead"] == pytest.approx(1.0)
        np.testing.assert_allclose(simulated.summary["clock_s"], real.summary["ideal_s"], rtol=1e-6)


@pytest.mark.mpi
@pytest.mark.parametrize("dense", ["false", "true"])
def test_empty_messages_and_workers_without_blocks_train_on_both_backends(dense: str, tmp_path: Path):
    """One-hot rows touch some coordinates, dense rows touch all, and a worker without rows touches none."""
    code = "+scheme.code={_target_: uneven.Uneven}"
    scheme = ("scheme=uncoded", "~scheme.code", code, "workers=3", "blocks=4", "wait_for=3")
    more = ("load=2", "x64=true", "rounds=3", "tracking=none", f"data.dense={dense}", "optimizer.step_size=0.1")
    models = []
    for backend in ("mpi", "simulate"):
        (tmp_path / backend).mkdir()
        run = train(tmp_path / backend, *SMALL_DATA, *scheme, *more, f"backend={backend}")
        assert run.status == 0, run.err
        assert run.history["exact"].tolist() == [True] * 3 and np.isfinite(run.arrival_s[:, [0, 1, 3]]).all()
        models.append(np.load(run.run_dir / "model.npz")["x"])
    assert np.abs(models[0]).max() > 0
    np.testing.assert_allclose(*models, rtol=0, atol=1e-12)


def test_a_simulated_run_evaluates_on_the_way_and_takes_a_late_policy_of_its_own(tmp_path: Path):
    run = train(tmp_path, *SMALL, "backend=simulate", "late=queue", "evaluate_every=3", "delay=exponential")
    assert run.status == 0, run.err
    assert run.history["train_loss"].notna().tolist() == [False, False, True, False, False, True, False, True]
    assert run.summary["backend"] == "simulate" and run.summary["cancelled"] is None
    assert "mpi" not in run.summary["versions"]


# --- One round


UNEVEN = Scheme(Uneven(), Count(2), ByCode())


_collects: dict[int, Callable] = {}


def jitted_collect(scheme: Scheme) -> Callable:
    """`collect` for this scheme, which must exist until the end; compiled once."""
    return _collects.setdefault(id(scheme), jax.jit(functools.partial(collect, scheme)))


def rounds_by_hand(
    scheme: Scheme, late: str, delay_s: np.ndarray, overhead_s: float, compute_s: float = 0.0
) -> Iterator[tuple]:
    """Simulates workers one event at a time on an absolute clock: when each is free, and which models are waiting."""
    code = scheme.code
    now_s, free_s = 0.0, np.zeros(scheme.code.workers)
    for delay in delay_s:
        begins_s = np.maximum(free_s, now_s)
        if late in ("cancel", "wait"):
            begins_s[:] = now_s
        done_s = begins_s + delay  # a worker sleeps, and then computes one message after another
        arrival_s = np.zeros(code.messages)
        for message, worker in enumerate(code.owner):
            done_s[worker] += compute_s * np.count_nonzero(code.G[:, message]) / code.blocks
            arrival_s[message] = done_s[worker] - now_s
        got, round_s = jitted_collect(scheme)(arrival_s)
        next_s = now_s + float(round_s) + overhead_s
        if late == "wait":
            next_s = max(now_s + float(round_s), done_s.max()) + overhead_s
        # a worker that is still at older work when the next model comes never looks at this one, unless it queues
        takes_it = (begins_s < next_s) | (begins_s == now_s) | (late == "queue")
        yield np.asarray(got), float(round_s), next_s - now_s
        free_s = np.where(takes_it, done_s, free_s)
        now_s = next_s


class Listed(AbstractDelay):
    """Delays given as a table of seconds (rounds, workers)."""

    seconds: Float[Array, "rounds k"]

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return self.seconds[t]


@functools.cache
def jitted_rounds(name: str, late: str):
    """A function from seconds (rounds, k) and overhead to all rounds, starting with idle workers."""

    scheme = SCHEMES[name]

    @jax.jit
    def rounds(delay_s, overhead_s, compute_s):
        here = Point(scheme, Listed(delay_s), late, overhead_s=overhead_s, compute_s=compute_s)
        step = lambda backlog_s, t: play(here, backlog_s, jax.random.key(0), t)
        return jax.lax.scan(step, jnp.zeros(scheme.code.workers), jnp.arange(len(delay_s)))[1]

    return rounds


SCHEMES = {"erasurehead": ERASUREHEAD, "ignore": IGNORE, "cyclic": CYCLIC, "uneven": UNEVEN}


@pytest.mark.parametrize("late", tuple(Late))
@given(st.integers(0, 2**32), st.sampled_from(list(SCHEMES)), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 3.0]))
@settings(max_examples=25)
def test_rounds_are_those_of_workers_on_a_clock(late: str, seed: int, name: str, overhead_s: float, compute_s: float):
    scheme = SCHEMES[name]
    delay_s = np.random.default_rng(seed).exponential(size=(12, scheme.code.workers))
    played = jitted_rounds(name, late)(jnp.asarray(delay_s), overhead_s, compute_s)
    for t, (got, round_s, wall_s) in enumerate(rounds_by_hand(scheme, late, delay_s, overhead_s, compute_s)):
        np.testing.assert_array_equal(played.got[t], got)
        np.testing.assert_allclose((played.round_s[t], played.wall_s[t]), (round_s, wall_s), rtol=1e-9)
        np.testing.assert_allclose(played.w[t], scheme.code.G @ scheme.decode(scheme.code, got), atol=1e-9)


def test_messages_of_a_worker_follow_one_another():
    """All four blocks take one second, so each takes a quarter; the delay comes once, before the first message."""
    here = Point(UNEVEN, Listed(jnp.array([[0.1, 0.2, 0.3]])), "cancel", compute_s=1.0)
    _, played = play(here, jnp.zeros(3), jax.random.key(0), 0)
    np.testing.assert_allclose(played.arrival_s, [0.35, 0.6, 0.6, 0.7, 0.3], rtol=1e-12)
    np.testing.assert_array_equal(
        played.got, [True, True, True, False, True]
    )  # the worker without blocks answers at once


# --- Precision

EXACT = {
    "uncoded": Scheme(Uncoded(6, 6), Decodable(), ByCode()),
    "egc": Scheme(FractionalRepetition(6, 6, 2), Decodable(), ByCode()),
    "cyclic": CYCLIC,
    "cyclic, wide": Scheme(CyclicRepetition(30, 30, 3), Decodable(), ByCode()),
    "cyclic, within an error of zero": Scheme(CyclicRepetition(6, 6, 3), DecodeError(0.0), ByCode()),
    "least squares": Scheme(FractionalRepetition(6, 6, 2), Decodable(), ByLeastSquares()),
}


@pytest.mark.parametrize("scheme", EXACT.values(), ids=EXACT)
def test_exact_is_exact_in_every_precision(scheme: Scheme, precision: np.dtype):
    table = time_grid(labelled([point(scheme)]), range(2), 20).table
    assert table["exact_fraction"].tolist() == [1.0]
    assert (table["mean_decode_error"].to_numpy() < 1e-15).all()
    x, played, _ = simulate([point(scheme)], [0], [0], rounds=3)
    assert x.dtype == precision
    assert (played.decode_error < ROUNDING).all()
    assert np.isfinite(x).all()


@pytest.mark.parametrize("scheme", [ERASUREHEAD, IGNORE, CYCLIC])
def test_rounds_do_not_depend_on_the_precision(scheme: Scheme):
    played, models = [], []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            x, rounds, _ = simulate([point(scheme), point(scheme, step_size=0.1)], [0, 1], [3, 4])
        played.append(rounds)
        models.append(x)
    for low, high in zip(*played, strict=True):
        np.testing.assert_array_equal(low, high)
    np.testing.assert_allclose(*models, rtol=1e-4, atol=1e-5)


# --- No configuration hangs


def test_decoders_that_call_lapack_do_not_hang_whatever_the_devices(tmp_path: Path):
    """A batched LAPACK call waits for threads of XLA's pool, and for ever if none is free."""
    code = """
import jax, os
cores = len(os.sched_getaffinity(0))
jax.config.update("jax_num_cpu_devices", max(cores, 2))
from erasurehead_jax import ByCode, CyclicRepetition, Decodable, Exponential, Scheme
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.montecarlo import time_grid
point = Point(Scheme(CyclicRepetition(30, 30, 3), Decodable(), ByCode()), Exponential(0.5), "cancel")
found = time_grid([GridPoint({"scheme": "cyclic"}, point)], range(8 * cores), 20, devices=jax.devices())
assert (found.table["exact_fraction"] == 1).all()
"""
    env = {name: value for name, value in os.environ.items() if name != "NPROC"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, timeout=LIMIT_S, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("nproc", "shared"), [("1", 1), ("2", 1), ("3", 2), ("9", 2)])
def test_one_thread_is_left_to_do_the_work(nproc: str, shared: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPROC", nproc)
    assert sharing(jax.devices()) == jax.devices()[:shared]


# --- Late policies


def test_idle_policies_leave_no_backlog_and_queueing_leaves_most():
    key = jax.random.key(3)
    backlogs = {}
    for late in Late:
        step = lambda t, backlog_s, late=late: play(point(IGNORE, late), backlog_s, key, t)[0]
        backlogs[late] = float(jax.lax.fori_loop(0, 30, step, jnp.zeros(6)).sum())
    assert backlogs["cancel"] == backlogs["wait"] == 0 < backlogs["skip"] < backlogs["queue"]


def test_compute_grows_with_the_load_and_overhead_with_nothing():
    key = jax.random.key(0)
    for scheme in (ERASUREHEAD, IGNORE):
        plain = Point(scheme, Exponential(0.5), "cancel")
        costly = Point(scheme, Exponential(0.5), "cancel", compute_s=6.0, overhead_s=0.25)
        _, was = play(plain, jnp.zeros(6), key, 0)
        _, now = play(costly, jnp.zeros(6), key, 0)
        np.testing.assert_array_equal(was.got, now.got)
        np.testing.assert_allclose(now.round_s - was.round_s, scheme.code.load)
        np.testing.assert_allclose(now.wall_s - now.round_s, 0.25)


# Mean seconds until the next round, from CODES.md, by (c, r) and late policy
ANCHORS = {
    (1, 27): {"cancel": 1.080, "skip": 1.184, "queue": 1.208, "wait": 2.0},
    (3, 30): {"cancel": 0.492, "skip": 0.680, "queue": 0.773, "wait": 2.0},
    (3, 11): {"cancel": 0.224, "skip": 0.443, "queue": 0.610, "wait": 2.0},
}


@pytest.mark.parametrize(("c", "r"), ANCHORS)
@pytest.mark.slow
def test_round_times_of_every_late_policy_over_20_000_rounds(c: int, r: int):
    code = FractionalRepetition(30, 30, c)
    stop = Decodable() if r == 30 else AnyOf((Decodable(), Count(r)))
    points = [
        GridPoint({"late": late}, Point(Scheme(code, stop, ByCode()), Exponential(0.5), late)) for late in tuple(Late)
    ]
    table = time_grid(points, seeds=range(4), rounds=5_000).table.set_index("late")
    for late, known_s in ANCHORS[c, r].items():
        if late == "wait":  # all of 30: the mean and the deviation of the maximum are known
            error_s = 0.5 * np.sqrt((1 / np.arange(1, 31) ** 2).sum() / 20_000)
            assert abs(table.loc[late, "mean_wall_s"] - 1.9975) < 4 * error_s
        else:
            # the known values are as noisy as ours: they are from 20,000 rounds, rounded to a millisecond
            error_s = np.hypot(np.sqrt(2) * single_round_error(points, late), 0.0005)
            assert abs(table.loc[late, "mean_round_s"] - known_s) < 4 * error_s


def single_round_error(points: list[GridPoint], late: str) -> float:
    """Standard error of a mean over 20,000 rounds, estimated from batches of one long run."""
    chosen = [at for at in points if at.labels["late"] == late]
    return float(time_grid(chosen, seeds=[99], rounds=20_000).table["sem_round_s"].iloc[0])


# --- Side by side


def test_iterates_are_those_of_one_block_after_another():
    """Gradients coded message by message and decoded, as on the master, against a single weighted pass."""
    x, played, norms = simulate([point()], [0], [5], rounds=4)
    code, bounds, N = ERASUREHEAD.code, block_bounds(len(DATA.train), 6), len(DATA.train)
    blocks = [DATA.train.take(slice(*bounds[i : i + 2])) for i in range(6)]
    optimizer = gd(0.5)
    state = start(optimizer, jnp.zeros(DATA.dim))
    for t, got in enumerate(played.got[:, 0]):
        gradients = jnp.stack([Logistic().gradient(state.x, rows, jnp.ones(len(rows))) for rows in blocks])
        messages = code.G.T @ gradients
        decoded = ERASUREHEAD.decode(code, got) @ messages
        state, norm = apply_gradient(optimizer, 1e-3, N, state, decoded)
        np.testing.assert_allclose(norms[t, 0], norm, rtol=1e-12)
    np.testing.assert_allclose(x[:, 0], iterate(state), rtol=0, atol=1e-14)


@pytest.mark.parametrize("late", ["cancel", "skip"])
def test_a_run_is_the_same_alone_and_among_others(late: str):
    points = [point(late=late), point(late=late, step_size=0.1, l2=0.0), point(late=late, step_size=0.3)]
    which, seeds = [0, 1, 2, 0, 1, 2], [0, 1, 2, 7, 7, 7]
    x, played, _ = simulate(points, which, seeds)
    shared = simulate(points, which, seeds, devices=jax.devices())
    np.testing.assert_array_equal(shared[1].got, played.got)
    np.testing.assert_allclose(shared[0], x, rtol=0, atol=1e-12)
    for i in (1, 5):
        alone = simulate([points[which[i]]], [0], [seeds[i]])
        np.testing.assert_array_equal(alone[1].got[:, 0], played.got[:, i])
        np.testing.assert_array_equal(alone[1].round_s[:, 0], played.round_s[:, i])
        np.testing.assert_allclose(alone[0][:, 0], x[:, i], rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", [agd, nesterov])
def test_every_optimizer_runs_side_by_side(optimizer):
    points = [
        Point(ERASUREHEAD, Exponential(0.5), "cancel", optimizer=Partial(optimizer, step_size=step))
        for step in (0.1, 0.5)
    ]
    x, *_ = simulate(points, [0, 1], [3, 3])
    for i in range(2):
        alone, *_ = simulate([points[i]], [0], [3])
        np.testing.assert_allclose(alone[:, 0], x[:, i], rtol=0, atol=1e-12)


def labelled(points: list[Point]) -> list[GridPoint]:
    return [GridPoint({"scheme": str(i)}, each) for i, each in enumerate(points)]


def test_no_result_depends_on_the_chunk():
    points = labelled([point(), point(step_size=0.1)])
    runs = [
        train_grid(DATA, Logistic(), points, range(5), rounds=6, every=3, chunk=chunk, devices=devices)
        for chunk, devices in ((1, ()), (4, jax.devices()))
    ]
    assert runs[0].rounds.tolist() == [2, 5]
    for other in runs[1:]:
        np.testing.assert_array_equal(other.clock_s, runs[0].clock_s)
        for name, values in runs[0].metrics.items():
            np.testing.assert_allclose(other.metrics[name], values, rtol=1e-12)
    tables = [time_grid(points, range(5), 50, chunk, devices) for chunk, devices in ((1, ()), (4, jax.devices()))]
    for name, values in tables[0].table.items():
        np.testing.assert_array_equal(tables[1].table[name], values)


class Wide(Logistic):
    """More parameters than columns."""

    def init(self, key: Key, dataset: Dataset) -> Float[Array, " d"]:
        return jnp.zeros(1000 * dataset.dim)


def test_runs_at_a_time_follow_from_the_parameters_not_the_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(montecarlo, "_free_bytes", lambda devices: 1e8)
    few, many = (
        montecarlo.runs_that_fit(DATA, objective, point(), jax.devices()[:1]) for objective in (Wide(), Logistic())
    )
    assert few <= montecarlo.SHARE * 1e8 / (3 * 1000 * DATA.dim * 8) < many  # a model, a gradient, a decoded gradient


def test_seeds_meet_the_same_delays_at_every_point():
    found = train_grid(DATA, Logistic(), labelled([point(), point(step_size=0.1)]), range(4), rounds=4, every=4)
    np.testing.assert_array_equal(found.clock_s[0], found.clock_s[1])
    assert len(np.unique(found.clock_s)) == 4


def test_a_second_call_compiles_nothing():
    simulation = Simulation(DATA, Logistic(), [point()])
    compiled = []
    batch, runs = simulation.begin([0, 0], [0, 1])
    runs, *_ = simulation.advance(batch, runs, 3)
    jax.block_until_ready(runs)
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    try:
        batch, runs = simulation.begin([0, 0], [2, 3])
        runs, *_ = simulation.advance(batch, runs, 3)
        simulation.advance(batch, runs, 3)
        assert not [event for event in compiled if "backend_compile" in event]
        batch, runs = simulation.begin([0, 0, 0], [2, 3, 4])
        simulation.advance(batch, runs, 3)
        assert [
            event for event in compiled if "backend_compile" in event
        ]  # the listener records the compilation for a new size
    finally:
        jax.monitoring.clear_event_listeners()


def test_simulations_share_what_was_compiled_only_where_they_are_equal():
    """A simulation's result does not depend on what was compiled before it."""

    def model(delta: float, point: Point) -> np.ndarray:
        simulation = Simulation(DATA, Huber(delta=delta), [point])
        batch, runs = simulation.begin([0], [0])
        return np.asarray(simulation.advance(batch, runs, 5)[0].x)

    array = dataclasses.replace(point(), optimizer=Partial(gd, step_size=jnp.asarray(0.25)))
    cases = [(0.1, point()), (0.2, point()), (0.1, point(step_size=0.25)), (0.1, point(IGNORE)), (0.1, array)]
    models = [model(*case) for case in cases]
    jax.clear_caches()
    backwards = [model(*case) for case in reversed(cases)]
    np.testing.assert_array_equal(models, backwards[::-1])
    np.testing.assert_allclose(models[2], models[4], rtol=1e-14)
    assert len({each.tobytes() for each in models[:4]}) == 4


class Quartic(AbstractObjective):
    """A non-linear objective, (y - z - z^3)^2, with the gradient that objectives inherit."""

    metric: ClassVar[Metric] = METRICS["mse"]

    def init(self, key: Key, dataset: Dataset) -> Float[Array, " d"]:
        return jnp.zeros(dataset.dim)

    def check(self, dataset: Dataset) -> None:
        pass

    def predict(self, x, rows: Rows):
        z = rows.features.matvec(x)
        return z + z**3

    def row_losses(self, x, rows: Rows):
        target = jnp.asarray(rows.target)
        return (target.reshape(-1, *[1] * (x.ndim - 1)) - self.predict(x, rows)) ** 2

    def touched(self, rows: Rows) -> None:
        return None


def test_an_objective_without_a_kernel_trains_side_by_side():
    data = synthetic(rows=203, fields=3, dense=True, task="regression")
    points = [point(step_size=0.01), point(step_size=0.02)]
    simulation = Simulation(data, Quartic(), points)
    batch, runs = simulation.begin([0, 1], [0, 0])
    runs, *_ = simulation.advance(batch, runs, 5)
    x = np.asarray(runs.x)
    for i in range(2):
        loss = lambda x: Quartic().row_losses(x, data.train).sum()
        alone = Simulation(data, Quartic(), points[i : i + 1])
        batch, run = alone.begin([0], [0])
        state = start(gd([0.01, 0.02][i]), jnp.zeros(data.dim))
        for _ in range(5):
            run, played, _ = alone.advance(batch, run, 1)
            weights = played.w[0, 0][np.repeat(np.arange(6), np.diff(block_bounds(len(data.train), 6)))]
            gradient = jax.grad(lambda x, w=weights: (w * Quartic().row_losses(x, data.train)).sum())(state.x)
            state, _ = apply_gradient(gd([0.01, 0.02][i]), 1e-3, len(data.train), state, gradient)
        np.testing.assert_allclose(x[:, i], state.x, atol=1e-12)
        assert loss(x[:, i]) < loss(np.zeros(data.dim))


# --- Points


def test_points_share_what_is_equal_and_stack_the_numbers_that_differ():
    common, numbers = stack([point(step_size=0.1), point(step_size=0.2)])
    assert len(jax.tree.leaves(numbers)) == 1
    assert common.delay.mean_s == 0.5 and common.scheme.code.groups == 3


@pytest.mark.parametrize("other", [point(IGNORE), point(late="skip"), point(CYCLIC)])
def test_points_that_differ_in_more_than_numbers_do_not_stack(other: Point):
    with pytest.raises(ValueError, match="points that are simulated together"):
        stack([point(), other])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: point(late="later"), "late=later: must be one of cancel, skip, queue, wait"),
        (lambda: Point(IGNORE, Exponential(1.0), "cancel", compute_s=-1.0), "compute_s=-1.0: must be a finite number"),
        (lambda: Point(IGNORE, Exponential(1.0), "cancel", overhead_s=float("nan")), "overhead_s=nan: must be"),
        (
            lambda: Simulation(synthetic(rows=6), Logistic(), [point()]),
            "blocks=6: must be at most the number of training rows",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(build, message: str):
    with pytest.raises(ConfigError, match=message):
        build()


# --- Theory


@pytest.mark.parametrize("step_size", STEP_SIZES)
def test_theorems_1_and_2_lie_above_simulated_runs(step_size):
    found = simulate_convergence(step_size, seeds=32, rounds=25)
    mean = found.gap.mean(1)
    assert (mean <= found.theorem_1).all() and (found.theorem_1 <= found.theorem_2).all()
    assert mean[-1] < 1e-3 * mean[0]


def test_shifted_exponential_rounds_have_the_mean_of_lemma_8():
    """1/n + H_n/(lambda n) for uncoded, and the corrected c/n + H_{n/c}/(lambda n) for exact coding; lambda = 1/3."""
    delay, n, c = ShiftedExponential(1.0, 3.0), 30, 3
    schemes = [
        Scheme(Uncoded(n, n), Decodable(), ByCode()),
        Scheme(FractionalRepetition(n, n, c), Decodable(), ByCode()),
    ]
    points = labelled([Point(scheme, delay, "cancel") for scheme in schemes])
    table = time_grid(points, range(50), 400).table
    H = lambda m: (1 / np.arange(1, m + 1)).sum()
    known_s = np.array([1 / n + 3 * H(n) / n, c / n + 3 * H(n // c) / n])
    assert (np.abs(table["mean_round_s"] - known_s) < 4 * table["sem_round_s"]).all()
    assert abs(table["mean_round_s"][1] - (c / n + 3 * (H(n) - H(c)) / n)) > 10 * table["sem_round_s"][1]
