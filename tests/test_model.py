"""Models of users as objectives: parameters as one vector, gradients, both backends, and their mistakes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from test_objectives import FIELDS, one_hot
from user_models import Convolution, Flax, Plain, Signs

from erasurehead_jax import MLP, Dataset, Dense, Model, Rows
from erasurehead_jax.data import AbstractFeatures
from erasurehead_jax.objectives import memory

M, K = 83, 3
IMAGES = np.random.default_rng(0).standard_normal((M, 8, 8)).astype(np.float32)
CODES = np.random.default_rng(1).permutation(np.arange(M) % K)
NUMBERS = np.random.default_rng(2).standard_normal(M)


def dataset(features: AbstractFeatures, target: np.ndarray) -> Dataset:
    rows = Rows(features, target)
    return Dataset("mine", rows.take(slice(60)), rows.take(slice(60, M)))


def bound(model: Any, data: Dataset) -> tuple[Model, Dataset]:
    """The objective and the data as a job has them."""
    objective = Model(model)
    data = objective.check(data)
    objective = objective.bind(data)
    objective.try_out(data)
    return objective, data


def flax() -> Flax:
    pytest.importorskip("flax")
    return Flax()


MODELS = {
    "plain": (Plain, dataset(Dense(IMAGES.reshape(M, -1)), CODES)),
    "plain, one-hot": (Plain, dataset(one_hot(FIELDS["mixed"]), CODES)),
    "plain, numbers": (Plain, dataset(one_hot(FIELDS["mixed"]), NUMBERS)),
    "signs": (Signs, dataset(one_hot(FIELDS["mixed"]), CODES > 0)),
    "equinox": (Convolution, dataset(Dense(IMAGES), CODES)),
    "flax": (flax, dataset(Dense(IMAGES), CODES)),
    "perceptron": (MLP, dataset(Dense(IMAGES), CODES)),
    "perceptron, one-hot": (lambda: MLP((4, 3), "gelu"), dataset(one_hot(FIELDS["mixed"]), CODES)),
    "perceptron, numbers": (lambda: MLP((4,), "tanh"), dataset(one_hot(FIELDS["mixed"]), NUMBERS)),
}


@pytest.mark.parametrize(
    ("name", "x64"),
    [(name, True) for name in MODELS] + [("plain", False), ("flax", False), ("perceptron, one-hot", False)],
)
def test_gradients_are_those_of_the_model_by_itself(name: str, x64: bool):
    """For one model and for several, in either precision."""
    with jax.enable_x64(x64):
        make, data = MODELS[name]
        objective, data = bound(make(), data)
        dtype, rtol = (np.dtype(np.float64), 1e-10) if x64 else (np.dtype(np.float32), 1e-3)
        weights = np.linspace(-1, 2, len(data.train)).astype(dtype)

        @jax.jit
        def one(key, rows):
            params = jax.tree.map(lambda leaf: leaf.astype(dtype), objective.model.init(key, data))
            features, target = rows.features.inputs(dtype), rows.target
            target = target if objective.targets == "classes" else target.astype(dtype)
            by_itself = jax.grad(lambda params: (weights * objective.model.loss(params, features, target)).sum())
            x, expected = objective.init(key, data), ravel_pytree(by_itself(params))[0]
            return params, objective.params(x), x, expected, objective.row_losses(x, rows)

        params, same, x, expected, loss = one(jax.random.key(3), data.train)
        jax.tree.map(np.testing.assert_array_equal, params, same)
        models, model_weights = np.stack([x, 0 * x, x], 1), np.stack([weights, weights, -weights], 1)
        gradient = jax.jit(objective.gradient)(x, data.train, weights)
        gradients = jax.jit(objective.gradient)(models, data.train, model_weights)
        losses = jax.jit(objective.row_losses)(models, data.train)
        assert {each.dtype for each in (x, gradient, gradients, losses)} == {dtype}
        within = {"atol": rtol * np.abs(expected).max()}
        np.testing.assert_allclose(gradient, expected, **within)
        np.testing.assert_allclose(gradients[:, 0], expected, **within)
        np.testing.assert_allclose(gradients[:, 2], -np.asarray(expected), **within)
        np.testing.assert_allclose(losses[:, 2], loss, rtol=10 * rtol)


@pytest.mark.parametrize("name", ["plain", "plain, one-hot", "equinox"])
def test_parts_of_the_rows_sum_to_the_gradient(name: str, monkeypatch: pytest.MonkeyPatch):
    make, data = MODELS[name]
    objective, data = bound(make(), data)
    x = jnp.stack([objective.init(jax.random.key(i), data) for i in (1, 2)], 1)
    weights = jnp.ones((len(data.train), 2))
    whole = objective.gradient(x, data.train, weights)
    monkeypatch.setattr("erasurehead_jax.objectives.model.FEW", 0)
    for rows in (1, 7, 60):
        monkeypatch.setattr(memory, "AT_ONCE", rows * _values_a_row(objective, x, data.train))
        jaxpr = jax.make_jaxpr(lambda x, rows, w: objective.gradient(x, rows, w))(x, data.train, weights)
        assert ("scan" in str(jaxpr)) or rows == 60
        np.testing.assert_allclose(objective.gradient(x, data.train, weights), whole, rtol=1e-10, atol=1e-10)


def _values_a_row(objective: Model, x: jax.Array, rows: Rows) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "AT_ONCE", 10**12)
        return round(10**12 / memory.rows_at_once(objective.row_losses, x, rows))
