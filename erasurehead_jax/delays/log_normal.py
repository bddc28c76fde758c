"""Independent log-normal sleeps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import AbstractDelay
from erasurehead_jax.errors import require_number
from erasurehead_jax.types import Key, Number


class LogNormal(AbstractDelay):
    """I.i.d. sleeps whose logarithm is normal with standard deviation `sigma`, the same for every load."""

    median_s: Number
    sigma: Number

    def __check_init__(self):
        require_number("delay.median_s", self.median_s)
        require_number("delay.sigma", self.sigma)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        normal = jax.random.normal(jax.random.fold_in(key, t), (k,), jnp.float32)
        return jnp.asarray(self.median_s * jnp.exp(self.sigma * normal.astype(float)))
