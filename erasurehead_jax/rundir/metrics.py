"""The metrics of an iterate: mean row losses, and the objective's test metric. Never on the training clock."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.data import Dataset, Rows, block_bounds, untested_classes
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.objectives.memory import AT_ONCE, rows_at_once
from erasurehead_jax.objectives.metrics import LOSS

BATCH = 16  # iterates evaluated together: the minor axis of one gather


Scores = dict[str, Float[np.ndarray, " models"]]


def iterates_at_once(parameters: int) -> int:
    """The number of iterates that are evaluated together: BATCH, or fewer of very large models."""
    return min(BATCH, max(1, AT_ONCE // parameters))


def scorer(objective: AbstractObjective, dataset: Dataset) -> Callable[[Float[Array, "d models"]], Scores]:
    """A function from iterates side by side to train_loss, test_loss and the test metric of each.

    Losses are means of row losses without the regulariser, summed in float64 whatever the run's precision.
    """
    train, test = jax.tree.map(jnp.asarray, (dataset.train, dataset.test))
    train_losses, test_losses = (in_parts(objective.row_losses, rows) for rows in (train, test))
    predictions = in_parts(objective.predict, test)
    metric, target = objective.metric, np.asarray(dataset.test.target)

    @functools.cache
    def models_at_once(shape: tuple[int, ...], dtype: np.dtype) -> int:
        found = jax.eval_shape(objective.predict, jax.ShapeDtypeStruct(shape, dtype), test).shape
        return max(1, AT_ONCE * shape[1] // math.prod(found))

    def metric_of(x: Float[Array, "d models"]) -> Float[np.ndarray, " models"]:
        few = models_at_once(x.shape, x.dtype)
        some = [x] if few >= x.shape[1] else [x[:, i : i + few] for i in range(0, x.shape[1], few)]
        found = [metric.score(target, _joined(predictions(each))) for each in some]
        return np.concatenate(found, dtype=np.float64)

    def scores(x: Float[Array, "d models"]) -> Scores:
        losses = {"train_loss": _mean(train_losses(x), len(train)), "test_loss": _mean(test_losses(x), len(test))}
        return losses if metric == LOSS else losses | {f"test_{metric.name}": metric_of(x)}

    return scores


def in_parts(function: Callable[[Any, Rows], Array], rows: Rows) -> Callable[[Any], Iterator[np.ndarray]]:
    """A jitted function from x to the values of `function(x, rows)`, in parts of as many rows as fit in memory."""
    whole = jax.jit(function)
    part = jax.jit(lambda x, rows, index: function(x, rows.take(index)))

    @functools.cache
    def size(shape: tuple[int, ...], dtype: np.dtype) -> int:
        parts = math.ceil(len(rows) / rows_at_once(function, jax.ShapeDtypeStruct(shape, dtype), rows))
        return math.ceil(len(rows) / parts)

    def values(x: Any) -> Iterator[np.ndarray]:
        at_once = size(x.shape, x.dtype)
        if at_once == len(rows):
            yield np.asarray(whole(x, rows))
            return
        for first in range(0, len(rows), at_once):
            index = np.minimum(np.arange(first, first + at_once), len(rows) - 1)  # one size, one compilation
            yield np.asarray(part(x, rows, index))[: len(rows) - first]

    return values


def why_no_metric(objective: AbstractObjective, dataset: Dataset) -> str | None:
    """Returns why the test metric of these data cannot be computed, in one line; None if it can.

    Losses are not affected.
    """
    reason = objective.metric.why_not(np.asarray(dataset.test.target))
    return reason and f"data={dataset.name}: {reason}"


def doubts(objective: AbstractObjective, dataset: Dataset) -> list[str]:
    """What is wrong with the test metric of these data, one line each; training is not affected."""
    found = why_no_metric(objective, dataset) or untested_classes(dataset)
    return [found] if found else []


def evaluator(objective: AbstractObjective, dataset: Dataset) -> Callable[..., list[dict[str, float]]]:
    """A function from batches of iterates, and the size to which they are padded, to the scores of each iterate.

    Scores depend on that size in the last bits, and on nothing else: the last batch of a run that ended early may be
    shorter than the same one of a run that went on.
    """
    scores = scorer(objective, dataset)

    def evaluate(batches: Iterable[np.ndarray], size: int = BATCH) -> list[dict[str, float]]:
        metrics = []
        for batch in batches:
            x = jnp.asarray(np.pad(batch, ((0, size - len(batch)), (0, 0))).T)
            columns = scores(x)
            metrics += [{name: float(columns[name][i]) for name in columns} for i in range(len(batch))]
        return metrics

    return evaluate


def block_losses(
    objective: AbstractObjective, dataset: Dataset, x: Float[np.ndarray, " d"], blocks: int
) -> Float[np.ndarray, " n"]:
    """Mean row loss of every block of training rows; a block that was rarely used stands out."""
    train = jax.tree.map(jnp.asarray, dataset.train)
    losses = np.concatenate([*in_parts(objective.row_losses, train)(jnp.asarray(x))])
    bounds = block_bounds(len(losses), blocks)
    return np.add.reduceat(losses, bounds[:-1], dtype=np.float64) / np.diff(bounds)


def _mean(parts: Iterator[np.ndarray], rows: int) -> Float[np.ndarray, " models"]:
    return np.sum([part.sum(0, dtype=np.float64) for part in parts], axis=0) / rows


def _joined(parts: Iterator[np.ndarray]) -> Float[np.ndarray, "m *outputs models"]:
    return np.concatenate([np.asarray(part, np.float64) for part in parts])
