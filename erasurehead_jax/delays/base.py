"""The interface of straggler models: the seconds a worker sleeps before it answers."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.types import Key, Number

RUN = np.uint32(2**32 - 1)  # folded into the key in place of a round, for what is drawn once per run


class AbstractDelay(eqx.Module):
    """A straggler model. In round t, worker j sleeps entry j of `sample(key, t, k, load)`.

    Both backends call `sample` with the key of the run, so that a key injects the same delays everywhere and a model
    can have workers that stay slow throughout a run.
    """

    @abstractmethod
    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        """Seconds in round t for each of k workers that hold the fraction `load` of the data. `t` may be traced."""

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if the model does not support this number of workers or rounds."""


class NoDelay(AbstractDelay):
    """No injected delay."""

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.zeros(k)


def unit_exponential(key: Key, t: Number, k: int) -> Float[Array, " k"]:
    """Standard exponentials, drawn in float32 so that a seed gives the same delays in every precision."""
    return jax.random.exponential(jax.random.fold_in(key, t), (k,), jnp.float32).astype(float)
