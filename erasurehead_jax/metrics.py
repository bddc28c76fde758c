"""What an iterate is worth: mean row losses, and AUC or MSE on the test rows. Never on the training clock."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from erasurehead_jax.data import Dataset, Rows
from erasurehead_jax.objectives import AbstractObjective

BATCH = 16  # iterates evaluated together: the minor axis of one gather


def evaluator(
    objective: AbstractObjective, dataset: Dataset
) -> Callable[[Iterable[Float[np.ndarray, "batch d"]]], list[dict[str, float]]]:
    """A function from batches of iterates to one dict each: train_loss, test_loss and test_auc or test_mse.

    Losses are means of row losses without the regulariser, summed in float64 whatever the run's precision.
    """
    train, test = jax.tree.map(jnp.asarray, (dataset.train, dataset.test))
    losses = jax.jit(objective.row_losses)
    scores = jax.jit(objective.predict)
    score = {"auc": _auc, "mse": _mse}[objective.metric]

    def mean_losses(x: jax.Array, rows: Rows) -> np.ndarray:
        return np.asarray(losses(x, rows)).mean(0, dtype=np.float64)

    def evaluate(batches: Iterable[np.ndarray]) -> list[dict[str, float]]:
        metrics = []
        for batch in batches:
            x = jnp.asarray(np.pad(batch, ((0, BATCH - len(batch)), (0, 0))).T)  # one shape, one compilation
            columns = zip(mean_losses(x, train), mean_losses(x, test), np.asarray(scores(x, test)).T, strict=True)
            for (train_loss, test_loss, z), _ in zip(columns, batch, strict=False):
                value = score(np.asarray(dataset.test.target), z.astype(np.float64))
                named = {"train_loss": train_loss, "test_loss": test_loss, f"test_{objective.metric}": value}
                metrics.append({name: float(value) for name, value in named.items()})
        return metrics

    return evaluate


def _auc(target: Float[np.ndarray, " m"], z: Float[np.ndarray, " m"]) -> float:
    from sklearn.metrics import roc_auc_score  # late: a second to import, after training

    if not np.isfinite(z).all() or len(np.unique(target)) < 2:
        return float("nan")
    return float(roc_auc_score(target, z))


def _mse(target: Float[np.ndarray, " m"], z: Float[np.ndarray, " m"]) -> float:
    return float(((target - z) ** 2).mean())
