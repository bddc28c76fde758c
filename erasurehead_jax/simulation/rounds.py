"""Simulated rounds, without data: who answers when, what is decoded, and when the next round begins.

Time is computed, not spent.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from optax import GradientTransformation

from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.errors import require_choice, require_number
from erasurehead_jax.sampling import Sampling
from erasurehead_jax.scheme import Scheme, collect, unsound
from erasurehead_jax.types import AnyArray, Got, Key, Late, Number


class Point(eqx.Module):
    """A simulated configuration: everything except the data and the seed. Sizes are static, numbers may be traced."""

    scheme: Scheme
    delay: AbstractDelay
    late: str = eqx.field(static=True)
    compute_s: Number = (
        0.0  # computation time of one node on the whole data set; a worker's is proportional to its load
    )
    overhead_s: Number = 0.0  # time of the master, added to every round
    optimizer: Callable[[], GradientTransformation] | None = None
    l2: Number = 0.0
    sampling: Sampling = eqx.field(static=True, default=Sampling())

    def __check_init__(self):
        require_choice("late", self.late, Late)
        require_number("compute_s", self.compute_s)
        require_number("overhead_s", self.overhead_s)

    def service_s(self, key: Key, t: Number) -> Float[Array, " M"]:
        """Seconds from when a worker starts on the model of round t until it sends each of its messages.

        A worker sleeps once, before its first message. It then computes its messages in the order of their indices; a
        block in two messages is computed twice, as on real ranks.
        """
        code = self.scheme.code
        delay_s = self.delay.sample(key, t, code.workers, code.load / code.blocks)
        return delay_s[code.owner] + self.compute_s * self.sampling.work(t) * code.work_until


class Round(NamedTuple):
    """One simulated round."""

    got: Got
    arrival_s: Float[AnyArray, " M"]  # from the start of the round, whether used or not
    round_s: Float[AnyArray, ""]  # until the stopping rule held
    wall_s: Float[AnyArray, ""]  # until the next round could begin
    w: Float[AnyArray, " n"]  # weight of each block in the decoded gradient
    decode_error: Float[AnyArray, ""]  # ||w - 1||^2
    unsound: Bool[AnyArray, ""]  # the decoder returned invalid weights
    broken_promise: Bool[AnyArray, ""]  # the code called the set decodable, but it was not decoded exactly


def play(point: Point, backlog_s: Float[Array, " k"], key: Key, t: Number) -> tuple[Float[Array, " k"], Round]:
    """Simulates round t of the run with this key; returns the workers' backlogs after it, and the round.

    A backlog is the seconds of old work that a worker has left at the start of a round. A worker drops old work at once
    (`cancel`), finishes its current model and then takes the newest (`skip`), processes all models in order (`queue`),
    or the master waits for it (`wait`). A worker that finishes a model also sends those of its messages that come after
    the end of the round.

    Exact decoding needs float64: call this where x64 is enabled.
    """
    scheme, code = point.scheme, point.scheme.code
    arrival_s = backlog_s[code.owner] + point.service_s(key, t)
    done_s = jnp.full(code.workers, -jnp.inf, arrival_s.dtype).at[code.owner].max(arrival_s)
    got, round_s = collect(scheme, arrival_s)
    a = jnp.asarray(scheme.decode(code, got))
    if point.sampling.exact_snapshots:
        exact = scheme.exactly()
        all_got, all_s = collect(exact, arrival_s)
        which = partial(jnp.where, point.sampling.waits_for_exact(t))
        got, round_s, a = which(all_got, got), which(all_s, round_s), which(exact.decode(code, all_got), a)
    last_s = jnp.where(jnp.isinf(done_s), -jnp.inf, done_s).max()  # the lost are not waited for
    wall_s = (jnp.maximum(round_s, last_s) if point.late == Late.WAIT else round_s) + point.overhead_s
    unfinished_s = jnp.maximum(done_s - wall_s, 0)
    if point.late == Late.QUEUE:
        backlog_s = unfinished_s
    elif point.late == Late.SKIP:
        began = (backlog_s < wall_s) | (backlog_s == 0)  # otherwise a newer model arrives before it starts on this one
        backlog_s = jnp.where(began, unfinished_s, backlog_s - wall_s)
    else:
        backlog_s = jnp.zeros_like(backlog_s)
    w, decode_error = jnp.asarray(code.shares(a)), jnp.asarray(code.decode_error(a))
    faults = jnp.asarray(unsound(got, a)), jnp.asarray(scheme.breaks_promise(got, decode_error))
    return backlog_s, Round(got, arrival_s, round_s, wall_s, w, decode_error, *faults)


class Timing(NamedTuple):
    """The times and decode errors of the rounds of a run. Each (rounds,)."""

    round_s: Float[AnyArray, "*"]
    wall_s: Float[AnyArray, "*"]
    decode_error: Float[AnyArray, "*"]
    unsound: Bool[AnyArray, "*"]
    broken_promise: Bool[AnyArray, "*"]


def timing(point: Point, key: Key, rounds: int) -> Timing:
    """Simulates rounds without data, starting with idle workers. Jittable and vmappable; needs x64, as `play` does."""

    def step(backlog_s, t):
        backlog_s, played = play(point, backlog_s, key, t)
        return backlog_s, Timing(*(getattr(played, name) for name in Timing._fields))

    return jax.lax.scan(step, jnp.zeros(point.scheme.code.workers), jnp.arange(rounds))[1]


def stack(points: Sequence[Point]) -> tuple[Any, Any]:
    """Splits points into what they have in common and the numbers in which they differ, each (points, ...).

    JAX arrays of floats count as numbers that differ, whether they do or not. `eqx.combine` is the inverse. Raises
    ValueError if the points differ in anything but numbers.
    """
    flat, shapes = zip(*(jax.tree.flatten(point) for point in points), strict=True)
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("points that are simulated together must have the same sizes and parts")
    common, numbers = [], []
    for values in zip(*flat, strict=True):
        traced = all(isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, np.floating) for value in values)
        same = not traced and all(_same(value, values[0]) for value in values)
        if not same and not traced and not all(type(value) in (int, float) for value in values):
            raise ValueError(f"points that are simulated together may differ in numbers only, not in {values}")
        common.append(values[0] if same else None)
        numbers.append(None if same else np.stack(values))  # the precision is that of the program
    return shapes[0].unflatten(common), shapes[0].unflatten(numbers)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and bool(np.array_equal(a, b)))
