"""The metrics of an iterate: mean row losses, and AUC or MSE on the test rows. Never on the training clock."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.data import Dataset, block_bounds
from erasurehead_jax.objectives import AbstractObjective

BATCH = 16  # iterates evaluated together: the minor axis of one gather


Scores = dict[str, Float[np.ndarray, " models"]]


def scorer(objective: AbstractObjective, dataset: Dataset) -> Callable[[Float[Array, "d models"]], Scores]:
    """A function from iterates side by side to train_loss, test_loss and test_auc or test_mse of each.

    Losses are means of row losses without the regulariser, summed in float64 whatever the run's precision.
    """
    train, test = jax.tree.map(jnp.asarray, (dataset.train, dataset.test))
    losses = jax.jit(objective.row_losses)
    predictions = jax.jit(objective.predict)
    score = {"auc": _auc, "mse": _mse}[objective.metric]

    def scores(x: Float[Array, "d models"]) -> Scores:
        mean_loss = lambda rows: np.asarray(losses(x, rows)).mean(0, dtype=np.float64)
        value = score(np.asarray(dataset.test.target), np.asarray(predictions(x, test), np.float64))
        return {"train_loss": mean_loss(train), "test_loss": mean_loss(test), f"test_{objective.metric}": value}

    return scores


def why_no_metric(objective: AbstractObjective, dataset: Dataset) -> str | None:
    """Returns why the test metric of these data cannot be computed, in one line; None if it can.

    Losses are not affected.
    """
    classes = np.unique(np.asarray(dataset.test.target) > 0)
    if objective.metric != "auc" or len(classes) == 2:
        return None
    rows = len(dataset.test)
    what = f"all {rows} test rows are of class {'+1' if classes[0] else '-1'}" if rows else "there are no test rows"
    return f"data={dataset.name}: the test AUC cannot be computed, because {what}; it needs rows of both classes"


def evaluator(
    objective: AbstractObjective, dataset: Dataset
) -> Callable[[Iterable[Float[np.ndarray, "batch d"]]], list[dict[str, float]]]:
    """A function from batches of at most BATCH iterates to the scores of each iterate."""
    scores = scorer(objective, dataset)

    def evaluate(batches: Iterable[np.ndarray]) -> list[dict[str, float]]:
        metrics = []
        for batch in batches:
            x = jnp.asarray(np.pad(batch, ((0, BATCH - len(batch)), (0, 0))).T)  # one shape, one compilation
            columns = scores(x)
            metrics += [{name: float(columns[name][i]) for name in columns} for i in range(len(batch))]
        return metrics

    return evaluate


def block_losses(
    objective: AbstractObjective, dataset: Dataset, x: Float[np.ndarray, " d"], blocks: int
) -> Float[np.ndarray, " n"]:
    """Mean row loss of every block of training rows; a block that was rarely used stands out."""
    losses = np.asarray(jax.jit(objective.row_losses)(jnp.asarray(x), jax.tree.map(jnp.asarray, dataset.train)))
    bounds = block_bounds(len(losses), blocks)
    return np.add.reduceat(losses, bounds[:-1], dtype=np.float64) / np.diff(bounds)


def _auc(target: Float[np.ndarray, " m"], z: Float[np.ndarray, "m models"]) -> Float[np.ndarray, " models"]:
    """Area under the ROC curve by ranks (Mann-Whitney), ties shared; nan without both classes or finite scores."""
    from scipy.stats import rankdata  # late: takes a second to import, while all ranks wait

    positive = target > 0
    pairs = positive.sum() * (~positive).sum()
    if not pairs:
        return np.full(z.shape[1], np.nan)
    least = positive.sum() * (positive.sum() + 1) / 2
    return (rankdata(z, axis=0, nan_policy="propagate")[positive].sum(0) - least) / pairs


def _mse(target: Float[np.ndarray, " m"], z: Float[np.ndarray, "m models"]) -> Float[np.ndarray, " models"]:
    return ((target[:, None] - z) ** 2).mean(0)
