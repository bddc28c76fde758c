"""One-hot features, kept as an index matrix: gathers and scatters, field by field."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data.features.base import AbstractFeatures, taken
from erasurehead_jax.types import AnyArray

# Workers store a field with at most this many categories as dense columns: scattering into a handful of addresses
# stalls (Covertype, where 45 of 55 fields are such: 6.7 ms per block, against 0.7 ms with dense columns).
DENSE_CATEGORIES = 16


class OneHot(AbstractFeatures):
    """Row i has ones in the columns index[:, i], one per field, and zeros elsewhere; the matrix is never formed.

    The index is stored field by field, so that a loop over fields reads x and the rows in order.
    """

    index: Int[AnyArray, "fields m"]
    columns: int = eqx.field(static=True)

    @property
    def rows(self) -> int:
        return self.index.shape[1]

    @property
    def dim(self) -> int:
        return self.columns

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        return _gather(x, self.index, jnp.zeros((self.rows, *x.shape[1:]), x.dtype))

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        return _scatter(r, self.index, jnp.zeros((self.columns, *r.shape[1:]), r.dtype))

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "OneHot":
        return OneHot(taken(self.index, rows, axis=1), self.columns)

    def touched(self) -> Int[np.ndarray, " t"]:
        seen = np.zeros(self.columns, bool)
        seen[np.asarray(self.index)] = True
        return np.flatnonzero(seen)

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "SplitOneHot":
        local = np.zeros(self.columns, np.int32)
        local[columns] = np.arange(len(columns), dtype=np.int32)
        return SplitOneHot.from_index(local[np.asarray(self.index)], len(columns))

    def first_bad(self) -> str | None:
        index = np.asarray(self.index)
        if index.dtype.kind not in "iu":
            return f"index: type {index.dtype}; must be whole numbers"
        if not index.size or (index.min() >= 0 and index.max() < self.columns):
            return None
        row, field = np.argwhere(((index < 0) | (index >= self.columns)).T)[0]
        return f"row {row}, field {field}: {index[field, row]} must be a column, from 0 to {self.columns - 1}"


class SplitOneHot(AbstractFeatures):
    """One-hot rows whose low-cardinality fields are dense columns, with one category per field left out.

    A field with categories b, c1, c2, ... contributes x[b] + sum_j 1[code = cj] (x[cj] - x[b]) to a row, so that b
    needs no column of its own: its gradient is the sum of r minus the gradients of the other categories.
    """

    index: Int[AnyArray, "high m"]
    indicator: Float[AnyArray, "low m"]  # 1[code = cj], float32 or the run's dtype
    left_out: Int[np.ndarray, " fields_low"]  # b of each field
    column: Int[np.ndarray, " low"]  # cj
    left_out_of: Int[np.ndarray, " low"]  # the b of cj's field
    columns: int = eqx.field(static=True)

    @classmethod
    def from_index(cls, index: Int[np.ndarray, "fields m"], columns: int) -> "SplitOneHot":
        """Separates low-cardinality fields by the number of categories present in these rows."""
        categories = [np.unique(field) for field in index]
        low = [f for f, present in enumerate(categories) if len(present) <= DENSE_CATEGORIES]
        pairs = [(f, c) for f in low for c in categories[f][1:]]
        indicator = [index[f] == c for f, c in pairs]
        return cls(
            index=np.delete(index, low, axis=0),
            indicator=np.array(indicator, np.float32).reshape(len(pairs), index.shape[1]),
            left_out=np.array([categories[f][0] for f in low], np.int64),
            column=np.array([c for _, c in pairs], np.int64),
            left_out_of=np.array([categories[f][0] for f, _ in pairs], np.int64),
            columns=columns,
        )

    @property
    def rows(self) -> int:
        return self.index.shape[1]

    @property
    def dim(self) -> int:
        return self.columns

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        low = jnp.tensordot(self._indicator(x.dtype).T, x[self.column] - x[self.left_out_of], 1)
        return _gather(x, self.index, low + x[self.left_out].sum(0))

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        low = jnp.tensordot(self._indicator(r.dtype), r, 1)
        g = jnp.zeros((self.columns, *r.shape[1:]), r.dtype).at[self.left_out].set(r.sum(0))
        g = g.at[self.column].set(low).at[self.left_out_of].add(-low)
        return _scatter(r, self.index, g)

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "SplitOneHot":
        by_row = lambda features: (features.index, features.indicator)
        return eqx.tree_at(by_row, self, tuple(taken(each, rows, axis=1) for each in by_row(self)))

    def touched(self) -> None:
        return None

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "SplitOneHot":
        raise TypeError("these features are already restricted to the columns of a worker")

    def _indicator(self, dtype) -> Float[Array, "low m"]:
        return jnp.asarray(self.indicator, dtype)


def _gather(x, index, start):
    """start[i] + sum over fields f of x[index[f, i]]; the loop over fields compiles once and reads memory in order."""
    if not len(index):
        return start

    def add(z, field):
        return z + x.at[field].get(mode="promise_in_bounds"), None

    # For a few models XLA's loop is slow unless it fuses several fields: 62 ms against 12 for 16 models on Amazon.
    unroll = 1 if x.ndim == 1 else max(1, 256 // x.shape[1])
    return jax.lax.scan(add, start, index, unroll=min(unroll, len(index)))[0]


def _scatter(r, index, start):
    """start with r[i] added at index[f, i] for every field f and row i."""
    if not len(index):
        return start
    return jax.lax.scan(lambda g, field: (g.at[field].add(r, mode="promise_in_bounds"), None), start, index)[0]
