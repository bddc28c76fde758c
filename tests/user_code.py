"""Users' code, with typical mistakes: data functions that tests use as a _target_."""

from pathlib import Path

import numpy as np

from erasurehead_jax.data import Dataset, Dense, Rows


def from_file(path: str) -> Dataset:
    """Reads a file that may not exist."""
    return with_targets(np.loadtxt(Path(path).open()))


def with_a_bug() -> Dataset:
    """Raises a programming error."""
    raise KeyError("a bug of the user")


def with_a_nan(row: int, column: int) -> Dataset:
    """A data set in which one cell of the training rows is not a number."""
    dataset = with_targets(np.tile([-1.0, 1.0], 60))
    dataset.train.features.matrix[row, column] = np.nan  # pyright: ignore[reportAttributeAccessIssue]
    return dataset


def with_targets(target: np.ndarray) -> Dataset:
    """A data set of three numeric columns with these targets, of which the last fifth is the test set."""
    matrix = np.random.default_rng(0).standard_normal((len(target), 3))
    many = len(target) - len(target) // 5
    return Dataset("mine", Rows(Dense(matrix[:many]), target[:many]), Rows(Dense(matrix[many:]), target[many:]))


def two_classes(low: float) -> Dataset:
    """A data set with targets `low` and 1."""
    return with_targets(np.where(np.arange(120) % 3, 1.0, low))
