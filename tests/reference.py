"""A reference implementation of gradient descent with SciPy and NumPy only."""

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from erasurehead_jax import Dataset


def design_matrix(index: np.ndarray, columns: int) -> sp.csr_matrix:
    """One-hot rows from a (fields, rows) index matrix."""
    fields, rows = index.shape
    return sp.csr_matrix((np.ones(index.size), (np.tile(np.arange(rows), fields), index.ravel())), (rows, columns))


def gradient_descent(dataset: Dataset, task: str, rounds: int, step_size: float, decay: float = 1.0) -> np.ndarray:
    """Mean training loss after every round, from zeros, float64, l2 = 1/N."""
    X, y = design_matrix(np.asarray(dataset.train.features.index), dataset.dim), np.asarray(dataset.train.target)  # pyright: ignore
    N, x, losses = len(y), np.zeros(dataset.dim), []
    for t in range(rounds):
        z = X @ x
        slopes = -y * expit(-y * z) if task == "logistic" else 2 * (z - y)
        x = x - step_size * decay**t * (X.T @ slopes / N + 2 * x / N)
        z = X @ x
        losses.append(np.mean(np.logaddexp(0, -y * z) if task == "logistic" else (y - z) ** 2))
    return np.array(losses)


def mini_batches(
    dataset: Dataset, rounds: int, step_size: float, blocks: int, batch: int, seed: int, snapshot_every: int | None
) -> np.ndarray:
    """Logistic loss after every round of mini-batch gradient descent or, with `snapshot_every`, of SVRG."""
    X, y = design_matrix(np.asarray(dataset.train.features.index), dataset.dim), np.asarray(dataset.train.target)  # pyright: ignore
    N, x, losses = len(y), np.zeros(dataset.dim), []
    bounds = np.arange(blocks + 1) * N // blocks

    def mean_gradient(x: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return X[rows].T @ (weights * -y[rows] * expit(-y[rows] * (X[rows] @ x))) / N

    anchor, kept = x, x
    for t in range(rounds):
        held = [
            np.random.default_rng([seed, t, i]).choice(bounds[i + 1] - bounds[i], batch, replace=False) + bounds[i]
            for i in range(blocks)
        ]
        weights = np.repeat(np.diff(bounds) / batch, batch)
        if snapshot_every is None:
            gradient = mean_gradient(x, np.concatenate(held), weights)
        elif t % snapshot_every == 0:
            anchor, kept = x, mean_gradient(x, np.arange(N), np.ones(N))
            gradient = kept
        else:
            rows = np.concatenate(held)
            gradient = mean_gradient(x, rows, weights) - mean_gradient(anchor, rows, weights) + kept
        x = x - step_size * (gradient + 2 * x / N)
        losses.append(np.mean(np.logaddexp(0, -y * (X @ x))))
    return np.array(losses)
