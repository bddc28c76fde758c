"""Independent sleeps with a polynomial tail."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import AbstractDelay, unit_exponential
from erasurehead_jax.errors import require_number
from erasurehead_jax.types import Key, Number


class Pareto(AbstractDelay):
    """I.i.d. sleeps with P(sleep > s) = (least_s / s)^index for s >= least_s, the same for every load.

    The mean is infinite for an index of 1 or less, and the variance for one of 2 or less.
    """

    least_s: Number
    index: Number

    def __check_init__(self):
        require_number("delay.least_s", self.least_s)
        require_number("delay.index", self.index, above=0.0)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(self.least_s * jnp.exp(unit_exponential(key, t, k) / self.index))
