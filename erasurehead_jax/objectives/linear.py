"""Linear models: the loss of a row depends on features . x and the target only."""

from abc import abstractmethod
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data import Dataset, Rows
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.objectives.base import AbstractObjective
from erasurehead_jax.types import AnyArray, Key, Params

Start = Literal["zeros", "normal"]


class AbstractLinear(AbstractObjective):
    """Linear models: the loss of a row depends on z = features . x and the target only."""

    start: eqx.AbstractVar[Start]

    @abstractmethod
    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        """The loss of each row."""

    @abstractmethod
    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        """The derivative of the row loss with respect to z."""

    def init(self, key: Key, dataset: Dataset) -> Params:
        return starting_point(self.start, key, dataset.dim)

    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        return rows.features.matvec(x)

    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        return jnp.asarray(self.loss(rows.features.matvec(x), _by_row(rows, x)))

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        x = jnp.asarray(x)
        slopes = self.slope(rows.features.matvec(x), _by_row(rows, x))
        return rows.features.rmatvec(jnp.asarray(row_weights, x.dtype) * slopes)

    def touched(self, rows: Rows) -> Int[np.ndarray, " t"] | None:
        return rows.features.touched()


def starting_point(start: str, key: Key, size: int) -> Params:
    """Zeros, or standard normal numbers that are the same in every precision. Raises ConfigError for another name."""
    if start not in ("zeros", "normal"):
        raise ConfigError(f"init={start}: must be zeros or normal")
    if start == "zeros":
        return jnp.zeros(size)
    return jax.random.normal(key, (size,), jnp.float32).astype(float)


def _by_row(rows: Rows, x: AnyArray) -> Float[Array, "m *ones"]:
    """Targets that broadcast against one column per model, in the precision of x."""
    return jnp.asarray(rows.target, x.dtype).reshape((len(rows),) + (1,) * (x.ndim - 1))
