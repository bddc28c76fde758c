"""The interface of straggler models: the seconds a worker sleeps before it answers."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.types import Key, Number

RUN = np.uint32(2**32 - 1)  # folded into the key in place of a round, for what is drawn once per run
INNER = np.uint32(2**32 - 2)  # the same for the key of a model inside another


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


class AbstractSlowed(AbstractDelay):
    """A model whose workers take a factor times as long as another model, `of`, says."""

    of: eqx.AbstractVar[AbstractDelay]

    @abstractmethod
    def slowness(self, key: Key, t: Number, k: int) -> Float[Array, " k"]:
        """How many times as long each worker takes in round t."""

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        """The seconds of `of`, multiplied."""
        return self.of.sample(jax.random.fold_in(key, INNER), t, k, load) * self.slowness(key, t, k)

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if `of` does not support this number of workers or rounds."""
        self.of.check(workers, rounds)


def unit_exponential(key: Key, t: Number, k: int) -> Float[Array, " k"]:
    """Standard exponentials, drawn in float32 so that a seed gives the same delays in every precision."""
    return jax.random.exponential(jax.random.fold_in(key, t), (k,), jnp.float32).astype(float)
