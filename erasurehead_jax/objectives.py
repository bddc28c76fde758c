"""What is minimised: row losses, and the weighted gradient of some rows. Runs jitted on the workers."""

from abc import abstractmethod
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data import Dataset, Rows
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import AnyArray, Key, Params


class AbstractObjective(eqx.Module):
    """f(x) = (1/N) sum of row losses. Parameters travel as one flat vector and are unravelled inside.

    `metric` names the test metric: `auc` (of `predict` against targets -1 and +1) or `mse`.
    """

    metric: eqx.AbstractClassVar[str]

    @abstractmethod
    def init(self, key: Key, dataset: Dataset) -> Params:
        """The starting point, a function of the key."""

    @abstractmethod
    def check(self, dataset: Dataset) -> None:
        """Raises ConfigError if the targets are not of the kind this objective needs."""

    @abstractmethod
    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        """The score of each row, for one model or several."""

    @abstractmethod
    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        """The loss of each row, for one model or several."""

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        """Sum over rows of weight * gradient of the row's loss with respect to the coordinates in x, a model each."""
        losses, pull_back = jax.vjp(lambda x: self.row_losses(x, rows), jnp.asarray(x))
        return pull_back(jnp.asarray(row_weights, losses.dtype))[0]

    @abstractmethod
    def touched(self, rows: Rows) -> Int[np.ndarray, " t"] | None:
        """The coordinates that these rows can touch, ascending; None = all.

        An objective that names coordinates promises that `gradient(x[touched], rows.restrict(touched), ...)` is the
        gradient on them.
        """


class AbstractLinear(AbstractObjective):
    """Linear models: the loss of a row depends on z = features . x and the target only."""

    start: eqx.AbstractVar[Literal["zeros", "normal"]]

    @abstractmethod
    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        """The row loss."""

    @abstractmethod
    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        """Its derivative with respect to z."""

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
    """log(1 + exp(-y z)), targets -1 and +1."""

    start: Literal["zeros", "normal"] = eqx.field(static=True, default="zeros")
    metric: ClassVar[str] = "auc"

    def check(self, dataset: Dataset) -> None:
        if not np.isin(np.asarray(dataset.train.target), (-1, 1)).all():
            raise ConfigError(f"objective=logistic: needs targets -1 and +1, but data={dataset.name} has numbers")

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

    def check(self, dataset: Dataset) -> None:
        del dataset  # any number will do

    def loss(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return (target - z) ** 2

    def slope(
        self, z: Float[AnyArray, "m *models"], target: Float[AnyArray, "m *#models"]
    ) -> Float[AnyArray, "m *models"]:
        return 2 * (z - target)


def _by_row(rows: Rows, x: AnyArray) -> Float[Array, "m *ones"]:
    """Targets that broadcast against one column a model, in the precision of x."""
    return jnp.asarray(rows.target, x.dtype).reshape((len(rows),) + (1,) * (x.ndim - 1))
