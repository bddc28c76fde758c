"""Simulated training: a run is a jitted scan over rounds, and concurrent runs share each pass over the data.

The simulator never forms the messages: it decodes the block weights w = G a and takes one weighted pass over the rows,
so that its cost does not depend on the load. Never imports MPI.

Clocks and decoding do not depend on the model, so rounds are simulated first and trained on afterwards. Rounds are
always simulated in float64, because an exact code must decode exactly; training has the precision of the run.
"""

import functools
import os
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import shard_map
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from erasurehead_jax.data import Dataset, Rows, block_bounds
from erasurehead_jax.job import Problem
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.sampling import drawn_rows_of_all
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.simulation.rounds import Point, Round, play, stack
from erasurehead_jax.types import AnyArray, Key
from erasurehead_jax.update import State, apply_gradient, iterate, start

# How the devices share an array whose runs are its first axis, its second, or which has none.
FIRST, SECOND, SHARED = PartitionSpec("runs"), PartitionSpec(None, "runs"), PartitionSpec()


class Runs(NamedTuple):
    """The state of concurrent training runs between two rounds."""

    state: State  # the runs are the last axis of every leaf
    backlog_s: Float[Array, "runs k"]
    t: int  # rounds done

    @property
    def x(self) -> Float[Array, "d runs"]:
        """The iterates."""
        return iterate(self.state)


class Batch(NamedTuple):
    """What distinguishes concurrent runs. Runs are the first axis of every leaf."""

    updates: Any  # the numbers in which their points differ, as far as updates depend on them
    times: Any  # the same for the times of rounds
    init: Key  # of the starting point
    delay: Key  # of the delays
    seed: Int[AnyArray, " runs"]


class _Fixed:
    """Static arguments of a jitted function, which is compiled again for others only: they are compared by value."""

    def __init__(self, *parts: Any):
        self.parts = parts
        self._identity = _identity(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fixed) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@partial(jax.jit, static_argnums=(0, 1))
def _play(fixed: _Fixed, rounds: int, times: Any, keys: Any, backlog_s: Float[Array, "runs k"], t: Int[AnyArray, ""]):
    """Simulates rounds of runs with these numbers and keys; returns the backlogs after them, and the rounds."""
    common, mesh = fixed.parts

    def one(numbers, backlog_s, key, t):
        return play(eqx.combine(numbers, common), backlog_s, key, t)

    def all_rounds(times, keys, backlog_s, t):
        step = lambda backlog_s, t: jax.vmap(one, in_axes=(0, 0, 0, None))(times, backlog_s, keys, t)
        return jax.lax.scan(step, backlog_s, t + jnp.arange(rounds, dtype=jnp.int32))

    specs = {"in_specs": (FIRST, FIRST, FIRST, SHARED), "out_specs": (FIRST, SECOND)}
    return shard_map(all_rounds, mesh=mesh, **specs, check_vma=False)(times, keys, backlog_s, t)


@partial(jax.jit, static_argnums=0)
def _start(fixed: _Fixed, numbers: Any, x: Float[Array, "d runs"]) -> State:
    """The state before the first round."""
    common, _, _, mesh = fixed.parts

    def one(numbers, x):
        return start(eqx.combine(numbers, common).optimizer(), x, common.sampling.points > 1)

    starts = jax.vmap(one, in_axes=(0, -1), out_axes=-1)
    specs = {"in_specs": (FIRST, SECOND), "out_specs": _last(jax.eval_shape(starts, numbers, x))}
    return shard_map(starts, mesh=mesh, **specs, check_vma=False)(numbers, x)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _train(
    fixed: _Fixed, norms: bool, numbers: Any, state: State, rounds: Any, t: Int[AnyArray, " rounds"], rows: Rows
):
    """Trains on rounds (w, rows of mini-batches); see `Simulation.advance`."""
    common, objective, bounds, mesh = fixed.parts
    block, sampling = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)), common.sampling

    def update(numbers, state, decoded, snapshot):
        point = eqx.combine(numbers, common)
        return apply_gradient(point.optimizer(), point.l2, len(rows), state, decoded, snapshot)

    def step(numbers, rows, state, one):
        (w, drawn), t = one
        snapshot, whole = sampling.is_snapshot(t), sampling.is_whole(t)
        on_all = lambda: objective.gradient(state.x, rows, w.T[block])
        on_drawn = lambda: _batch_gradients(objective, bounds, state, rows, w, drawn)
        if isinstance(whole, np.bool_):
            decoded = on_all() if whole else on_drawn()
        else:
            decoded = jax.lax.cond(whole, on_all, on_drawn)
        in_axes, out_axes = (0, -1, -1, None), (-1, 0)
        state, norm = jax.vmap(update, in_axes, out_axes)(numbers, state, decoded, snapshot)
        return state, norm if norms else None

    def all_rounds(numbers, state, rounds, t, rows):
        return jax.lax.scan(partial(step, numbers, rows), state, (rounds, t))

    last = _last(state)
    specs = {"in_specs": (FIRST, last, SECOND, SHARED, SHARED), "out_specs": (last, SECOND if norms else None)}
    return shard_map(all_rounds, mesh=mesh, **specs, check_vma=False)(numbers, state, rounds, t, rows)


