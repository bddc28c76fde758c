"""Validation of a data set when it is loaded, so that no worker meets an invalid value in the middle of a run."""

import numpy as np

from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.errors import ConfigError

NUMBERS = "fiub"  # NumPy's codes of the numeric dtype kinds


def require_sound(dataset: Dataset) -> None:
    """Raises ConfigError, with row and column counted from 0, for the first value that no objective can use."""
    for part, rows in (("training", dataset.train), ("test", dataset.test)):
        setting = f"data={dataset.name}: "
        target = np.asarray(rows.target)
        if not len(rows):
            raise ConfigError(f"{setting}has no {part} rows; must have at least one")
        if target.shape != (len(rows),):
            raise ConfigError(
                f"{setting}{len(rows)} {part} rows, but targets of shape {target.shape}; must be one per row"
            )
        if bad := rows.features.first_bad():
            raise ConfigError(f"{setting}{part} {bad}")
        if target.dtype.kind == "f" and not np.isfinite(target).all():
            row = int(np.argmin(np.isfinite(target)))
            raise ConfigError(f"{setting}{part} row {row}, target: {target[row]} must be a finite number")
    if dataset.train.features.dim != dataset.test.features.dim:
        train, test = dataset.train.features.dim, dataset.test.features.dim
        raise ConfigError(f"data={dataset.name}: {train} training columns, but {test} test columns; must be equal")


def require_numbers(dataset: Dataset) -> None:
    """Raises ConfigError, naming the row, for a target that is not a number."""
    for part, rows in (("training", dataset.train), ("test", dataset.test)):
        target = np.asarray(rows.target)
        if target.dtype.kind not in NUMBERS:
            raise ConfigError(f"data={dataset.name}: {part} row 0, target: {target[0]!r} must be a number")


def as_signs(dataset: Dataset) -> Dataset:
    """The data set with targets -1 and +1.

    Accepts -1 and +1, 0 and 1, false and true, or the names of two classes, of which the second in alphabetical order
    becomes +1. Raises ConfigError, naming the row, for any other target.
    """
    train, test = np.asarray(dataset.train.target), np.asarray(dataset.test.target)
    if train.dtype.kind in NUMBERS and test.dtype.kind in NUMBERS:
        high = 1
        if not _require_classes(dataset, -1 if (train == -1).any() or (test == -1).any() else 0):
            return dataset
    else:
        train, test = train.astype(str), test.astype(str)
        high = _second_name(dataset, np.union1d(train, test))
    signs = [np.where(target == high, 1.0, -1.0) for target in (train, test)]
    parts = [Rows(rows.features, sign) for rows, sign in zip((dataset.train, dataset.test), signs, strict=True)]
    return Dataset(dataset.name, parts[0], parts[1])


def _require_classes(dataset: Dataset, low: int) -> bool:
    """Whether targets must be converted to -1 and +1. Raises ConfigError for a target that is neither 1 nor `low`."""
    for part, rows in (("training", dataset.train), ("test", dataset.test)):
        target = np.asarray(rows.target)
        if not (fits := np.isin(target, (low, 1))).all():
            row = int(np.argmin(fits))
            raise ConfigError(
                f"data={dataset.name}: {part} row {row}, target: {target[row]} is not a class; logistic needs "
                "targets -1 and +1, 0 and 1, or two class names (for real numbers, use objective=least_squares)"
            )
    return low == 0


def _second_name(dataset: Dataset, names: np.ndarray) -> str:
    if len(names) != 2:
        count = "only one class" if len(names) == 1 else f"{len(names)} classes"
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ConfigError(f"data={dataset.name}: the targets have {count} ({few}); logistic needs two")
    return str(names[1])
