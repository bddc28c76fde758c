"""What every straggler model provides: the extra seconds a worker sleeps before it answers."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.types import Key, Number

RUN = np.uint32(2**32 - 1)  # folded in instead of a round: what is drawn once a run


class AbstractDelay(eqx.Module):
    """Both backends ask for `sample(key, t, k, load)`, and worker j sleeps entry j in round t: the same key injects
    the same delays everywhere. The key is the run's, so that a model can have workers that stay slow."""

    @abstractmethod
    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        """Seconds in round t for each of k workers that hold this fraction of the data. `t` may be traced."""

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if the model cannot serve so many workers and rounds."""


class NoDelay(AbstractDelay):
    """The machine's own speed."""

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.zeros(k)


def unit_exponential(key: Key, t: Number, k: int) -> Float[Array, " k"]:
    """Standard exponentials, drawn in float32, so that a seed means the same delays in every precision."""
    return jax.random.exponential(jax.random.fold_in(key, t), (k,), jnp.float32).astype(float)
