"""Linear models of two classes: targets are -1 and +1, and a positive margin z stands for +1."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from erasurehead_jax.data import Dataset, as_signs
from erasurehead_jax.objectives.labels import class_of, probabilities_of
from erasurehead_jax.objectives.linear import AbstractLinear, Start
from erasurehead_jax.objectives.metrics import AUC, Metric
from erasurehead_jax.types import AnyArray


class Logistic(AbstractLinear):
    """log(1 + exp(-y z)) for targets -1 and +1; any two classes are converted to these."""

    start: Start = eqx.field(static=True, default="zeros")
    metric: ClassVar[Metric] = AUC

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

    def decide(self, scores: Float[AnyArray, " m"], classes: tuple[Any, ...] | None) -> Shaped[np.ndarray, " m"]:
        return class_of(scores, classes)

    def probabilities(self, scores: Float[AnyArray, " m"]) -> Float[np.ndarray, "m 2"]:
        return probabilities_of(scores)


class SquaredHinge(AbstractLinear):
    """max(0, 1 - y z)^2, the loss of a linear support vector machine; targets are those of `Logistic`."""

    start: Start = eqx.field(static=True, default="zeros")
    metric: ClassVar[Metric] = AUC

    def check(self, dataset: Dataset) -> Dataset:
        return as_signs(dataset, "squared_hinge")

    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return jnp.maximum(1 - target * z, 0) ** 2

    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return -2 * target * jnp.maximum(1 - target * z, 0)

    def decide(self, scores: Float[AnyArray, " m"], classes: tuple[Any, ...] | None) -> Shaped[np.ndarray, " m"]:
        return class_of(scores, classes)
