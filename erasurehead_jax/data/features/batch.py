"""Rows whose numbers are traced: mini-batches of sparse features, inside a jitted function."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from erasurehead_jax.data.features.base import AbstractFeatures, taken
from erasurehead_jax.data.features.segments import scaled
from erasurehead_jax.types import AnyArray


class SomeRows(AbstractFeatures):
    """Some rows of features that cannot give them up: products are over all rows, at their cost."""

    features: AbstractFeatures
    numbers: Int[Array, " m"]

    @property
    def rows(self) -> int:
        return len(self.numbers)

    @property
    def dim(self) -> int:
        return self.features.dim

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        return taken(self.features.matvec(x), self.numbers)

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        every = jnp.zeros((self.features.rows, *r.shape[1:]), r.dtype)
        return self.features.rmatvec(every.at[self.numbers].add(r))

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "SomeRows":
        return SomeRows(self.features, self.numbers[rows])

    def touched(self) -> None:
        return None

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "SomeRows":
        raise TypeError("the rows of a mini-batch cannot be restricted")


class PaddedSparse(AbstractFeatures):
    """A few rows of equal length, whose numbers were traced: a mini-batch. Short rows are padded with zeros."""

    value: Shaped[Array, "longest m"]
    column: Int[Array, "longest m"]
    columns: int = eqx.field(static=True)

    @property
    def rows(self) -> int:
        return self.value.shape[1]

    @property
    def dim(self) -> int:
        return self.columns

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        x = jnp.asarray(x)

        def add(z, entries):
            value, column = entries
            return z + scaled(value, x.at[column].get(mode="promise_in_bounds")), None

        return jax.lax.scan(add, jnp.zeros((self.rows, *x.shape[1:]), x.dtype), (self.value, self.column))[0]

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        r = jnp.asarray(r)

        def add(g, entries):
            value, column = entries
            return g.at[column].add(scaled(value, r), mode="promise_in_bounds"), None

        return jax.lax.scan(add, jnp.zeros((self.columns, *r.shape[1:]), r.dtype), (self.value, self.column))[0]

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "PaddedSparse":
        return PaddedSparse(self.value[:, rows], self.column[:, rows], self.columns)

    def touched(self) -> None:
        return None

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "PaddedSparse":
        raise TypeError("the rows of a mini-batch cannot be restricted")
