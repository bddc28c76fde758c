"""Real-valued sparse features."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data.features import AbstractFeatures
from erasurehead_jax.types import AnyArray


class Sparse(AbstractFeatures):
    """Row i has the values value[:, i] in the columns index[:, i]; shorter rows end in zeros, in column 0."""

    index: Int[AnyArray, "width m"]
    value: Float[AnyArray, "width m"]
    columns: int = eqx.field(static=True)

    @classmethod
    def from_scipy(cls, matrix: Any) -> "Sparse":
        """From any SciPy sparse matrix (m, d)."""
        csr = matrix.tocsr()
        csr.sum_duplicates()
        counts = np.diff(csr.indptr)
        row = np.repeat(np.arange(csr.shape[0]), counts)
        place = np.arange(csr.nnz) - np.repeat(csr.indptr[:-1], counts)
        index = np.zeros((max(1, counts.max(initial=1)), csr.shape[0]), np.int32)
        value = np.zeros(index.shape, np.result_type(csr.dtype, np.float32))
        index[place, row], value[place, row] = csr.indices, csr.data
        return cls(index, value, csr.shape[1])

    @property
    def rows(self) -> int:
        return self.index.shape[1]

    @property
    def dim(self) -> int:
        return self.columns

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        weights = jnp.asarray(x)

        def add(z, entry):
            column, value = entry
            return z + _beside(value, weights) * weights.at[column].get(mode="promise_in_bounds"), None

        return jax.lax.scan(add, jnp.zeros((self.rows, *x.shape[1:]), x.dtype), self._entries(x.dtype))[0]

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        def add(g, entry):
            column, value = entry
            return g.at[column].add(_beside(value, r) * r, mode="promise_in_bounds"), None

        r = jnp.asarray(r)
        return jax.lax.scan(add, jnp.zeros((self.columns, *r.shape[1:]), r.dtype), self._entries(r.dtype))[0]

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "Sparse":
        return Sparse(self.index[:, rows], self.value[:, rows], self.columns)

    def touched(self) -> Int[np.ndarray, " t"]:
        return np.unique(np.asarray(self.index)[np.asarray(self.value) != 0])

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "Sparse":
        local = np.zeros(self.columns, np.int32)
        local[columns] = np.arange(len(columns), dtype=np.int32)
        return Sparse(local[np.asarray(self.index)], self.value, len(columns))

    def first_bad(self) -> str | None:
        value = np.asarray(self.value)
        if (finite := np.isfinite(value)).all():
            return None
        row, place = np.argwhere(~finite.T)[0]
        return f"row {row}, column {self.index[place, row]}: {value[place, row]} must be a finite number"

    def _entries(self, dtype) -> tuple[Array, Array]:
        return jnp.asarray(self.index), jnp.asarray(self.value, dtype)


def _beside(value: Array, x: Any) -> Array:
    return value.reshape(-1, *[1] * (x.ndim - 1))
