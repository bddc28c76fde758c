"""Products of a sparse matrix by gathers alone: rows are cut into segments of a few lengths, which XLA sums quickly.

XLA compiles a loop over gathers of equal length well, and scatters badly. A row is cut into segments; segments of about
the same length make a group and are padded to one length. The sums of several segments of a row are added likewise, on
the next level.
"""

from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Shaped, UInt

from erasurehead_jax.types import AnyArray

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CHAINS = 4  # sums of a long segment that are carried on side by side, because an addition waits for the one before
UNROLLED = 8  # segments up to this length are summed as one expression
FUSED = 8  # entries of a segment that are added in one step for several models: 7 ms against 18 for 16 models
LEAST = 8192  # entries of a group; smaller groups are padded to the next length, because a group costs microseconds


class Group(eqx.Module):
    """Segments of one length, as (length, segments) or, for long ones, (CHAINS, segments, length / CHAINS)."""

    value: Shaped[AnyArray, "..."]
    index: UInt[AnyArray, "..."]  # unsigned, because JAX would look for negative ones

    @property
    def segments(self) -> int:
        return self.index.shape[1]

    def sums(self, x: Shaped[Array, "d *models"]) -> Shaped[Array, "segments *models"]:
        """The sum of value * x[index] over each segment."""
        value = jnp.asarray(self.value, x.dtype)
        if x.ndim > 1:
            return self._sums_of_models(x, value)
        terms = [_gather(x, index) * v for index, v in zip(self.index, value, strict=True)]
        if self.index.ndim == 2:
            return reduce(add, terms)
        zero = jnp.zeros((), x.dtype)
        each = lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True))
        a, b, c, d = lax.reduce(tuple(terms), (zero,) * CHAINS, each, (1,))
        return (a + b) + (c + d)

    def _sums_of_models(self, x: Array, value: Array) -> Array:
        by_entry = lambda array: jnp.moveaxis(jnp.asarray(array), 1, -1).reshape(-1, self.segments)

        def step(total, entries):
            v, index = entries
            return total + scaled(v, x.at[index].get(mode="promise_in_bounds")), None

        start = jnp.zeros((self.segments, *x.shape[1:]), x.dtype)
        unroll = min(FUSED, self.index.size // max(1, self.segments))
        return lax.scan(step, start, (by_entry(value), by_entry(self.index)), unroll=unroll)[0]


class Segments(eqx.Module):
    """A sparse matrix for products with vectors."""

    levels: tuple[tuple[Group, ...], ...]
    place: UInt[AnyArray, " m"]  # of each row's sum among the sums of all segments
    one: Float[AnyArray, ""]

    @classmethod
    def from_csr(cls, matrix: Any) -> "Segments":
        """From a SciPy CSR array."""
        entries = Entries(_and_zero(matrix.data), _and_zero(matrix.indices), matrix.indptr)
        row = np.arange(matrix.shape[0])  # that the sums of this level belong to
        place = np.zeros(matrix.shape[0], np.int64)
        levels, sums = [], 0
        while True:
            groups, owner = _cut(entries)
            levels.append(groups)
            count = np.bincount(owner, minlength=len(row))
            done = count[owner] == 1
            place[row[owner[done]]] = sums + np.flatnonzero(done)
            if done.all():
                return cls(tuple(levels), place.astype(_smallest(place)), np.ones((), np.float32))
            several = np.flatnonzero(count > 1)
            left = np.flatnonzero(~done)
            left = left[np.argsort(owner[left], kind="stable")]
            start = np.append(0, np.cumsum(count[several]))
            entries = Entries(_and_zero(np.ones(len(left), np.float32)), _and_zero(sums + left), start)
            row = row[several]
            sums += len(owner)

    def __matmul__(self, x: Shaped[Array, "d *models"]) -> Shaped[Array, "m *models"]:
        # XLA merges a cheap computation into the gathers that read its result, and repeats it for each; a division
        # counts as expensive, and it cannot know that it divides by one.
        if not len(x):
            return jnp.zeros((len(self.place), *x.shape[1:]), x.dtype)
        one = jnp.asarray(self.one, x.dtype)
        sums = jnp.zeros((sum(group.segments for level in self.levels for group in level), *x.shape[1:]), x.dtype)
        source, at = x / one, 0
        for groups in self.levels:
            for group in groups:
                sums = lax.dynamic_update_slice_in_dim(sums, group.sums(source), at, 0)
                at += group.segments
            source = sums
        return _gather(sums / one, self.place)


class Entries(NamedTuple):
    """Rows in compressed form, and a zero after the last of them, which fills segments up."""

    value: Shaped[np.ndarray, " entries_and_zero"]
    source: Int[np.ndarray, " entries_and_zero"]
    start: Int[np.ndarray, " m_plus_1"]


@jax.custom_vjp
def product(matrix: Segments, transposed: Segments, x: Array) -> Array:
    """matrix @ x, whose derivative is a product with the transposed matrix, not a scatter."""
    del transposed
    return matrix @ x


def _forward(matrix: Segments, transposed: Segments, x: Array) -> tuple[Array, Segments]:
    return matrix @ x, transposed


def _backward(transposed: Segments, r: Array) -> tuple[None, None, Array]:
    return None, None, transposed @ r


product.defvjp(_forward, _backward)


def scaled(value: Shaped[AnyArray, "*n"], x: Shaped[Array, "*n_models"]) -> Array:
    """value * x, where x has one axis more for models."""
    value = jnp.asarray(value, x.dtype)
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim)) * x


