"""Targets of classifications: from the names or numbers of classes to signs or codes, and the checks on the way."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from erasurehead_jax.data.check import NUMBERS, first_fraction, target_values
from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.errors import ConfigError

MOST_CLASSES = 100  # whole numbers with more distinct values are taken for numbers


def as_signs(dataset: Dataset, objective: str = "logistic") -> Dataset:
    """The data set with targets -1 and +1, and the names of the two classes in `classes`.

    The smaller of two numbers, and the first of two names in alphabetical order, becomes -1. Raises ConfigError for
    any other number of classes, and if the training rows lack one; `objective` is named in its line.
    """
    found = _coded(dataset, objective)
    if len(found.names) != 2:
        raise ConfigError(
            f"data={dataset.name}: the targets have {len(found.names)} classes ({_listed(found.names)}); {objective} "
            "needs two; for several classes use objective=softmax, for numbers objective=least_squares"
        )
    return _with_targets(dataset, found, (2.0 * found.train - 1, 2.0 * found.test - 1))


def as_classes(dataset: Dataset, objective: str = "softmax") -> Dataset:
    """The data set with targets 0 to K - 1, the codes of K classes, and their sorted names in `classes`.

    Raises ConfigError for numbers that are not whole, and if the training rows have a single class or lack one that the
    test rows have; `objective` is named in its line.
    """
    found = _coded(dataset, objective)
    return _with_targets(dataset, found, (found.train, found.test))


def are_classes(dataset: Dataset) -> bool:
    """Whether the targets are probably classes: text, two values, or few whole numbers; otherwise they are numbers."""
    if dataset.classes is not None:
        return True
    train, _ = target_values(dataset)
    few = len(np.unique(train))
    return train.dtype.kind not in NUMBERS or few == 2 or (few <= MOST_CLASSES and first_fraction(train) is None)


def untested_classes(dataset: Dataset) -> str | None:
    """Names the classes that no test row has, in one line; None if there is none, or if the targets are no classes."""
    if dataset.classes is None:
        return None
    missing = np.setdiff1d(np.arange(len(dataset.classes)), np.maximum(np.asarray(dataset.test.target), 0))
    if not len(missing):
        return None
    names = _listed(tuple(dataset.classes[code] for code in missing))
    return f"data={dataset.name}: no test row is of class {names}, so the test metric says nothing about it"


class _Coded(NamedTuple):
    names: tuple[Any, ...]
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]


def _coded(dataset: Dataset, objective: str) -> _Coded:
    """The classes and the codes of all rows. Raises ConfigError as `as_classes` does."""
    values = target_values(dataset)
    known = np.union1d(*values)
    for part, some in zip(("training", "test"), values, strict=True):
        if len(known) > 2 and (row := first_fraction(some)) is not None:
            raise ConfigError(
                f"data={dataset.name}: {part} row {row}, target: {some[row]} is not a class; {objective} needs "
                "classes (for numbers, use objective=least_squares)"
            )
    if dataset.classes is not None and all(some.dtype.kind in NUMBERS for some in values):
        names, codes = dataset.classes, [np.maximum(some, 0).astype(np.int32) for some in values]  # codes or signs
    else:
        names, codes = tuple(known.tolist()), [np.searchsorted(known, some).astype(np.int32) for some in values]
    found = _Coded(names, *codes)
    _require_learnable(dataset, found, objective)
    return found


def _require_learnable(dataset: Dataset, found: _Coded, objective: str) -> None:
    if (top := max(found.train.max(), found.test.max())) >= len(found.names):
        raise ConfigError(f"data={dataset.name}: target {top} is no code of one of its {len(found.names)} classes")
    learned = np.unique(found.train)
    unseen = ~np.isin(found.test, learned)
    if unseen.any():
        row = int(np.argmax(unseen))
        raise ConfigError(
            f"data={dataset.name}: test row {row} is of class {found.names[found.test[row]]}, which no training row "
            "has; use another split, or leave such rows out"
        )
    if len(learned) == 1:
        raise ConfigError(
            f"data={dataset.name}: the targets have only one class ({found.names[learned[0]]}); {objective} needs two"
        )


def _with_targets(dataset: Dataset, found: _Coded, targets: tuple[np.ndarray, np.ndarray]) -> Dataset:
    """The data set with other targets; everything else about it is kept."""
    parts = zip((dataset.train, dataset.test), targets, strict=True)
    train, test = (Rows(rows.features, target) for rows, target in parts)
    return dataclasses.replace(dataset, train=train, test=test, classes=found.names)


def _listed(names: tuple[Any, ...]) -> str:
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
