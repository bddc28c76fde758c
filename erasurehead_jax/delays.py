"""Straggler models: the extra seconds a worker sleeps before it answers."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.errors import require_number
from erasurehead_jax.types import Key, Number


class AbstractDelay(eqx.Module):
    """Every rank draws `sample(fold_in(key, round), k, load)` and worker j sleeps entry j, so the same key injects
    the same delays wherever it runs."""

    @abstractmethod
    def sample(self, key: Key, k: int, load: Number) -> Float[Array, " k"]:
        """Seconds for each of k workers that hold this fraction of the data."""


class NoDelay(AbstractDelay):
    """The machine's own speed."""

    def sample(self, key: Key, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.zeros(k)


class Exponential(AbstractDelay):
    """I.i.d. exponential sleeps of mean `mean_s` seconds, the same for every load.

    The published code's: it sleeps with *mean* 0.5 s (section 5.1 of the paper says "parameter 1/2").
    """

    mean_s: Number

    def __check_init__(self):
        require_number("delay.mean_s", self.mean_s)

    def sample(self, key: Key, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(self.mean_s * _exponential(key, k))


class ShiftedExponential(AbstractDelay):
    """load * (shift_s + exponential of mean mean_s): compute time that scales with the load.

    Section 4 of the paper (equations 7 and 8): the whole data takes one node shift_s + Exp(mean_s) seconds, a fraction
    of it takes that fraction of the time. The paper's unit is shift_s = 1, mean_s = 1/lambda.
    """

    shift_s: Number
    mean_s: Number

    def __check_init__(self):
        require_number("delay.shift_s", self.shift_s)
        require_number("delay.mean_s", self.mean_s)

    def sample(self, key: Key, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(load * (self.shift_s + self.mean_s * _exponential(key, k)))


def _exponential(key: Key, k: int) -> Float[Array, " k"]:
    """Drawn in float32, so that a seed means the same delays in every precision."""
    return jax.random.exponential(key, (k,), jnp.float32).astype(float)
