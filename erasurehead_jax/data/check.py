"""Validation of a data set when it is loaded, so that no worker meets an invalid value in the middle of a run."""

from typing import Any

import numpy as np
from jaxtyping import Shaped

from erasurehead_jax.data.dataset import Dataset
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
    """Raises ConfigError, naming the row, for a target that is not a number, and for a constant target."""
    for part, rows in (("training", dataset.train), ("test", dataset.test)):
        target = np.asarray(rows.target)
        if target.dtype.kind not in NUMBERS:
            raise ConfigError(
                f"data={dataset.name}: {part} row 0, target: {target[0]!r} must be a number "
                "(for classes, use objective=logistic or softmax)"
            )
    values = np.asarray(dataset.train.target)
    if (values == values[0]).all():
        raise ConfigError(
            f"data={dataset.name}: all {len(values)} training targets are {values[0]}; must differ, or there is "
            "nothing to learn"
        )


def require_counts(dataset: Dataset) -> None:
    """Raises ConfigError, naming the row, for a target that is not a whole number from 0 up, and for a constant one."""
    require_numbers(dataset)
    for part, rows in (("training", dataset.train), ("test", dataset.test)):
        target = np.asarray(rows.target)
        fits = (target >= 0) & (target == np.floor(target.astype(float)))
        if not fits.all():
            row = int(np.argmin(fits))
            raise ConfigError(
                f"data={dataset.name}: {part} row {row}, target: {target[row]} must be a count, 0, 1, 2 or more "
                "(for other numbers, use objective=least_squares or huber)"
            )


def target_values(dataset: Dataset) -> tuple[Shaped[np.ndarray, " train"], Shaped[np.ndarray, " test"]]:
    """The targets of both parts as numbers, or all as text. Raises ConfigError, naming the row, for a missing one."""
    found = []
    for part, rows in (("training", dataset.train), ("test", dataset.test)):
        target = np.asarray(rows.target)
        if target.dtype.kind == "O":
            values = target.tolist()
            missing = [value is None or value != value for value in values]
            if any(missing):
                raise ConfigError(
                    f"data={dataset.name}: {part} row {missing.index(True)}, target: is missing; must be known"
                )
            target = np.asarray(values)
        found.append(target)
    if any(values.dtype.kind not in NUMBERS for values in found):
        found = [values.astype(str) for values in found]
    return found[0], found[1]


def as_targets(X: Any, y: Any, which: str = "") -> Shaped[np.ndarray, " m"]:
    """The targets y of the rows of X, numbers or text. Raises ConfigError, naming the row, if they do not fit X, an
    array or a sparse matrix with several columns.
    """
    y, shape = np.asarray(y), np.shape(X)
    if len(shape) < 2:
        raise ConfigError(f"X{which}: shape {shape}; must be rows and columns, or rows and images")
    if y.shape != shape[:1]:
        raise ConfigError(f"y{which}: shape {y.shape}; must be one target for each of the {shape[0]} rows of X{which}")
    if not len(y):
        raise ConfigError(f"X{which}: no rows; must have at least one")
    missing = [value is None or value != value for value in y.tolist()] if y.dtype.kind == "O" else [False]
    if y.dtype.kind == "f":
        missing = ~np.isfinite(y)
    if any(missing):
        row = int(np.argmax(missing))
        raise ConfigError(f"y{which}, row {row}: {y[row]} must be known and finite")
    return np.asarray(y.tolist()) if y.dtype.kind == "O" else y


def first_fraction(values: Shaped[np.ndarray, " m"]) -> int | None:
    """The row of the first number that is not whole; None for text and whole numbers."""
    if values.dtype.kind != "f" or (whole := values == np.floor(values)).all():
        return None
    return int(np.argmin(whole))
