"""Real-valued sparse features, in compressed rows."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from erasurehead_jax.data.features.base import AbstractFeatures
from erasurehead_jax.data.features.batch import PaddedSparse, SomeRows
from erasurehead_jax.data.features.segments import Segments, product, scaled
from erasurehead_jax.types import AnyArray

PADDED_COST = 3  # of an entry of a mini-batch, padding included, in entries of all rows
CHUNK = 2**14  # entries processed together, which bounds the memory for several models


class Sparse(AbstractFeatures):
    """Row i has the entries value[start[i]:start[i+1]] in the columns column[start[i]:start[i+1]] (SciPy's CSR)."""

    value: Shaped[AnyArray, " entries"]
    column: Int[AnyArray, " entries"]
    start: Int[AnyArray, " m_plus_1"]
    columns: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)  # the largest number of entries of a row

    @classmethod
    def from_scipy(cls, matrix: Any) -> "Sparse":
        """From a SciPy matrix or array of any sparse format; entries at the same place are added, zeros dropped."""
        from scipy.sparse import csr_array

        rows = csr_array(matrix, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        start, column = (np.asarray(each, np.int32) for each in (rows.indptr, rows.indices))
        return cls(np.asarray(rows.data), column, start, int(rows.shape[1]), _longest(start))  # pyright: ignore

    @property
    def rows(self) -> int:
        return len(self.start) - 1

    @property
    def dim(self) -> int:
        return self.columns

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        return self._sum(jnp.asarray(x), self.rows, to=self._row_of_entry(), at=self.column)

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        return self._sum(jnp.asarray(r), self.columns, to=self.column, at=self._row_of_entry())

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> AbstractFeatures:
        if isinstance(rows, jax.Array):
            few = self.longest * len(rows) <= len(self.value)
            return self.padded(rows) if few else SomeRows(self, rows)
        return self.numbered(rows)

    def numbered(self, rows: Int[np.ndarray, " taken"] | slice) -> "Sparse":
        """The rows of these numbers, which are not traced."""
        rows = np.arange(self.rows)[rows]
        start = np.asarray(self.start, np.int64)
        lengths = start[rows + 1] - start[rows]
        ends = np.cumsum(lengths)
        entry = np.repeat(start[rows] - ends + lengths, lengths) + np.arange(lengths.sum())
        begins = np.append(0, ends).astype(np.int32)
        return Sparse(self.value[entry], self.column[entry], begins, self.columns, _longest(begins))

    def padded(self, rows: Int[Array, " taken"]) -> PaddedSparse:
        """The rows of these numbers, which may be traced, all as long as the longest."""
        start = jnp.asarray(self.start)
        begin, end = (start.at[at].get(mode="promise_in_bounds") for at in (rows, rows + 1))
        entry = begin + jnp.arange(self.longest, dtype=start.dtype)[:, None]
        inside = entry < end
        entry = jnp.where(inside, entry, 0)
        value, column = (jnp.asarray(each).at[entry].get(mode="clip") for each in (self.value, self.column))
        return PaddedSparse(jnp.where(inside, value, 0), column, self.columns)

    def touched(self) -> Int[np.ndarray, " t"]:
        seen = np.zeros(self.columns, bool)
        seen[np.asarray(self.column)] = True
        return np.flatnonzero(seen)

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "PackedSparse":
        local = np.zeros(self.columns, np.int32)
        local[columns] = np.arange(len(columns), dtype=np.int32)
        column, start = local[np.asarray(self.column)], np.asarray(self.start)
        return PackedSparse.from_entries(Sparse(np.asarray(self.value), column, start, len(columns), self.longest))

    def first_bad(self) -> str | None:
        value, column, start = map(np.asarray, (self.value, self.column, self.start))
        if value.dtype.kind not in "fiub":
            return f"features: type {value.dtype}; must be numbers"
        row_of = lambda entry: np.searchsorted(start, entry, side="right") - 1
        if column.size and not (column.min() >= 0 and column.max() < self.columns):
            entry = int(np.argmax((column < 0) | (column >= self.columns)))
            return f"row {row_of(entry)}: {column[entry]} must be a column, from 0 to {self.columns - 1}"
        if not (finite := np.isfinite(value)).all():
            entry = int(np.argmin(finite))
            return f"row {row_of(entry)}, column {column[entry]}: {value[entry]} must be a finite number"
        return None

    def _row_of_entry(self) -> Int[Array, " entries"]:
        lengths = jnp.diff(jnp.asarray(self.start))
        return jnp.repeat(jnp.arange(self.rows), lengths, total_repeat_length=len(self.value))

    def _sum(self, source: Array, size: int, to: AnyArray, at: AnyArray) -> Array:
        """Adds value * source[at] to zeros, at `to`, chunk by chunk."""
        entries = (jnp.asarray(self.value, source.dtype), jnp.asarray(to), jnp.asarray(at))

        def add(total, chunk):
            value, to, at = chunk
            terms = scaled(value, source.at[at].get(mode="promise_in_bounds"))
            return total.at[to].add(terms, mode="promise_in_bounds"), None

        total = jnp.zeros((size, *source.shape[1:]), source.dtype)
        chunks = len(self.value) // CHUNK
        if chunks:
            total, _ = jax.lax.scan(add, total, [e[: chunks * CHUNK].reshape(chunks, CHUNK) for e in entries])
        return add(total, [e[chunks * CHUNK :] for e in entries])[0]


class PackedSparse(AbstractFeatures):
    """Sparse rows of a worker, by row and by column, so that both products are gathers: XLA's scatters are slower."""

    entries: Sparse
    by_row: Segments
    by_column: Segments

    @classmethod
    def from_entries(cls, entries: Sparse) -> "PackedSparse":
        """Arranges these entries."""
        from scipy.sparse import csr_array

        rows = csr_array((entries.value, entries.column, entries.start), (entries.rows, entries.columns))
        return cls(entries, Segments.from_csr(rows), Segments.from_csr(rows.T.tocsr()))

    @property
    def rows(self) -> int:
        return self.entries.rows

    @property
    def dim(self) -> int:
        return self.entries.columns

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        return product(self.by_row, self.by_column, jnp.asarray(x))

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        return product(self.by_column, self.by_row, jnp.asarray(r))

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> AbstractFeatures:
        if isinstance(rows, jax.Array):
            few = PADDED_COST * self.entries.longest * len(rows) <= len(self.entries.value)
            return self.entries.padded(rows) if few else SomeRows(self, rows)
        return PackedSparse.from_entries(self.entries.numbered(rows))

    def touched(self) -> None:
        return None

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "PackedSparse":
        raise TypeError("these features are already restricted to the columns of a worker")


def _longest(start: Int[np.ndarray, " m_plus_1"]) -> int:
    return int(np.diff(start).max(initial=1))