def _batch_gradients(
    objective: AbstractObjective,
    bounds: Int[np.ndarray, " n_plus_1"],
    state: State,
    rows: Rows,
    w: Float[Array, "runs n"],
    drawn: Int[Array, "runs rows"],
) -> Float[Array, "d runs"]:
    """The decoded sum on each run's own mini-batch or, with SVRG, of the differences to the snapshot."""
    size = drawn.shape[1] // w.shape[1]
    weight = jnp.repeat(w * (np.diff(bounds) / size).astype(w.dtype), size, axis=1)

    def one(x, anchor, weight, drawn):
        some = rows.take(drawn)
        gradient = objective.gradient(x, some, weight)
        return gradient if anchor is None else gradient - objective.gradient(anchor.x, some, weight)

    return jax.vmap(one, in_axes=(-1, -1, 0, 0), out_axes=-1)(state.x, state.anchor, weight, drawn)


class Simulation:
    """Concurrent training runs of points that have the same sizes and differ only in numbers.

    Runs are the minor axis of parameters and gradients, so that one pass over the rows serves all of them. Runs are
    distributed over the devices, so that their number must be a multiple of the number of devices. Compiles once per
    number of runs, and not again for a simulation that differs in data of the same shape or in JAX arrays in its
    points. Raises ConfigError if there are more blocks than rows, ValueError if the points differ in more than numbers.
    """

    def __init__(
        self,
        dataset: Dataset,
        objective: AbstractObjective,
        points: Sequence[Point],
        devices: Sequence[Any] = (),
    ):
        self._scheme, self._sampling = points[0].scheme, points[0].sampling
        common, self._numbers = stack(points)
        self._dataset, self._objective = dataset, objective
        self._bounds = block_bounds(len(dataset.train), self._scheme.code.blocks)
        quick = objective.touched(dataset.train) is not None  # then all columns, in the layout that workers use
        everything = np.arange(Problem(objective, dataset, 0.0).parameters) if quick else None
        train = objective.restrict(dataset.train, everything)
        self._mesh = mesh = Mesh(np.array(sharing(devices)), ("runs",))
        self._timed = _Fixed(_times(common), mesh)
        self._trained = _Fixed(_updates(common), objective, self._bounds, mesh)
        self._train = jax.device_put(train, NamedSharding(mesh, SHARED))

    def begin(self, which: Sequence[int], seeds: Sequence[int]) -> tuple[Batch, Runs]:
        """The runs before the first round. Run i has the point points[which[i]] and the seed seeds[i]."""
        batch = self._batch(which, seeds)
        x = jax.vmap(lambda key: self._objective.init(key, self._dataset).astype(float), out_axes=-1)(batch.init)
        x = jax.device_put(x, NamedSharding(self._mesh, SECOND))
        with jax.enable_x64(True):
            backlog_s = jnp.zeros((len(seeds), self._scheme.code.workers))
            backlog_s = jax.device_put(backlog_s, NamedSharding(self._mesh, FIRST))
        return batch, Runs(_start(self._trained, batch.updates, x), backlog_s, 0)

    def advance(
        self, batch: Batch, runs: Runs, rounds: int, norms: bool = False
    ) -> tuple[Runs, Round, Float[Array, "rounds runs"] | None]:
        """Simulates rounds; returns the runs after them, the rounds, and the norms of the gradients.

        `runs` is donated and cannot be used again. The arrays of the rounds are NumPy's, (rounds, runs, ...). Norms are
        None unless `norms` is set, because they take a tenth of the time on wide data. Raises ConfigError if a decoder
        returned invalid weights.
        """
        with jax.enable_x64(True):
            differing = batch.times, batch.delay
            backlog_s, played = _play(self._timed, rounds, *differing, runs.backlog_s, np.int32(runs.t))
        played = Round(*map(np.asarray, played))
        self._scheme.report(bool(played.unsound.any()), bool(played.broken_promise.any()))
        w, t = played.w.astype(jnp.result_type(float)), np.arange(runs.t, runs.t + rounds, dtype=np.int32)
        sampled = w, self._drawn(np.asarray(batch.seed).tolist(), t.tolist())
        state, norm = _train(self._trained, norms, batch.updates, runs.state, sampled, t, self._train)
        return Runs(state, backlog_s, runs.t + rounds), played, norm

    def _batch(self, which: Sequence[int], seeds: Sequence[int]) -> Batch:
        numbers = jax.tree.map(lambda values: values[np.asarray(which)], self._numbers)
        seed = np.asarray(seeds, np.uint32)
        return Batch(_updates(numbers), _times(numbers), *jax.vmap(run_keys)(seed), seed)

    def _drawn(self, seeds: list[int], rounds: list[int]) -> Int[np.ndarray, "rounds runs rows"] | None:
        """The rows of the mini-batches, block by block; None without mini-batches."""
        if (size := self._sampling.batch) is None:
            return None
        rows = functools.cache(lambda seed, t: drawn_rows_of_all(seed, t, self._bounds, size))
        return np.array([[rows(seed, t) for seed in seeds] for t in rounds], np.int32)


