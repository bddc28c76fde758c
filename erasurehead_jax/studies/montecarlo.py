"""Monte Carlo simulation of a grid: rounds without data (`time_grid`), or whole training runs (`train_grid`).

All points use the same seeds, so that they meet the same delays and differ only in their choices. Runs are processed in
chunks; no result depends on the size of a chunk or on the number of devices.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import shard_map
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Int

from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.data import Dataset
from erasurehead_jax.job import Problem
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.rundir.metrics import scorer
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.simulation.engine import Simulation, sharing
from erasurehead_jax.simulation.rounds import Point, stack, timing
from erasurehead_jax.studies.grid import GridPoint, label_columns, stackable

SHARE = 0.4  # the fraction of the free memory that a chunk of training runs may use
TRAINED_AT_ONCE = {"cpu": 128}  # runs per core; more are not faster. On other platforms memory is the limit
TIMED_AT_ONCE = {"cpu": 256}  # runs per core; the loops over more do not fit into its cache
ROUNDS_AT_ONCE = 2**22  # rounds of timing per chunk, so that their times take less than 50 MB
KEPT = 4096  # round times kept per point for the figure
BATCHES = 32  # batches of the rounds of a single run, for the standard error of its mean

Progress = Callable[[float], object]  # called with the number of further runs that are done, possibly fractional


class Plan(NamedTuple):
    """How the runs of a group of points are split into chunks."""

    runs: list[tuple[int, int]]  # (index of the point in its group, seed), point by point
    chunk: int  # runs per chunk, a multiple of the number of devices

    def chunks(self) -> Iterator[tuple[list[int], list[int]]]:
        """Indices and seeds of each chunk. The last one is padded with its first run, so that one size is compiled."""
        for first in range(0, len(self.runs), self.chunk):
            some = self.runs[first : first + self.chunk]
            which, seeds = zip(*some + [some[0]] * (self.chunk - len(some)), strict=True)
            yield list(which), list(seeds)


def make_plan(points: int, seeds: Sequence[int], at_most: int, devices: int, report: Callable[[str], None]) -> Plan:
    """All seeds of all points in equal chunks of at most `at_most` runs; reports it if there are several chunks."""
    runs = [(point, seed) for point in range(points) for seed in seeds]
    chunks = math.ceil(len(runs) / max(1, min(at_most, len(runs))))
    chunk = devices * math.ceil(len(runs) / chunks / devices)
    if len(runs) > chunk:
        report(f"{len(runs)} runs ({points} points with the same sizes, {len(seeds)} seeds) in chunks of {chunk}")
    return Plan(runs, chunk)


class Timings(NamedTuple):
    """The result of `time_grid`."""

    table: pd.DataFrame  # one row per point
    round_s: list[Float[np.ndarray, " kept"]]  # round times of each point, about KEPT at most


def time_grid(
    points: Sequence[GridPoint],
    seeds: Sequence[int],
    rounds: int,
    chunk: int | None = None,
    devices: Sequence[Any] = (),
    progress: Progress = lambda done: None,
    say: Callable[[str], None] = lambda line: None,
) -> Timings:
    """Round times and decode errors of each point over `rounds` rounds of each seed."""
    devices = sharing(devices)
    at_once = TIMED_AT_ONCE.get(devices[0].platform, 2**17) * len(devices)
    at_most = chunk or max(1, min(at_once, ROUNDS_AT_ONCE // rounds))
    rows: dict[int, dict[str, Any]] = {}
    samples: dict[int, np.ndarray] = {}
    for group in stackable(points):
        play = timer([points[i].point for i in group], rounds, devices)
        plan = make_plan(len(group), seeds, at_most, len(devices), say)
        parts = []
        for which, some_seeds in plan.chunks():
            parts.append(_reduce(*play(which, some_seeds), kept=math.ceil(KEPT / len(seeds))))
            progress(min(plan.chunk, len(plan.runs) - plan.chunk * (len(parts) - 1)))
        found = [np.concatenate(values)[: len(plan.runs)] for values in zip(*parts, strict=True)]
        by_point = [values.reshape(len(group), len(seeds), -1) for values in found]
        for place, i in enumerate(group):
            batch_s, wall_s, exact, error, samples[i] = (values[place] for values in by_point)
            samples[i] = samples[i].ravel()
            rows[i] = points[i].labels | {
                "mean_round_s": batch_s.mean(),
                "mean_wall_s": wall_s.mean(),
                "sem_round_s": standard_error(batch_s),
                "exact_fraction": exact.mean(),
                "mean_decode_error": error.mean(),
            }
    columns = dict.fromkeys([*label_columns(points), *rows[0]])
    table = pd.DataFrame([rows[i] for i in range(len(points))], columns=list(columns))
    return Timings(table, [samples[i] for i in range(len(points))])


def timer(points: Sequence[Point], rounds: int, devices: Sequence[Any]) -> Callable[..., tuple[np.ndarray, ...]]:
    """A function from (indices, seeds) to round_s, wall_s and decode_error, each (runs, rounds). Compiles once."""
    common, numbers = stack(points)
    one = lambda differing, key: timing(eqx.combine(differing, common), key, rounds)
    spec = PartitionSpec("runs")
    mesh = Mesh(np.array(sharing(devices)), ("runs",))
    play = jax.jit(shard_map(jax.vmap(one), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))

    def timed(which: list[int], seeds: list[int]) -> tuple[np.ndarray, ...]:
        differing = jax.tree.map(lambda values: values[np.array(which)], numbers)
        _, keys = jax.vmap(run_keys)(np.array(seeds, np.uint32))
        with jax.enable_x64(True):  # exact decoding needs float64
            *found, unsound, broken_promise = map(np.asarray, play(differing, keys))
        points[0].scheme.report(bool(unsound.any()), bool(broken_promise.any()))
        return tuple(found)

    return timed


def standard_error(run_s: Float[np.ndarray, "seeds batches"]) -> float:
    """Standard error of the mean, from the spread between seeds, or between batches of rounds if there is one seed."""
    means = run_s.mean(1) if len(run_s) > 1 else run_s[0]
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan


def _reduce(round_s: np.ndarray, wall_s: np.ndarray, decode_error: np.ndarray, kept: int) -> tuple[np.ndarray, ...]:
    """For each run: batch means of round_s; means of wall_s, exactness and decode error; and some round times."""
    batches = min(BATCHES, round_s.shape[1])
    even = np.array_split(round_s, batches, axis=1)
    mean = lambda values: values.mean(1, dtype=np.float64)
    batch_s = np.stack([mean(part) * part.shape[1] * batches / round_s.shape[1] for part in even], axis=1)
    return batch_s, mean(wall_s), mean(decode_error < ROUNDING), mean(decode_error), round_s[:, :kept]


class Trainings(NamedTuple):
    """The result of `train_grid` at the evaluated rounds."""

    rounds: Int[np.ndarray, " kept"]  # counted from 0; metrics are those after the round
    clock_s: Float[np.ndarray, "points seeds kept"]
    metrics: dict[str, Float[np.ndarray, "points seeds kept"]]  # train_loss, test_loss and the test metric
    more_is_better: bool  # of the test metric

    @property
    def metric(self) -> str:
        """The column of the test metric."""
        return list(self.metrics)[-1]


def train_grid(
    dataset: Dataset,
    objective: AbstractObjective,
    points: Sequence[GridPoint],
    seeds: Sequence[int],
    rounds: int,
    every: int,
    chunk: int | None = None,
    devices: Sequence[Any] = (),
    progress: Progress = lambda done: None,
    say: Callable[[str], None] = lambda line: None,
) -> Trainings:
    """Trains each point with each seed, and evaluates every `every` rounds and after the last one."""
    devices = sharing(devices)
    kept = [*range(every - 1, rounds - 1, every), rounds - 1]
    score = scorer(objective, dataset)
    clock_s = np.zeros((len(points), len(seeds), len(kept)))
    metrics: dict[str, np.ndarray] = {}
    at_most = chunk or runs_that_fit(dataset, objective, points[0].point, devices)
    for group in stackable(points):
        simulation = Simulation(dataset, objective, [points[i].point for i in group], devices)
        plan = make_plan(len(group), seeds, at_most, len(devices), say)
        at = 0
        for which, some_seeds in plan.chunks():
            own = plan.runs[at : at + plan.chunk]
            took_s, scores = _train(simulation, which, some_seeds, kept, score, partial(_advance, progress, len(own)))
            for j, (place, seed) in enumerate(own):
                where = group[place], seeds.index(seed)
                clock_s[where] = took_s[:, j]
                for name, values in scores.items():
                    metrics.setdefault(name, np.full(clock_s.shape, np.nan))[where] = values[:, j]
            at += plan.chunk
    return Trainings(np.array(kept), clock_s, metrics, objective.metric.more_is_better)


def _advance(progress: Progress, runs: int, share: float) -> None:
    progress(runs * share)


def _train(
    simulation: Simulation, which: list[int], seeds: list[int], kept: list[int], score: Callable, progress: Progress
):
    """Clock and metrics of one chunk, (kept, runs). `progress` is called with fractions of the chunk."""
    batch, runs = simulation.begin(which, seeds)
    clock_s, scores, now_s, before = [], [], np.zeros(len(seeds)), -1
    for round_ in kept:
        runs, played, _ = simulation.advance(batch, runs, round_ - before)
        now_s = now_s + np.asarray(played.wall_s).sum(0, dtype=np.float64)
        clock_s.append(now_s)
        scores.append(score(runs.x))
        progress((round_ - before) / (kept[-1] + 1))
        before = round_
    return np.array(clock_s), {name: np.array([at[name] for at in scores]) for name in scores[0]}


def runs_that_fit(dataset: Dataset, objective: AbstractObjective, point: Point, devices: Sequence[Any]) -> int:
    """Training runs per chunk: as many as are fast and whose parameters, gradients and row losses fit into memory."""
    assert point.optimizer is not None
    platform = devices[0].platform
    vectors = 3 + len(jax.tree.leaves(jax.eval_shape(point.optimizer().init, jnp.zeros(1))))
    parameters, rows = Problem(objective, dataset, 0.0).parameters, len(dataset.train) + len(dataset.test)
    scores = max(1, parameters // dataset.dim)  # of a row: one a class
    values = vectors * parameters + 6 * scores * rows
    fit = int(SHARE * _free_bytes(devices) / (values * jnp.zeros(()).dtype.itemsize))
    return max(1, min(fit, TRAINED_AT_ONCE.get(platform, fit) * len(devices)))


def _free_bytes(devices: Sequence[Any]) -> int:
    stats = devices[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return len(devices) * (stats["bytes_limit"] - stats["bytes_in_use"])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and (text := limit.read_text().strip()).isdigit():  # the limit of a container
        free = min(free, int(text) - int(used.read_text()))
    return max(free, 0)
