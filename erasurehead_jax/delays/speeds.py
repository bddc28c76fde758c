"""Workers of different speeds: for the whole run, by rack, or changing slowly."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import RUN, AbstractDelay, AbstractSlowed
from erasurehead_jax.errors import ConfigError, require_number, require_whole, shown
from erasurehead_jax.types import Key, Number


class UnequalWorkers(AbstractSlowed):
    """Each worker takes its own factor times as long as `of` says, throughout.

    `factors` has one for each worker. If it is None, they are drawn once per run: log-normal with median 1 and `sigma`.
    """

    of: AbstractDelay
    factors: Float[np.ndarray, " workers"] | None
    sigma: Number

    def __init__(self, of: AbstractDelay, factors: Sequence[int | float] | None = None, sigma: Number = 0.0):
        self.of, self.sigma, self.factors = of, sigma, None
        require_number("delay.sigma", sigma)
        if factors is None:
            return
        if not isinstance(sigma, (int, float)) or sigma != 0:
            raise ConfigError(f"delay.sigma={shown(sigma)}: must be 0, or factors null: one or the other")
        for factor in factors:
            require_number("delay.factors", factor)
        self.factors = np.array(factors, np.float32)

    def slowness(self, key: Key, t: Number, k: int) -> Float[Array, " k"]:
        if self.factors is not None:
            return jnp.asarray(self.factors[:k], float)
        normal = jax.random.normal(jax.random.fold_in(key, RUN), (k,), jnp.float32)
        return jnp.exp(self.sigma * normal.astype(float))

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if there are fewer factors than workers."""
        super().check(workers, rounds)
        if self.factors is not None and len(self.factors) < workers:
            raise ConfigError(
                f"delay.factors: has {len(self.factors)} values; must have one for each of workers={workers}"
            )


class SlowRacks(AbstractSlowed):
    """Workers are in `racks` of neighbours. In `slow` racks, drawn once per run, all take `factor` times as long."""

    of: AbstractDelay
    racks: int = eqx.field(static=True)
    slow: Number
    factor: Number

    def __check_init__(self):
        require_whole("delay.racks", self.racks, 1)
        require_number("delay.factor", self.factor)

    def slowness(self, key: Key, t: Number, k: int) -> Float[Array, " k"]:
        slow = jax.random.permutation(jax.random.fold_in(key, RUN), self.racks) < self.slow
        return jnp.where(slow[np.arange(k) * self.racks // k], self.factor, 1).astype(float)

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if there are more racks than workers, or more slow racks than racks."""
        super().check(workers, rounds)
        if self.racks > workers:
            raise ConfigError(f"delay.racks={self.racks}: must be at most workers={workers}")
        if type(self.slow) is not int or not 0 <= self.slow <= self.racks:
            raise ConfigError(f"delay.slow={self.slow}: must be a whole number between 0 and racks={self.racks}")


class Drift(AbstractSlowed):
    """Workers grow slower and faster again, from 1 to `factor` times the time of `of` and back every `period` rounds.

    Each worker is at its own point of the wave, drawn once per run, so that the slow workers of one time are the fast
    ones of another.
    """

    of: AbstractDelay
    factor: Number
    period: Number

    def __check_init__(self):
        require_number("delay.factor", self.factor, above=0.0)
        require_number("delay.period", self.period, above=0.0)

    def slowness(self, key: Key, t: Number, k: int) -> Float[Array, " k"]:
        start = jax.random.uniform(jax.random.fold_in(key, RUN), (k,), jnp.float32).astype(float)
        height = (1 - jnp.cos(2 * jnp.pi * (t / self.period + start))) / 2
        return jnp.asarray(self.factor**height, float)