def sharing(devices: Sequence[Any] = ()) -> list[Any]:
    """The devices over which runs are distributed: `devices`, by default JAX's first one.

    CPU devices are limited to one fewer than the threads of XLA's pool. A batched LAPACK call (such as the singular
    value decomposition in a decoder) hands its batch to the pool and blocks its own thread until the batch is done. If
    every thread of the pool ran such a program, none would be left to do the work: a deadlock. The pool has NPROC
    threads, or as many as there are cores or devices.
    """
    chosen = list(devices) or jax.devices()[:1]
    if chosen[0].platform != "cpu":
        return chosen
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(int(os.environ.get("NPROC") or cores), len(jax.devices("cpu")))
    return chosen[: max(1, threads - 1)]


def _last(state: State) -> Any:
    """How the devices share a state, whose runs are the last axis of every leaf."""
    return jax.tree.map(lambda leaf: PartitionSpec(*[None] * (leaf.ndim - 1), "runs"), state)


def _times(point: Point) -> Point:
    """Without what the times of a round do not depend on."""
    return _without(point, "optimizer", "l2")


def _updates(point: Point) -> Point:
    """Without what updates do not depend on, so that all schemes and delays share one program."""
    return _without(point, "scheme", "delay", "compute_s", "overhead_s")


def _without(point: Point, *names: str) -> Point:
    parts = lambda point: [getattr(point, name) for name in names]
    return eqx.tree_at(parts, point, [None] * len(names), is_leaf=lambda each: each is None)


def _identity(tree: Any) -> Hashable:
    """Equal for equal trees; if parts of the tree cannot be compared, equal to nothing else."""
    leaves, shape = jax.tree.flatten(tree)
    try:
        found = shape, tuple(map(_value, leaves))
        hash(found)
    except TypeError:
        return object()
    return found


def _value(leaf: Any) -> Hashable:
    if not hasattr(leaf, "dtype"):
        return type(leaf), leaf
    if (array := np.asarray(leaf)).dtype.hasobject:
        raise TypeError("objects in an array cannot be compared")
    return array.shape, str(array.dtype), array.tobytes()
