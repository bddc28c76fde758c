"""Every objective, trained with an exact code on real ranks and in the simulator, against plain NumPy in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

import erasurehead_jax as eh
from erasurehead_jax.training import train

N, D, K, ROUNDS, STEP = 203, 6, 3, 6, 0.05
RNG = np.random.default_rng(0)
X = np.column_stack([RNG.standard_normal((N + 40, D - 1)), np.ones(N + 40)])
Z = X @ RNG.standard_normal((D, K))
TARGETS = {
    "signs": np.where(Z[:, 0] > 0, 1.0, -1.0),
    "names": np.array(["ash", "beech", "cedar"])[Z.argmax(1)],
    "counts": RNG.poisson(np.exp(0.3 * Z[:, 0])).astype(float),
    "numbers": Z[:, 0] + RNG.standard_normal(N + 40),
}


class Case(NamedTuple):
    """An objective, its targets, and the loss of each row with its derivative by the scores X @ W."""

    objective: eh.AbstractObjective
    target: str
    loss: Callable[[np.ndarray, np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray, np.ndarray], np.ndarray]


def one_hot(y: np.ndarray) -> np.ndarray:
    return np.eye(K)[y]


CASES = {
    "logistic": Case(eh.Logistic(), "signs", lambda z, y: np.logaddexp(0, -y * z), lambda z, y: -y * expit(-y * z)),
    "squared hinge": Case(
        eh.SquaredHinge(),
        "signs",
        lambda z, y: np.maximum(0, 1 - y * z) ** 2,
        lambda z, y: -2 * y * np.maximum(0, 1 - y * z),
    ),
    "least squares": Case(eh.LeastSquares(), "numbers", lambda z, y: (y - z) ** 2, lambda z, y: 2 * (z - y)),
    "Huber": Case(
        eh.Huber(delta=0.7),
        "numbers",
        lambda z, y: np.where(abs(z - y) <= 0.7, (z - y) ** 2 / 2, 0.7 * (abs(z - y) - 0.35)),
        lambda z, y: np.clip(z - y, -0.7, 0.7),
    ),
    "Poisson": Case(eh.Poisson(), "counts", lambda z, y: np.exp(z) - y * z, lambda z, y: np.exp(z) - y),
    "softmax": Case(
        eh.Softmax(),
        "names",
        lambda z, y: -log_softmax(z, 1)[np.arange(len(y)), y],
        lambda z, y: softmax(z, 1) - one_hot(y),
    ),
}


def dataset(target: str) -> eh.Dataset:
    y = TARGETS[target]
    return eh.Dataset("small", eh.Rows(eh.Dense(X[:N]), y[:N]), eh.Rows(eh.Dense(X[N:]), y[N:]))


def descend(case: Case) -> np.ndarray:
    """The training loss after every round of gradient descent, with l2 = 1/N."""
    y, A = TARGETS[case.target][:N], X[:N]
    several = case.target == "names"
    y = np.unique(TARGETS[case.target], return_inverse=True)[1][:N] if several else y
    W, losses = np.zeros((D, K) if several else D), []
    for _ in range(ROUNDS):
        W = W - STEP * (A.T @ case.slope(A @ W, y) / N + 2 / N * W)
        losses.append(case.loss(A @ W, y).mean())
    return np.array(losses)


def on_both_backends(folder: Path, objective: eh.AbstractObjective, target: str, **more: Any) -> list[np.ndarray]:
    """The training losses on real ranks and in the simulator."""
    settings: dict[str, Any] = {"rounds": ROUNDS, "optimizer": eh.gd(STEP), "x64": True} | more
    scheme = eh.egc(workers=3, load=3)
    return [
        train(dataset(target), objective, scheme, backend=each, run_dir=folder / each, **settings)
        .history["train_loss"]
        .to_numpy()
        for each in ("mpi", "simulate")
    ]


@pytest.mark.mpi
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rounds_equal_numpy(case: Case, tmp_path: Path):
    expected = descend(case)
    real, simulated = on_both_backends(tmp_path, case.objective, case.target)
    np.testing.assert_allclose(real, expected, rtol=1e-10)
    np.testing.assert_allclose(simulated, expected, rtol=1e-12)
    assert expected[-1] < expected[0]


@pytest.mark.mpi
def test_the_perceptron_equals_plain_jax(tmp_path: Path):
    """The same network written by hand, from the same start."""
    objective = eh.Model(eh.MLP(hidden=[5], activation="tanh"))
    checked = objective.check(dataset("names"))
    bound = objective.bind(checked)
    y = jnp.asarray(checked.train.target)
    x, losses = np.asarray(bound.init(jax.random.split(jax.random.key(0))[0], checked), float), []
    shapes = [(D, 5), (5,), (5, K), (K,)]
    parts = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])

    @jax.jit
    def loss(x: jax.Array) -> jax.Array:
        W, b, V, c = (x[i:j].reshape(s) for i, j, s in zip(parts[:-1], parts[1:], shapes, strict=True))
        logits = jnp.tanh(X[:N] @ W + b) @ V + c
        return -jax.nn.log_softmax(logits)[jnp.arange(N), y].mean()

    gradient = jax.jit(jax.grad(loss))
    for _ in range(ROUNDS):
        x = x - STEP * (np.asarray(gradient(jnp.asarray(x))) + 2 / N * x)
        losses.append(float(loss(jnp.asarray(x))))
    real, simulated = on_both_backends(tmp_path, objective, "names")
    np.testing.assert_allclose(real, losses, rtol=1e-10)
    np.testing.assert_allclose(simulated, losses, rtol=1e-12)
