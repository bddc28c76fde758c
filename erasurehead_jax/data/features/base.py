"""The interface of design matrices, and how rows are taken from their arrays."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.types import AnyArray


class AbstractFeatures(eqx.Module):
    """The design matrix X of m rows and d columns."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """m."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """d."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row in what a model is given: more than one axis for images."""
        return (self.dim,)

    def __matmul__(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        if jnp.shape(x)[:1] != (self.dim,):  # sparse layouts would not notice
            raise ValueError(f"features @ W: W has shape {jnp.shape(x)}, but the features have {self.dim} columns")
        return self.matvec(x)

    def inputs(self, dtype: np.dtype) -> Any:
        """What a model is given: the features themselves, of which it may use `features @ W` and `len(features)`; dense
        ones are an array.
        """
        del dtype
        return self

    def __len__(self) -> int:
        return self.rows

    @abstractmethod
    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        """X @ x, for one model or for several as the minor axes."""

    @abstractmethod
    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        """X.T @ r, for one model or for several as the minor axes."""

    @abstractmethod
    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "AbstractFeatures":
        """The features of these rows; their numbers may be traced."""

    @abstractmethod
    def touched(self) -> Int[np.ndarray, " t"] | None:
        """The columns with an entry in these rows, in ascending order; None means all."""

    @abstractmethod
    def restrict(self, columns: Int[np.ndarray, " t"]) -> "AbstractFeatures":
        """The same rows with these columns only, which must include all entries, in a layout for fast gradients."""

    def first_bad(self) -> str | None:
        """Describes the first invalid value by row, column and rule; None if there is none or it cannot be checked."""
        return None


def taken(array: AnyArray, rows: AnyArray | slice, axis: int = 0) -> Any:
    """The array at these rows of an axis; NumPy arrays stay so, unless JAX traces the rows."""
    at = (slice(None),) * axis + (rows,)
    if isinstance(rows, jax.Array):
        return jnp.asarray(array).at[at].get(mode="promise_in_bounds")
    return array[at]