def _gather(x: Array, index: AnyArray) -> Array:
    """x[index]; `x.at[index].get` would make sure that no index is negative."""
    dims = lax.GatherDimensionNumbers(
        offset_dims=tuple(range(index.ndim, index.ndim + x.ndim - 1)), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    slices = (1, *x.shape[1:])
    return lax.gather(x, index[..., None], dims, slices, mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS)


def _cut(entries: Entries) -> tuple[tuple[Group, ...], Int[np.ndarray, " segments"]]:
    """The segments of all rows in groups, and the row of each segment. An empty row has one segment, of zeros."""
    longest = LENGTHS[-1]
    lengths = np.diff(entries.start)
    count = np.maximum(1, -(-lengths // longest))
    row = np.repeat(np.arange(len(lengths)), count)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    begin = entries.start[row] + nth * longest
    size = np.minimum(lengths[row] - nth * longest, longest)
    padded = np.array(LENGTHS)[np.searchsorted(LENGTHS, size)]
    for length, longer in pairwise(LENGTHS):
        here = padded == length
        if here.sum() * length < LEAST:
            padded[here] = longer
    order = np.argsort(padded, kind="stable")
    row, begin, size, padded = (each[order] for each in (row, begin, size, padded))
    groups = [_group(entries, begin[here], size[here], n) for n in LENGTHS if (here := padded == n).any()]
    return tuple(groups), row


def _group(entries: Entries, begin: np.ndarray, size: np.ndarray, length: int) -> Group:
    inside = np.arange(length) < size[:, None]
    at = np.where(inside, begin[:, None] + np.arange(length), -1)
    value, index = entries.value[at], entries.source[at].astype(_smallest(entries.source))
    if length <= UNROLLED:
        return Group(np.ascontiguousarray(value.T), np.ascontiguousarray(index.T))
    chains = lambda each: np.ascontiguousarray(each.reshape(-1, CHAINS, length // CHAINS).swapaxes(0, 1))
    return Group(chains(value), chains(index))


def _and_zero(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.zeros(1, array.dtype)])


def _smallest(index: np.ndarray) -> type[np.unsignedinteger]:
    """The type that is fastest to read."""
    return np.uint16 if index.max(initial=0) < 2**16 else np.uint32
