"""Linear models: the loss of a row depends on features . x and the target only."""

from abc import abstractmethod
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data import Dataset, Rows, as_signs, require_numbers
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.objectives.base import AbstractObjective
from erasurehead_jax.types import AnyArray, Key, Params


class AbstractLinear(AbstractObjective):
    """Linear models: the loss of a row depends on z = features . x and the target only."""

    start: eqx.AbstractVar[Literal["zeros", "normal"]]

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
        if self.start not in ("zeros", "normal"):
            raise ConfigError(f"init={self.start}: must be zeros or normal")
        if self.start == "zeros":
            return jnp.zeros(dataset.dim)
        return jax.random.normal(key, (dataset.dim,), jnp.float32).astype(float)  # the same start in every precision

    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        return rows.features.matvec(x)

    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        return jnp.asarray(self.loss(self.predict(x, rows), _by_row(rows, x)))

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        x = jnp.asarray(x)
        slopes = self.slope(rows.features.matvec(x), _by_row(rows, x))
        return rows.features.rmatvec(jnp.asarray(row_weights, x.dtype) * slopes)

    def touched(self, rows: Rows) -> Int[np.ndarray, " t"] | None:
        return rows.features.touched()


class Logistic(AbstractLinear):
    """log(1 + exp(-y z)) for targets -1 and +1; 0 and 1, or two class names, are converted to these."""

    start: Literal["zeros", "normal"] = eqx.field(static=True, default="zeros")
    metric: ClassVar[str] = "auc"

    def check(self, dataset: Dataset) -> Dataset:
        return as_signs(dataset)

    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return jnp.logaddexp(0, -target * z)  # finite for any margin

    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return -target * jax.nn.sigmoid(-target * z)


class LeastSquares(AbstractLinear):
    """(y - z)^2."""

    start: Literal["zeros", "normal"] = eqx.field(static=True, default="zeros")
    metric: ClassVar[str] = "mse"

    def check(self, dataset: Dataset) -> Dataset:
        require_numbers(dataset)
        return dataset

    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return (target - z) ** 2

    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return 2 * (z - target)


def _by_row(rows: Rows, x: AnyArray) -> Float[Array, "m *ones"]:
    """Targets that broadcast against one column per model, in the precision of x."""
    return jnp.asarray(rows.target, x.dtype).reshape((len(rows),) + (1,) * (x.ndim - 1))
