"""Users' code, partly with typical mistakes, which tests use as a _target_."""

from pathlib import Path
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax import AbstractObjective
from erasurehead_jax.data import Dataset, Dense, Rows, synthetic
from erasurehead_jax.objectives import METRICS, Metric
from erasurehead_jax.types import AnyArray, Key, Params


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


def drawn(kind: str) -> Dataset:
    """One-hot rows with targets of this kind that depend on the first field: signs, classes, counts or numbers."""
    data, rng = synthetic(rows=503, fields=4, categories=12), np.random.default_rng(0)

    def target(rows: Rows) -> np.ndarray:
        level = np.asarray(rows.features.index)[0] % 4  # pyright: ignore[reportAttributeAccessIssue]
        return {
            "signs": np.where(rng.random(len(rows)) < level / 4, "yes", "no"),
            "classes": np.array(["east", "north", "south", "west"])[(level + (rng.random(len(rows)) < 0.2)) % 4],
            "counts": rng.poisson(level),
            "numbers": level + rng.standard_t(2, len(rows)),
        }[kind]

    train, test = (Rows(rows.features, target(rows)) for rows in (data.train, data.test))
    return Dataset("drawn", train, test)


def two_classes(low: float) -> Dataset:
    """A data set with targets `low` and 1."""
    return with_targets(np.where(np.arange(120) % 3, 1.0, low))


class TwoNumbers(AbstractObjective):
    """Logistic loss of a + b * (sum of the row's features): two parameters, however many columns there are."""

    metric: ClassVar[Metric] = METRICS["auc"]

    def init(self, key: Key, dataset: Dataset) -> Params:
        return jnp.zeros(2)

    def check(self, dataset: Dataset) -> None:
        """Any two classes."""

    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        sums = rows.features.matvec(jnp.ones((rows.features.dim, *x.shape[1:]), x.dtype))
        return jnp.asarray(x[0] + x[1] * sums)

    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        target = jnp.asarray(rows.target, x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        return jnp.logaddexp(0, -target * self.predict(x, rows))

    def touched(self, rows: Rows) -> None:
        return None
