"""Optimizers for linear models of raw columns: as if the columns were standardised, while the data stay as they are.

With H the bound on the Hessian of the objective, T the change of variables that centres the columns, D the inverse of
the diagonal of T' H T, and L the largest eigenvalue of T D T' H, a step is T D T' / L times the gradient. The master
takes it, as it applies the regulariser; sparse data are never centred themselves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float
from scipy.sparse import issparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.optimizers import MomentumState
from erasurehead_jax.types import AnyArray, Params

POWER_ITERATIONS = 20
MARGIN = 1.2  # on the largest eigenvalue, of which power iterations fall short
CONSTANT = 1e-10  # a column whose standard deviation is below this share of its mean is constant


class Steps(NamedTuple):
    """How steps of W (columns, K) are taken. The last column may be the ones of an intercept."""

    penalty: Float[AnyArray, " columns"]  # the objective has penalty / 2 * W^2 for each row of W
    mean: Float[AnyArray, " columns"]  # in T
    size: Float[AnyArray, " columns"]  # D / L; 0 for a column that is constant


def penalties(columns: int, l2: float, intercept: bool) -> Float[np.ndarray, " columns"]:
    """The penalty of l2 * ||W||^2, where an intercept does not count."""
    penalty = np.full(columns, 2.0 * l2)
    if intercept:
        penalty[-1] = 0.0
    return penalty


def safe_steps(X: Any, curvature: float, l2: float, intercept: bool) -> Steps:
    """Steps with which gradient descent converges, however the columns are scaled.

    X is an array or a CSR matrix (rows, columns), whose last column is ones if there is an `intercept`. `curvature` is
    the largest second derivative of the loss of a row with respect to its scores.
    """
    penalty = penalties(X.shape[1], l2, intercept)
    mean, variance = _moments(X)
    if intercept:
        mean[-1], variance[-1] = 0.0, 1.0
    else:
        mean, variance = np.zeros_like(mean), variance + mean**2
    size = np.zeros(len(penalty))
    varies = variance > (CONSTANT * mean) ** 2
    size[varies] = 1 / (curvature * variance + penalty)[varies]
    return Steps(penalty, mean, size / _largest_eigenvalue(X, curvature, Steps(penalty, mean, size)))


def penalised(optimizer: Any, penalty: Float[np.ndarray, " columns"]) -> Callable[[], optax.GradientTransformation]:
    """A function that makes `optimizer`, an optax transformation or a function that makes one, with the penalty."""
    return Partial(_penalised, optimizer, penalty)


def accelerated(steps: Steps) -> Callable[[], optax.GradientTransformation]:
    """A function that makes Nesterov's method with these steps and the penalty.

    Its momentum begins anew whenever the last step led uphill (O'Donoghue and Candès 2015, "Adaptive Restart for
    Accelerated Gradient Schemes").
    """
    return Partial(_accelerated, steps)


def _penalised(optimizer: Any, penalty: Float[AnyArray, " columns"]) -> optax.GradientTransformation:
    inner = optimizer() if callable(optimizer) else optimizer
    if not isinstance(inner, optax.GradientTransformation):
        raise ConfigError(f"optimizer={optimizer}: must be an optax transformation, or a function that makes one")

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return inner.update(_with_penalty(updates, params, penalty).reshape(-1), state, params)

    return optax.GradientTransformation(inner.init, update)


def _accelerated(steps: Steps) -> optax.GradientTransformation:
    def start(params: Any) -> MomentumState:
        return MomentumState(jnp.zeros((), jnp.int32), jnp.zeros_like(params), params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MomentumState]:
        gradient = _with_penalty(updates, params, steps.penalty)
        x = params - _transformed(gradient, steps).reshape(-1)
        velocity = x - state.iterate
        t = jnp.where(gradient.reshape(-1) @ velocity > 0, 0, state.t)
        momentum = (t / (t + 3)).astype(x.dtype)
        return x + momentum * velocity - params, MomentumState(t + 1, velocity, x)

    return optax.GradientTransformation(start, update)


def _with_penalty(gradient: Params, x: Params, penalty: Float[AnyArray, " columns"]) -> Float[Array, "columns K"]:
    g = jnp.reshape(gradient, (len(penalty), -1))
    return g + jnp.asarray(penalty, g.dtype)[:, None] * jnp.reshape(x, g.shape)


def _transformed(gradient: Float[Array, "columns K"], steps: Steps) -> Float[Array, "columns K"]:
    """T D T' / L times the gradient."""
    mean, size = (jnp.asarray(each, gradient.dtype)[:, None] for each in (steps.mean, steps.size))
    step = size * (gradient - mean * gradient[-1])
    return step.at[-1].add(-(mean * step).sum(0))


def _moments(X: Any) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " columns"]]:
    """The mean and the variance of each column."""
    if not issparse(X):
        return X.mean(0), X.var(0)
    mean, variance = mean_variance_axis(X, axis=0)  # pyright: ignore
    return mean, variance


def _largest_eigenvalue(X: Any, curvature: float, steps: Steps) -> float:
    """About the largest eigenvalue of T D T' H, which is that of D^1/2 T' H T D^1/2; 1 if D is zero."""
    penalty, mean, size = steps
    root, largest = np.sqrt(size), 0.0
    v = np.random.default_rng(0).standard_normal(len(root)) * root
    for _ in range(POWER_ITERATIONS):
        if not (length := np.linalg.norm(v)):
            break
        v /= length
        u = root * v
        u[-1] -= mean @ u
        h = X.T @ (X @ u) * (curvature / X.shape[0])
        v = root * (h - mean * h[-1]) + penalty * size * v
        largest = np.linalg.norm(v)
    return float(MARGIN * largest) or 1.0
