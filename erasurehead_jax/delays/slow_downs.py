"""Workers that are slow now and then: in single rounds, or in bursts of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from erasurehead_jax.delays.base import AbstractDelay, AbstractSlowed
from erasurehead_jax.errors import ConfigError, require_number
from erasurehead_jax.types import Key, Number


class SlowDowns(AbstractSlowed):
    """Each worker takes `factor` times as long as `of` says in a share of the rounds, independently (Bernoulli)."""

    of: AbstractDelay
    share: Number
    factor: Number

    def __check_init__(self):
        require_number("delay.share", self.share, at_most=1.0)
        require_number("delay.factor", self.factor)

    def slowness(self, key: Key, t: Number, k: int) -> Float[Array, " k"]:
        slow = jax.random.uniform(jax.random.fold_in(key, t), (k,), jnp.float32) < self.share
        return jnp.where(slow, self.factor, 1).astype(float)


class Bursts(AbstractSlowed):
    """Each worker takes `factor` times as long as `of` says in bursts of `length` rounds on average (Gilbert-Elliott).

    `share` is the fraction of rounds that are slow. The two-state Markov chain is stationary from the first round on.
    Written as a chain that keeps its state or draws a new one, it gives the state of any round without the rounds
    before the last draw.
    """

    of: AbstractDelay
    share: Number
    length: Number
    factor: Number

    def __check_init__(self):
        require_number("delay.share", self.share, at_most=1.0)
        require_number("delay.length", self.length, above=0.0)
        require_number("delay.factor", self.factor)
        if any(hasattr(each, "dtype") for each in (self.share, self.length)):
            return
        if self.share == 1:
            raise ConfigError("delay.share=1: must be below 1; workers that are always slow are delay=unequal_workers")
        if self._renewal > 1:
            least = f"at least 1 / (1 - share) = {1 / (1 - self.share):.3g} rounds, the length of bursts by chance"
            raise ConfigError(f"delay.length={self.length}: must be {least}")

    @property
    def _renewal(self) -> Number:
        """The probability that a worker's state is drawn anew in a round."""
        return 1 / (self.length * (1 - self.share))

    def slowness(self, key: Key, t: Number, k: int) -> Float[Array, " k"]:
        return jnp.where(self.slow(key, t, k), self.factor, 1).astype(float)

    def slow(self, key: Key, t: Number, k: int) -> Bool[Array, " k"]:
        """The workers that are slow in round t."""

        def look_back(seen):
            s, known, slow = seen
            drawn, state = jax.random.uniform(jax.random.fold_in(key, s), (2, k), jnp.float32)
            new = ~known & ((drawn < self._renewal) | (s == 0))
            return s - 1, known | new, jnp.where(new, state < self.share, slow)

        nobody = jnp.zeros(k, bool)
        start = jnp.asarray(t, jnp.int32), nobody, nobody
        return jax.lax.while_loop(lambda seen: ~seen[1].all(), look_back, start)[2]
