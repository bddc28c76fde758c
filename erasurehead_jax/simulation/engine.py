"""Backend 1: what would happen. A training run is a jitted scan over rounds; runs side by side share every pass.

The simulator never forms the messages: it decodes the shares w = G a and takes one weighted pass over the rows, so its
cost does not depend on the load. Time is counted, not spent. No MPI import.

Clocks and decoding do not depend on the model, so rounds are played first and trained on afterwards. They are always
played in float64, because an exact code must decode exactly; training has the precision of the run.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import shard_map
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int
from optax import GradientTransformation

from erasurehead_jax.data import Dataset, Rows, block_bounds
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.errors import require_choice, require_number
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.scheme import Scheme, collect, unsound
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.types import AnyArray, Got, Key, Late, Number
from erasurehead_jax.update import State, apply_gradient, iterate, start


class Point(eqx.Module):
    """What is simulated: everything but the data and the seed. Sizes are static, numbers may be traced."""

    scheme: Scheme
    delay: AbstractDelay
    late: str = eqx.field(static=True)
    compute_s: Number = 0.0  # of work for one node on all the data; a worker takes the share it holds
    overhead_s: Number = 0.0  # of the master, added to every round
    optimizer: Callable[[], GradientTransformation] | None = None
    l2: Number = 0.0

    def __check_init__(self):
        require_choice("late", self.late, Late)
        require_number("compute_s", self.compute_s)
        require_number("overhead_s", self.overhead_s)

    def service_s(self, key: Key, t: Number) -> Float[Array, " M"]:
        """Seconds from taking up the model of round t to each message of its worker.

        A worker sleeps once, before its first message. Its messages follow one another in the order of their numbers,
        each after the work on its own blocks; a block in two messages is computed twice, as on real ranks.
        """
        code = self.scheme.code
        delay_s = self.delay.sample(key, t, code.workers, code.load / code.blocks)
        return delay_s[code.owner] + self.compute_s * code.work_until


class Round(NamedTuple):
    """One simulated round."""

    got: Got
    arrival_s: Float[AnyArray, " M"]  # since the round began, whether used or not
    round_s: Float[AnyArray, ""]  # until the stopping rule held
    wall_s: Float[AnyArray, ""]  # until the next round could begin
    w: Float[AnyArray, " n"]  # shares of the blocks in the decoded gradient
    decode_error: Float[AnyArray, ""]  # ||w - 1||^2
    unsound: Bool[AnyArray, ""]  # weights that break the contract of a decoder
    broken_promise: Bool[AnyArray, ""]  # called decodable, but not decoded exactly


def play(point: Point, backlog_s: Float[Array, " k"], key: Key, t: Number) -> tuple[Float[Array, " k"], Round]:
    """Round t of the run with this key: the backlogs after it (seconds of old work when it begins), and what happened.

    A worker drops old work at once (`cancel`), finishes the model at hand and then takes the newest (`skip`), works
    through all models in order (`queue`), or is waited for by the master (`wait`). Old work is that on all messages of
    a model: a worker that finishes a model also sends those of its messages that come after the end of the round.

    Exactness needs float64: call this where x64 is enabled.
    """
    scheme, code = point.scheme, point.scheme.code
    arrival_s = backlog_s[code.owner] + point.service_s(key, t)
    done_s = jnp.full(code.workers, -jnp.inf, arrival_s.dtype).at[code.owner].max(arrival_s)
    got, round_s = collect(scheme, arrival_s)
    wall_s = (jnp.maximum(round_s, done_s.max()) if point.late == Late.WAIT else round_s) + point.overhead_s
    unfinished_s = jnp.maximum(done_s - wall_s, 0)
    if point.late == Late.QUEUE:
        backlog_s = unfinished_s
    elif point.late == Late.SKIP:
        began = (backlog_s < wall_s) | (backlog_s == 0)  # else a newer model comes before this one is looked at
        backlog_s = jnp.where(began, unfinished_s, backlog_s - wall_s)
    else:
        backlog_s = jnp.zeros_like(backlog_s)
    a = jnp.asarray(scheme.decode(code, got))
    w = jnp.asarray(code.G @ a)
    decode_error = ((w - 1) ** 2).sum()
    faults = jnp.asarray(unsound(got, a)), jnp.asarray(scheme.breaks_promise(got, decode_error))
    return backlog_s, Round(got, arrival_s, round_s, wall_s, w, decode_error, *faults)


class Timing(NamedTuple):
    """The rounds of a run, as far as clocks and codes go. Each (rounds,)."""

    round_s: Float[AnyArray, "*"]
    wall_s: Float[AnyArray, "*"]
    decode_error: Float[AnyArray, "*"]
    unsound: Bool[AnyArray, "*"]
    broken_promise: Bool[AnyArray, "*"]


def timing(point: Point, key: Key, rounds: int) -> Timing:
    """`rounds` rounds from idle workers on, without any data. Jittable and vmappable; needs x64, as `play` does."""

    def step(backlog_s, t):
        backlog_s, played = play(point, backlog_s, key, t)
        return backlog_s, Timing(*(getattr(played, name) for name in Timing._fields))

    return jax.lax.scan(step, jnp.zeros(point.scheme.code.workers), jnp.arange(rounds))[1]


class Runs(NamedTuple):
    """Training runs side by side, between two rounds."""

    state: State  # the runs are the last axis of every leaf
    backlog_s: Float[Array, "runs k"]
    t: int  # rounds done

    @property
    def x(self) -> Float[Array, "d runs"]:
        """The iterates."""
        return iterate(self.state)


class Batch(NamedTuple):
    """Which runs these are. Runs are the first axis of every leaf."""

    numbers: Any  # in which their points differ
    init: Key  # of the starting point
    delay: Key  # of the delays


class Simulation:
    """Training runs of points that share their sizes and differ in numbers only.

    Runs are the minor axis of parameters and gradients, so that one pass over the rows serves all of them. With several
    devices the runs are shared out, and their number must be a multiple of the devices'. Compiles once for a number of
    runs. Raises ConfigError if there are more blocks than rows, ValueError if the points do not fit together.
    """

    def __init__(
        self,
        dataset: Dataset,
        objective: AbstractObjective,
        points: Sequence[Point],
        devices: Sequence[Any] = (),
    ):
        self._scheme = points[0].scheme
        self._static, self._numbers = stack(points)
        self._dataset, self._objective = dataset, objective
        bounds = block_bounds(len(dataset.train), points[0].scheme.code.blocks)
        self._block = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        quick = objective.touched(dataset.train) is not None  # then all columns, in the layout that workers use
        train = dataset.train.restrict(np.arange(dataset.dim)) if quick else dataset.train
        mesh = Mesh(np.array(sharing(devices)), ("runs",))
        shared, first, second = PartitionSpec(), PartitionSpec("runs"), PartitionSpec(None, "runs")
        self._train = jax.device_put(train, NamedSharding(mesh, shared))
        state = jax.tree.map(
            lambda leaf: PartitionSpec(*[None] * (leaf.ndim - 1), "runs"),  # the last axis
            jax.eval_shape(self._begin, self._batch([0], [0])),
        )
        self._clock_sharding = NamedSharding(mesh, first)
        self._jitted_begin = jax.jit(shard_map(self._begin, mesh=mesh, in_specs=first, out_specs=state))

        def play_rounds(rounds, batch, backlog_s, t):
            specs = {"in_specs": (first, first, shared), "out_specs": (first, second)}
            return shard_map(partial(self._play, rounds), mesh=mesh, **specs, check_vma=False)(batch, backlog_s, t)

        def train_on(norms, batch, runs, w, train):
            specs = {"in_specs": (first, state, second, shared), "out_specs": (state, second if norms else None)}
            return shard_map(partial(self._train_on, norms), mesh=mesh, **specs)(batch, runs, w, train)

        self._jitted_play = jax.jit(play_rounds, static_argnums=0)
        self._jitted_train = jax.jit(train_on, static_argnums=0, donate_argnums=2)

    def begin(self, which: Sequence[int], seeds: Sequence[int]) -> tuple[Batch, Runs]:
        """Before the first round. Run i is of points[which[i]] and follows from seeds[i]."""
        batch = self._batch(which, seeds)
        with jax.enable_x64(True):
            backlog_s = jnp.zeros((len(seeds), self._static.scheme.code.workers))
            backlog_s = jax.device_put(backlog_s, self._clock_sharding)
        return batch, Runs(self._jitted_begin(batch), backlog_s, 0)

    def advance(
        self, batch: Batch, runs: Runs, rounds: int, norms: bool = False
    ) -> tuple[Runs, Round, Float[Array, "rounds runs"] | None]:
        """Plays rounds: the runs after them (the old ones are used up), every round, and the norms of the gradients.

        The rounds' arrays are NumPy's, (rounds, runs, ...). Norms cost a tenth of the time on wide data: None unless
        asked for. Raises ConfigError if a decoder gave weights that break its contract.
        """
        with jax.enable_x64(True):
            backlog_s, played = self._jitted_play(rounds, batch, runs.backlog_s, np.int32(runs.t))
        played = Round(*map(np.asarray, played))
        self._scheme.report(bool(played.unsound.any()), bool(played.broken_promise.any()))
        w = played.w.astype(jnp.result_type(float))
        state, norm = self._jitted_train(norms, batch, runs.state, w, self._train)
        return Runs(state, backlog_s, runs.t + rounds), played, norm

    def _batch(self, which: Sequence[int], seeds: Sequence[int]) -> Batch:
        numbers = jax.tree.map(lambda values: values[np.asarray(which)], self._numbers)
        return Batch(numbers, *jax.vmap(run_keys)(np.asarray(seeds, np.uint32)))

    def _begin(self, batch: Batch) -> State:
        def one(numbers, key):
            x = self._objective.init(key, self._dataset).astype(float)
            return start(eqx.combine(numbers, self._static).optimizer(), x)

        return jax.vmap(one, out_axes=-1)(batch.numbers, batch.init)

    def _play(self, rounds: int, batch: Batch, backlog_s: Float[Array, "runs k"], t: Int[Array, ""]):
        def timed(numbers, backlog_s, key, t):
            return play(eqx.combine(numbers, self._static), backlog_s, key, t)

        def step(backlog_s, t):
            return jax.vmap(timed, in_axes=(0, 0, 0, None))(batch.numbers, backlog_s, batch.delay, t)

        return jax.lax.scan(step, backlog_s, t + jnp.arange(rounds, dtype=jnp.int32))

    def _train_on(self, norms: bool, batch: Batch, state: State, w: Float[Array, "rounds runs n"], train: Rows):
        def update(numbers, state, decoded):
            point = eqx.combine(numbers, self._static)
            return apply_gradient(point.optimizer(), point.l2, len(train), state, decoded)

        def step(state, w):
            decoded = self._objective.gradient(state.x, train, w.T[self._block])
            state, norm = jax.vmap(update, in_axes=(0, -1, -1), out_axes=(-1, 0))(batch.numbers, state, decoded)
            return state, norm if norms else None

        return jax.lax.scan(step, state, w)


def sharing(devices: Sequence[Any] = ()) -> list[Any]:
    """The devices among which runs are shared out: these, or the first of all; of CPU devices all but the last where
    each thread of XLA's pool has one.

    A batched LAPACK call (a singular value decomposition in a decoder, say) hands its batch to XLA's pool of threads
    and blocks the thread it runs on until the batch is done. If every thread of the pool runs such a program nobody is
    left to do the work, and all wait for ever. The pool has NPROC threads, or as many as there are cores or devices.
    """
    chosen = list(devices) or jax.devices()[:1]
    if chosen[0].platform != "cpu":
        return chosen
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(int(os.environ.get("NPROC") or cores), len(jax.devices("cpu")))
    return chosen[: max(1, threads - 1)]


def stack(points: Sequence[Point]) -> tuple[Any, Any]:
    """What the points have in common, and the numbers in which they differ, (points,) each; `eqx.combine` puts them
    together again. Raises ValueError if they differ in anything else."""
    flat, shapes = zip(*(jax.tree.flatten(point) for point in points), strict=True)
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("points that are simulated together must have the same sizes and parts")
    common, numbers = [], []
    for values in zip(*flat, strict=True):
        same = all(_same(value, values[0]) for value in values)
        if not same and not all(type(value) in (int, float) for value in values):
            raise ValueError(f"points that are simulated together may differ in numbers only, not in {values}")
        common.append(values[0] if same else None)
        numbers.append(None if same else np.asarray(values))  # their precision is that of the program
    return shapes[0].unflatten(common), shapes[0].unflatten(numbers)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and bool(np.array_equal(a, b)))
