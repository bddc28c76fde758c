"""A script's data, any pytree of arrays or a Dataset, as rows that can be divided into blocks."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from erasurehead_jax.data import AbstractFeatures, Dataset, Dense, Rows
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import AnyArray

NUMBERS = "fiub"  # NumPy's codes of the dtype kinds


class Arrays(AbstractFeatures):
    """What a loss is given after the parameters: arrays, in any nesting, whose first axis is the rows."""

    arguments: PyTree

    @property
    def rows(self) -> int:
        return jax.tree.leaves(self.arguments)[0].shape[0]

    @property
    def dim(self) -> NoReturn:
        raise TypeError(NO_COLUMNS)

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        raise TypeError(NO_COLUMNS)

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        raise TypeError(NO_COLUMNS)

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "Arrays":
        return Arrays(jax.tree.map(lambda leaf: leaf[rows], self.arguments))

    def touched(self) -> None:
        return None

    def restrict(self, columns: Int[np.ndarray, " t"]) -> NoReturn:
        raise TypeError(NO_COLUMNS)


NO_COLUMNS = "the arrays of a script have rows, but no columns of a design matrix"


def as_rows(data: Any) -> Rows:
    """The rows of a script's data, in the precision of the run.

    Raises ConfigError unless they are arrays of finite numbers of equal lengths.
    """
    if isinstance(data, Dataset):
        features, target = data.train.features, _numbers("data: target", data.train.target)
        if not isinstance(features, Dense):
            return Rows(jax.tree.map(np.asarray, features), target)
        data = (np.asarray(features.matrix, np.dtype(jnp.result_type(float))), target)
    arguments = tuple(data) if type(data) in (tuple, list) else (data,)
    path_and_leaf = jax.tree_util.tree_flatten_with_path(data)[0]
    leaves = [(f"data{jax.tree_util.keystr(path)}", leaf) for path, leaf in path_and_leaf]
    if not leaves:
        raise ConfigError("data: has no arrays; must be a pytree of arrays whose first axis is the rows")
    made = [_numbers(name, leaf) for name, leaf in leaves]
    (first, _), rows = leaves[0], len(made[0])
    for (name, _), array in zip(leaves, made, strict=True):
        if len(array) != rows:
            raise ConfigError(f"{name}: has {len(array)} rows, but {first} has {rows}; must have equally many")
    if not rows:
        raise ConfigError(f"{first}: has no rows; must have at least one for each block")
    return Rows(Arrays(jax.tree.structure(arguments).unflatten(made)), np.zeros(rows, bool))  # the target is not used


def arguments_of(rows: Rows, dtype: np.dtype) -> tuple[Any, ...]:
    """What the loss is given after the parameters."""
    if isinstance(rows.features, Arrays):
        return rows.features.arguments
    return rows.features.inputs(dtype), rows.target


def _numbers(name: str, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.ndim == 0:
        raise ConfigError(f"{name}: is a single value; must be an array whose first axis is the rows")
    if array.dtype.kind not in NUMBERS and not jnp.issubdtype(array.dtype, jnp.floating):  # bfloat16 is of no kind
        raise ConfigError(f"{name}: has type {array.dtype}; must be an array of numbers")
    if jnp.issubdtype(array.dtype, jnp.floating) and not (finite := np.isfinite(array)).all():
        where = tuple(np.argwhere(~finite)[0].tolist())
        raise ConfigError(f"{name}: {array[where]} at {list(where)}; must be finite")
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
