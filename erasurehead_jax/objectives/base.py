"""The interface of objectives: row losses, and the weighted gradient of some rows. Workers run it jitted."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data import Dataset, Rows
from erasurehead_jax.types import AnyArray, Key, Params


class AbstractObjective(eqx.Module):
    """f(x) = (1/N) * sum of row losses. Parameters are passed as one flat vector and unravelled inside.

    `metric` names the test metric: `auc` (of `predict` against targets -1 and +1) or `mse`.
    """

    metric: eqx.AbstractClassVar[str]

    @abstractmethod
    def init(self, key: Key, dataset: Dataset) -> Params:
        """The starting point, which is a function of the key."""

    @abstractmethod
    def check(self, dataset: Dataset) -> Dataset | None:
        """The data set with its targets converted to what this objective needs, or None to keep it unchanged.

        Raises ConfigError for an unsuitable target.
        """

    @abstractmethod
    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        """The score of each row, for one model or several."""

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

        An objective that returns coordinates guarantees that `gradient(x[touched], rows.restrict(touched), ...)` is the
        gradient on them.
        """
