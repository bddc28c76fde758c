"""Rows, data sets and blocks."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Int, Shaped

from erasurehead_jax.data.encoder import AbstractEncoder
from erasurehead_jax.data.features.base import AbstractFeatures, taken
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import AnyArray


class Rows(eqx.Module):
    """m examples: their features and targets.

    Targets of two classes are -1 and +1, or what an objective can convert to these: 0 and 1, or two class names.
    """

    features: AbstractFeatures
    target: Shaped[Array | np.ndarray, " m"]

    def __len__(self) -> int:
        return self.features.rows

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "Rows":
        """A subset of the rows, whose numbers may be traced (a mini-batch)."""
        return Rows(self.features.take(rows), taken(self.target, rows))

    def restrict(self, columns: Int[np.ndarray, " t"] | None) -> "Rows":
        """The same rows restricted to these columns (None: all)."""
        return self if columns is None else Rows(self.features.restrict(columns), self.target)


class Dataset(eqx.Module):
    """Training and test rows over the same columns.

    `classes` are the names or numbers of the classes of a classification, in the order of their codes, once an
    objective has converted the targets. `encoder` turns more rows of the same origin into features.
    """

    name: str = eqx.field(static=True)
    train: Rows
    test: Rows
    classes: tuple[Any, ...] | None = eqx.field(static=True, default=None)
    encoder: AbstractEncoder | None = eqx.field(static=True, default=None)

    @property
    def dim(self) -> int:
        """d, the number of columns."""
        return self.train.features.dim


def block_bounds(rows: int, blocks: int) -> Int[np.ndarray, " n_plus_1"]:
    """Bounds of the blocks: block i is rows bounds[i]:bounds[i+1]. Block sizes differ by at most one.

    Raises ConfigError if there are more blocks than rows.
    """
    if blocks > rows:
        raise ConfigError(f"blocks={blocks}: must be at most the number of training rows, {rows}")
    return np.arange(blocks + 1) * rows // blocks


def split_rows(rows: int, split_seed: int) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Row numbers of the 80/20 split of section 5 (`split_seed` 0 is the paper's)."""
    from sklearn.model_selection import (
        train_test_split,
    )  # imported here because it is slow, and ranks read a prepared split

    train, test = train_test_split(np.arange(rows), test_size=0.2, random_state=split_seed)
    return np.asarray(train), np.asarray(test)
