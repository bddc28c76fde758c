"""What an iterate is worth: mean row losses, and AUC or MSE on the test rows. Never on the training clock."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from erasurehead_jax.data import Dataset, Rows
from erasurehead_jax.objectives import AbstractObjective

BATCH = 16  # iterates evaluated together: the minor axis of one gather


def evaluator(
    objective: AbstractObjective, dataset: Dataset
) -> Callable[[Iterable[Float[np.ndarray, "batch d"]]], list[dict[str, float]]]:
    """A function from batches of at most BATCH iterates to a dict an iterate: train_loss, test_loss, test_auc or _mse.

    Losses are means of row losses without the regulariser, summed in float64 whatever the run's precision.
    """
    train, test = jax.tree.map(jnp.asarray, (dataset.train, dataset.test))
    losses = jax.jit(objective.row_losses)
    scores = jax.jit(objective.predict)
    score = {"auc": _auc, "mse": _mse}[objective.metric]
    names = ("train_loss", "test_loss", f"test_{objective.metric}")

    def mean_losses(x: jax.Array, rows: Rows) -> np.ndarray:
        return np.asarray(losses(x, rows)).mean(0, dtype=np.float64)

    def evaluate(batches: Iterable[np.ndarray]) -> list[dict[str, float]]:
        metrics = []
        for batch in batches:
            x = jnp.asarray(np.pad(batch, ((0, BATCH - len(batch)), (0, 0))).T)  # one shape, one compilation
            values = score(np.asarray(dataset.test.target), np.asarray(scores(x, test), np.float64))
            columns = np.stack([mean_losses(x, train), mean_losses(x, test), values], axis=1)
            metrics += [dict(zip(names, row, strict=True)) for row in columns[: len(batch)].tolist()]
        return metrics

    return evaluate


def _auc(target: Float[np.ndarray, " m"], z: Float[np.ndarray, "m models"]) -> Float[np.ndarray, " models"]:
    """Area under the ROC curve by ranks (Mann-Whitney), ties shared; nan without both classes or finite scores."""
    positive = target > 0
    pairs = positive.sum() * (~positive).sum()
    if not pairs:
        return np.full(z.shape[1], np.nan)
    least = positive.sum() * (positive.sum() + 1) / 2
    return (rankdata(z, axis=0, nan_policy="propagate")[positive].sum(0) - least) / pairs


def _mse(target: Float[np.ndarray, " m"], z: Float[np.ndarray, "m models"]) -> Float[np.ndarray, " models"]:
    return ((target[:, None] - z) ** 2).mean(0)
