"""Reference implementations of gradient descent with SciPy and NumPy only."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from scipy.special import expit, huber, log_softmax, softmax

from erasurehead_jax import Dataset

# Each task: the losses and slopes of the rows, given their scores z = X @ x and targets y.
TASKS: dict[str, tuple[Callable, Callable]] = {
    "logistic": (lambda z, y: np.logaddexp(0, -y * z), lambda z, y: -y * expit(-y * z)),
    "squared_hinge": (lambda z, y: np.clip(1 - y * z, 0, None) ** 2, lambda z, y: -2 * y * np.clip(1 - y * z, 0, None)),
    "least_squares": (lambda z, y: (y - z) ** 2, lambda z, y: 2 * (z - y)),
    "huber": (lambda z, y: huber(1, z - y), lambda z, y: np.clip(z - y, -1, 1)),
    "poisson": (lambda z, y: np.exp(z) - y * z, lambda z, y: np.exp(z) - y),
    "softmax": (
        lambda z, y: -log_softmax(z, axis=1)[np.arange(len(y)), y],
        lambda z, y: softmax(z, axis=1) - np.eye(z.shape[1])[y],
    ),
}


def design_matrix(index: np.ndarray, columns: int) -> sp.csr_matrix:
    """One-hot rows from a (fields, rows) index matrix."""
    fields, rows = index.shape
    return sp.csr_matrix((np.ones(index.size), (np.tile(np.arange(rows), fields), index.ravel())), (rows, columns))


def gradient_descent(dataset: Dataset, task: str, rounds: int, step_size: float, decay: float = 1.0) -> np.ndarray:
    """Mean training loss after every round, from zeros, float64, l2 = 1/N. Targets are signs, codes or numbers."""
    X, y = design_matrix(np.asarray(dataset.train.features.index), dataset.dim), np.asarray(dataset.train.target)  # pyright: ignore
    loss, slope = TASKS[task]
    N, losses = len(y), []
    x = np.zeros((dataset.dim, y.max() + 1) if task == "softmax" else dataset.dim)
    for t in range(rounds):
        x = x - step_size * decay**t * (X.T @ slope(X @ x, y) / N + 2 * x / N)
        losses.append(np.mean(loss(X @ x, y)))
    return np.array(losses)


def perceptron_descent(
    dataset: Dataset, start: list[tuple[np.ndarray, np.ndarray]], rounds: int, step_size: float
) -> np.ndarray:
    """Mean training loss after every round of a network with one hidden layer of rectifiers and a softmax.

    `start` has the weights and biases of both layers. Back-propagation by hand, float64, l2 = 1/N.
    """
    X, y = design_matrix(np.asarray(dataset.train.features.index), dataset.dim), np.asarray(dataset.train.target)  # pyright: ignore
    (V, a), (W, b) = start
    N, losses = len(y), []
    loss, slope = TASKS["softmax"]
    for _ in range(rounds):
        hidden = np.clip(X @ V + a, 0, None)
        d_out = slope(hidden @ W + b, y) / N
        d_hidden = d_out @ W.T * (hidden > 0)
        dV, da, dW, db = X.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_out, d_out.sum(0)
        V, a, W, b = (p - step_size * (d + 2 * p / N) for p, d in ((V, dV), (a, da), (W, dW), (b, db)))
        losses.append(np.mean(loss(np.clip(X @ V + a, 0, None) @ W + b, y)))
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
