"""Workers that stay slow for a whole run."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import RUN, AbstractDelay, unit_exponential
from erasurehead_jax.errors import ConfigError, require_number
from erasurehead_jax.types import Key, Number


class SlowWorkers(AbstractDelay):
    """Exponential sleeps of mean `mean_s` seconds; `slow` workers, drawn once per run, sleep `factor` times as long.

    Recorded clusters behave like this: about one node in ten is ten times slower for hundreds of rounds.
    """

    mean_s: Number
    slow: Number
    factor: Number

    def __check_init__(self):
        require_number("delay.mean_s", self.mean_s)
        require_number("delay.factor", self.factor)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        is_slow = jax.random.permutation(jax.random.fold_in(key, RUN), k) < self.slow
        return jnp.asarray(self.mean_s * jnp.where(is_slow, self.factor, 1) * unit_exponential(key, t, k))

    def check(self, workers: int, rounds: int) -> None:
        if type(self.slow) is not int or not 0 <= self.slow <= workers:
            raise ConfigError(f"delay.slow={self.slow}: must be a whole number between 0 and workers={workers}")
