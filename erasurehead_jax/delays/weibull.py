"""Independent Weibull sleeps."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import AbstractDelay, unit_exponential
from erasurehead_jax.errors import require_number
from erasurehead_jax.types import Key, Number


class Weibull(AbstractDelay):
    """I.i.d. sleeps with P(sleep > s) = exp(-(s / scale_s)^shape), the same for every load.

    A shape below 1 has a heavier tail than the exponential, which is shape 1.
    """

    scale_s: Number
    shape: Number

    def __check_init__(self):
        require_number("delay.scale_s", self.scale_s)
        require_number("delay.shape", self.shape, above=0.0)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(self.scale_s * unit_exponential(key, t, k) ** (1 / self.shape))
