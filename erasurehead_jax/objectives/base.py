"""The interface of objectives: row losses, and the weighted gradient of some rows. Workers run it jitted."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from erasurehead_jax.data import Dataset, Rows
from erasurehead_jax.objectives.metrics import Metric
from erasurehead_jax.types import AnyArray, Key, Params


class AbstractObjective(eqx.Module):
    """f(x) = (1/N) * sum of row losses. Parameters are passed as one flat vector and unravelled inside.

    A run checks its data set, binds the objective to what `check` returned, and uses the bound objective only.
    """

    metric: ClassVar[Metric]  # the test metric, which each objective must have; a property may take its place

    @abstractmethod
    def init(self, key: Key, dataset: Dataset) -> Params:
        """The starting point, which is a function of the key."""

    @abstractmethod
    def check(self, dataset: Dataset) -> Dataset | None:
        """The data set with its targets converted to what this objective needs, or None to keep it unchanged.

        Raises ConfigError for an unsuitable target.
        """

    def bind(self, dataset: Dataset) -> "AbstractObjective":
        """The objective for a data set that was checked: it may learn the number of classes, say. By default itself."""
        del dataset
        return self

    def try_out(self, dataset: Dataset) -> None:
        """Tries the bound objective on a few rows; called once a job, and not on every rank. Raises ConfigError."""

    @abstractmethod
    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *scores"]:
        """The score of each row, or its scores (one a class), for one model or several as the last axis."""

    @abstractmethod
    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        """The loss of each row, for one model or several."""

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        """Sum over rows of weight * gradient of the row's loss with respect to x, for one model or several."""
        losses, pull_back = jax.vjp(lambda x: self.row_losses(x, rows), jnp.asarray(x))
        return pull_back(jnp.asarray(row_weights, losses.dtype))[0]

    @abstractmethod
    def touched(self, rows: Rows) -> Int[np.ndarray, " t"] | None:
        """The coordinates that the gradient of these rows can touch, in ascending order; None means all.

        An objective that returns coordinates guarantees that `gradient(x[touched], restrict(rows, touched), ...)` is
        the gradient on them.
        """

    def restrict(self, rows: Rows, touched: Int[np.ndarray, " t"] | None) -> Rows:
        """The rows for gradients on these coordinates (None: all). By default a coordinate is a column."""
        return rows.restrict(touched)

    def params(self, x: Params) -> PyTree:
        """The parameters as the user knows them. By default the vector itself."""
        return x

    def decide(self, scores: Float[AnyArray, "m *outputs"], classes: tuple[Any, ...] | None) -> Shaped[np.ndarray, "m"]:
        """The predictions for people: the name of each row's class, or a number. By default the scores."""
        del classes
        return np.asarray(scores)

    def probabilities(self, scores: Float[AnyArray, "m *outputs"]) -> Float[np.ndarray, "m K"] | None:
        """The probability of each class, or None for an objective that has none."""
        del scores
        return None
