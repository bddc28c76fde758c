"""Independent exponential sleeps."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import AbstractDelay, unit_exponential
from erasurehead_jax.errors import require_number
from erasurehead_jax.types import Key, Number


class Exponential(AbstractDelay):
    """I.i.d. exponential sleeps of mean `mean_s` seconds, the same for every load.

    This is the published code's model, whose *mean* is 0.5 s (section 5.1 of the paper calls it "parameter 1/2").
    """

    mean_s: Number

    def __check_init__(self):
        require_number("delay.mean_s", self.mean_s)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(self.mean_s * unit_exponential(key, t, k))


class ShiftedExponential(AbstractDelay):
    """load * (shift_s + exponential of mean mean_s): compute time that scales with the load.

    Section 4 of the paper (equations 7 and 8): one node takes shift_s + Exp(mean_s) seconds for the whole data set, and
    proportionally less for a fraction of it. The paper's unit is shift_s = 1, mean_s = 1/lambda.
    """

    shift_s: Number
    mean_s: Number

    def __check_init__(self):
        require_number("delay.shift_s", self.shift_s)
        require_number("delay.mean_s", self.mean_s)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(load * (self.shift_s + self.mean_s * unit_exponential(key, t, k)))
