"""What users write, with their mistakes: data functions that tests name as a _target_."""

from pathlib import Path

import numpy as np

from erasurehead_jax.data import Dataset, Dense, Rows


def from_file(path: str) -> Dataset:
    """Reads a file that may not be there."""
    return with_targets(np.loadtxt(Path(path).open()))


def with_a_bug() -> Dataset:
    """Raises what only its author can mend."""
    raise KeyError("a bug of the user")


def with_a_nan(row: int, column: int) -> Dataset:
    """One cell of the training rows is not a number."""
    dataset = with_targets(np.tile([-1.0, 1.0], 60))
    dataset.train.features.matrix[row, column] = np.nan  # pyright: ignore[reportAttributeAccessIssue]
    return dataset


def with_targets(target: np.ndarray) -> Dataset:
    """Three columns of numbers, and these targets, of which the last fifth is for testing."""
    matrix = np.random.default_rng(0).standard_normal((len(target), 3))
    many = len(target) - len(target) // 5
    return Dataset("mine", Rows(Dense(matrix[:many]), target[:many]), Rows(Dense(matrix[many:]), target[many:]))


def two_classes(low: float) -> Dataset:
    """The targets are `low` and 1."""
    return with_targets(np.where(np.arange(120) % 3, 1.0, low))
