"""Constants, sums of straggler models, and models that grow with the load."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import AbstractDelay
from erasurehead_jax.errors import ConfigError, require_number
from erasurehead_jax.types import Key, Number


class Constant(AbstractDelay):
    """The same time for every worker and round: the part of a sum that does not vary."""

    delay_s: Number

    def __check_init__(self):
        require_number("delay.delay_s", self.delay_s)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.full(k, self.delay_s, float)


class Sum(AbstractDelay):
    """The sum of models, which are independent of each other: a network after a computation, say."""

    parts: tuple[AbstractDelay, ...]

    def __init__(self, parts: Sequence[AbstractDelay]):
        if not parts:
            raise ConfigError("delay.parts=[]: must have at least one model")
        self.parts = tuple(parts)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        keys = jax.random.split(key, len(self.parts))
        drawn = [part.sample(own, t, k, load) for own, part in zip(keys, self.parts, strict=True)]
        return jnp.sum(jnp.stack(drawn), axis=0)

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if a part does not support this number of workers or rounds."""
        for part in self.parts:
            part.check(workers, rounds)


class LoadDependent(AbstractDelay):
    """The time that `of` says is for all the data; a worker takes the share that it holds."""

    of: AbstractDelay

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return self.of.sample(key, t, k, load) * load

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if `of` does not support this number of workers or rounds."""
        self.of.check(workers, rounds)
