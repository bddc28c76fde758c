"""Independent gamma sleeps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import AbstractDelay
from erasurehead_jax.errors import require_number
from erasurehead_jax.types import Key, Number


class Gamma(AbstractDelay):
    """I.i.d. gamma sleeps of mean `mean_s` seconds, the same for every load.

    A whole `shape` is the time of so many exponential steps, one after another; shape 1 is the exponential.
    """

    mean_s: Number
    shape: Number

    def __check_init__(self):
        require_number("delay.mean_s", self.mean_s)
        require_number("delay.shape", self.shape, above=0.0)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        shape = jnp.asarray(self.shape, jnp.float32)
        drawn = jax.random.gamma(jax.random.fold_in(key, t), shape, (k,), jnp.float32).astype(float)
        return jnp.asarray(self.mean_s / self.shape * drawn)
