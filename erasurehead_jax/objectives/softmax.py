"""The linear model of several classes."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from erasurehead_jax.data import Dataset, Rows, as_classes
from erasurehead_jax.objectives.base import AbstractObjective
from erasurehead_jax.objectives.labels import class_of, probabilities_of
from erasurehead_jax.objectives.linear import Start, starting_point
from erasurehead_jax.objectives.metrics import ACCURACY, Metric
from erasurehead_jax.types import AnyArray, Key, Params


class Softmax(AbstractObjective):
    """-log softmax(z)[y] for K classes y, two or more, and logits z = features @ W.

    The parameters are W (columns, K), flattened row by row.
    """

    start: Start = eqx.field(static=True, default="zeros")
    classes: int | None = eqx.field(static=True, default=None)  # K, which `bind` sets
    metric: ClassVar[Metric] = ACCURACY

    def init(self, key: Key, dataset: Dataset) -> Params:
        return starting_point(self.start, key, dataset.dim * self._K)

    def check(self, dataset: Dataset) -> Dataset:
        return as_classes(dataset)

    def bind(self, dataset: Dataset) -> "Softmax":
        assert dataset.classes is not None
        return dataclasses.replace(self, classes=len(dataset.classes))

    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m K *models"]:
        return rows.features.matvec(jnp.reshape(x, (rows.features.dim, -1, *x.shape[1:])))

    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        z = self.predict(x, rows)
        return jax.nn.logsumexp(z, axis=1) - jnp.where(_is_class(rows, z), z, 0).sum(1)

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        z = self.predict(x, rows)
        slopes = jax.nn.softmax(z, axis=1) - _is_class(rows, z)
        return rows.features.rmatvec(jnp.asarray(row_weights, z.dtype)[:, None] * slopes).reshape(x.shape)

    def touched(self, rows: Rows) -> Int[np.ndarray, " t"] | None:
        columns = rows.features.touched()
        return None if columns is None else (columns[:, None] * self._K + np.arange(self._K)).reshape(-1)

    def restrict(self, rows: Rows, touched: Int[np.ndarray, " t"] | None) -> Rows:
        return rows.restrict(None if touched is None else touched[:: self._K] // self._K)

    def params(self, x: Params) -> Float[AnyArray, "columns K"]:
        return x.reshape(-1, self._K)

    def decide(self, scores: Float[AnyArray, "m K"], classes: tuple[Any, ...] | None) -> Shaped[np.ndarray, " m"]:
        return class_of(scores, classes)

    def probabilities(self, scores: Float[AnyArray, "m K"]) -> Float[np.ndarray, "m K"]:
        return probabilities_of(scores)

    @property
    def _K(self) -> int:
        if self.classes is None:
            raise TypeError("bind(dataset) first: the number of classes is that of the data")
        return self.classes


def _is_class(rows: Rows, z: Float[Array, "m K *models"]) -> Array:
    """Whether each score is that of the row's class, (m, K, 1, ...), one 1 for each axis of models."""
    codes = jnp.asarray(rows.target).astype(int)
    return (codes[:, None] == jnp.arange(z.shape[1])).reshape(z.shape[:2] + (1,) * (z.ndim - 2))
