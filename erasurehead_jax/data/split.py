"""Training and test rows of a user's data."""

import numpy as np
from jaxtyping import Int, Shaped

from erasurehead_jax.data.check import NUMBERS, first_fraction
from erasurehead_jax.data.classes import MOST_CLASSES
from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.data.encoder import AbstractEncoder
from erasurehead_jax.errors import ConfigError, require_number, require_whole


def require_split(test_share: float, split_seed: int) -> None:
    """Raises ConfigError unless the share is between 0 and 1 and the seed a whole number."""
    require_number("data.test_share", test_share, above=0.0)
    if test_share >= 1:
        raise ConfigError(f"data.test_share={test_share}: must be below 1, or no training rows are left")
    require_whole("data.split_seed", split_seed, 0)


def require_limit(limit_rows: int | None) -> None:
    """Raises ConfigError unless it is a number of rows or None."""
    if limit_rows is not None:
        require_whole("data.limit_rows", limit_rows, 2)


def split(
    name: str, target: Shaped[np.ndarray, " rows"], test_share: float, split_seed: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Row numbers of a random split; for classes, each is in both parts in the same proportion.

    Few whole numbers are taken for classes if each has enough rows: they may be counts. Raises ConfigError if a class
    with a name has too few.
    """
    from sklearn.model_selection import train_test_split  # late: slow to import, and ranks read a prepared split

    require_split(test_share, split_seed)
    rows = len(target)
    tests = int(np.ceil(test_share * rows))
    if not 0 < tests < rows:
        raise ConfigError(f"data={name}: {rows} rows are too few to split; need at least 2")
    strata = _strata(name, target, min(tests, rows - tests))
    train, test = train_test_split(np.arange(rows), test_size=test_share, random_state=split_seed, stratify=strata)
    return np.asarray(train), np.asarray(test)


def with_test_rows(
    name: str, train: Rows, test: Rows | None, test_share: float, split_seed: int, encoder: AbstractEncoder
) -> Dataset:
    """The data set of these training rows and test rows; without the latter, a share of the former is split off."""
    if test is None:
        train_rows, test_rows = split(name, np.asarray(train.target), test_share, split_seed)
        train, test = train.take(train_rows), train.take(test_rows)
    return Dataset(name, train, test, encoder=encoder)


def _strata(name: str, target: np.ndarray, smallest_part: int) -> np.ndarray | None:
    """The class of each row; None for numbers."""
    values, codes, counts = np.unique(target, return_inverse=True, return_counts=True)
    named = target.dtype.kind not in NUMBERS or target.dtype.kind == "b"
    if not named and (len(values) > MOST_CLASSES or first_fraction(values) is not None):
        return None
    least = int(np.argmin(counts))
    if counts[least] >= 2 and len(values) <= smallest_part:
        return codes
    if not named:
        return None
    if counts[least] < 2:
        raise ConfigError(
            f"data={name}: class {values[least]} has a single row; must have at least 2, for training and test: leave "
            "it out, or give a test file (data.test_path)"
        )
    raise ConfigError(
        f"data={name}: {len(values)} classes, but only {smallest_part} rows in the smaller part of the split; must "
        "have one of each class: use more rows or another data.test_share"
    )
