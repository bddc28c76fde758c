"""Dense features."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from erasurehead_jax.data.features.base import AbstractFeatures, taken
from erasurehead_jax.types import AnyArray


class Dense(AbstractFeatures):
    """An array of numbers whose first axis is the rows: a matrix, or images. A linear model sees it flattened."""

    matrix: Shaped[AnyArray, "m *shape"]

    @property
    def rows(self) -> int:
        return self.matrix.shape[0]

    @property
    def dim(self) -> int:
        return math.prod(self.matrix.shape[1:])

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.matrix.shape[1:]

    def inputs(self, dtype: np.dtype) -> Array:
        return jnp.asarray(self.matrix, dtype)

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        return jnp.tensordot(self._flat(x.dtype), jnp.asarray(x), 1)

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        return jnp.tensordot(self._flat(r.dtype).T, jnp.asarray(r), 1)

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "Dense":
        return Dense(taken(self.matrix, rows))

    def touched(self) -> None:
        return None

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "Dense":
        return Dense(np.asarray(self.matrix).reshape(self.rows, -1)[:, columns])

    def first_bad(self) -> str | None:
        matrix = np.asarray(self.matrix)
        if matrix.dtype.kind not in "fiub":
            return f"features: type {matrix.dtype}; must be numbers"
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(matrix.sum()) or (finite := np.isfinite(matrix)).all():  # the sum allocates no second matrix
                return None
        row, *column = np.argwhere(~finite)[0].tolist()
        where = ", ".join(map(str, column))
        return f"row {row}, column {where}: {matrix[row, *column]} must be a finite number"

    def _flat(self, dtype: np.dtype) -> Float[Array, "m d"]:
        return jnp.asarray(self.matrix, dtype).reshape(self.rows, -1)
