"""Linear models of numbers."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.data import Dataset, Rows, require_counts, require_numbers
from erasurehead_jax.errors import require_number
from erasurehead_jax.objectives.linear import AbstractLinear, Start
from erasurehead_jax.objectives.metrics import DEVIANCE, MAE, MSE, Metric
from erasurehead_jax.types import AnyArray


class LeastSquares(AbstractLinear):
    """(y - z)^2."""

    start: Start = eqx.field(static=True, default="zeros")
    metric: ClassVar[Metric] = MSE

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


class Huber(AbstractLinear):
    """(y - z)^2 / 2 up to |y - z| = delta, and delta (|y - z| - delta / 2) beyond, where outliers pull no harder."""

    delta: float = eqx.field(static=True, default=1.0)
    start: Start = eqx.field(static=True, default="zeros")
    metric: ClassVar[Metric] = MAE

    def __check_init__(self):
        require_number("objective.delta", self.delta, above=0.0)

    def check(self, dataset: Dataset) -> Dataset:
        require_numbers(dataset)
        return dataset

    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        off = jnp.abs(target - z)
        near = jnp.minimum(off, self.delta)
        return near * (off - near / 2)

    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return jnp.clip(z - target, -self.delta, self.delta)


class Poisson(AbstractLinear):
    """exp(z) - y z for counts y, of which exp(z) is the predicted mean."""

    start: Start = eqx.field(static=True, default="zeros")
    metric: ClassVar[Metric] = DEVIANCE

    def check(self, dataset: Dataset) -> Dataset:
        require_counts(dataset)
        return dataset

    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        return jnp.exp(rows.features.matvec(x))

    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return jnp.exp(z) - target * z

    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return jnp.exp(z) - target
