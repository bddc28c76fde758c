"""The rounds of a loop on the simulated clock."""

import contextlib
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.data import block_bounds
from erasurehead_jax.errors import ConfigError, Diverged
from erasurehead_jax.job import build_delay, build_sampling, build_scheme
from erasurehead_jax.loop.rounds import NOT_FINITE, AbstractRounds, Backend, Info, Setup
from erasurehead_jax.sampling import drawn_rows_of_all
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.settings import read_settings
from erasurehead_jax.settings.compose import defaults
from erasurehead_jax.simulation.rounds import Point, play


class SimulatedRounds(AbstractRounds):
    """Rounds that never form messages: one weighted pass over the rows gives the decoded sum."""

    def __init__(self, setup: Setup):
        settings = read_settings(setup.config)
        scheme, delay = build_scheme(setup.config, setup.scheme), build_delay(setup.config, setup.delay)
        self._sampling = build_sampling(setup.config, len(setup.rows))
        times = settings.compute_s, settings.overhead_s
        self._point = Point(scheme, delay, settings.late, *times, sampling=self._sampling)
        self._bounds, self._seed = block_bounds(len(setup.rows), scheme.code.blocks), settings.seed
        with jax.enable_x64(True):
            self._backlog_s, self._key = jnp.zeros(scheme.code.workers), run_keys(np.uint32(settings.seed))[1]
        self._play = jax.jit(partial(play, self._point))
        of_drawn = lambda x, rows, weights, drawn: setup.loss.gradient(x, rows.take(drawn), weights)
        self._sum, self._sum_drawn = jax.jit(setup.loss.gradient), jax.jit(of_drawn)
        self._rows, self._t, self._clock_s = jax.device_put(setup.rows), 0, 0.0
        if not np.isfinite(self._decoded(setup.start, np.ones(scheme.code.blocks)).sum()):
            raise ConfigError(NOT_FINITE)

    def gradient(self, x: Float[np.ndarray, " d"]) -> tuple[Float[np.ndarray, " d"], Info]:
        with jax.enable_x64(True):
            self._backlog_s, played = self._play(self._backlog_s, self._key, np.int32(self._t))
        played = jax.tree.map(np.asarray, played)
        self._point.scheme.report(bool(played.unsound), bool(played.broken_promise))
        decoded = self._decoded(x, played.w)
        if not np.isfinite(decoded.sum()):
            raise Diverged(f"the gradient of round {self._t} is not finite; use a smaller step size")
        self._clock_s += float(played.wall_s)
        info = Info(
            round=self._t,
            exact=bool(played.decode_error < ROUNDING),
            decode_error=float(played.decode_error),
            waited=int(self._point.scheme.code.heard(played.got).sum()),
            round_s=float(played.wall_s),
            clock_s=self._clock_s,
            lost=0,
        )
        self._t += 1
        return decoded, info

    def _decoded(self, x: Float[np.ndarray, " d"], w: Float[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
        """The sum over blocks of w * sum of the gradients of the block's rows in this round."""
        sizes = np.diff(self._bounds)
        if (size := self._sampling.batch) is None:
            return np.asarray(self._sum(x, self._rows, np.repeat(w, sizes).astype(x.dtype)))
        weights = np.repeat(w * sizes / size, size).astype(x.dtype)
        drawn = drawn_rows_of_all(self._seed, self._t, self._bounds, size)
        return np.asarray(self._sum_drawn(x, self._rows, weights, drawn))


@contextlib.contextmanager
def _simulated(setup: Setup) -> Iterator[AbstractRounds]:
    yield SimulatedRounds(setup)


SIMULATOR = Backend(lambda: defaults(["backend=simulate"]), _simulated)
