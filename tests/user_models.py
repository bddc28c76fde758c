"""Users' models: plain functions, and networks of equinox and flax."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from erasurehead_jax import Dataset


class Plain:
    """One hidden layer, of which the parameters are a dictionary; it takes features of any layout."""

    def init(self, key: Any, dataset: Dataset) -> dict[str, Any]:
        outputs = 1 if dataset.classes is None else len(dataset.classes)
        first, second = jax.random.split(key)
        return {
            "into": jax.random.normal(first, (dataset.dim, 5), jnp.float32),
            "out": jax.random.normal(second, (5, outputs), jnp.float32),
            "bias": jnp.zeros(outputs, jnp.float32),
        }

    def predict(self, params: Any, features: Any) -> Any:
        scores = jnp.tanh(features @ params["into"]) @ params["out"] + params["bias"]
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def loss(self, params: Any, features: Any, target: Any) -> Any:
        scores = self.predict(params, features)
        return cross_entropy(scores, target) if scores.ndim == 2 else (target - scores) ** 2


class Signs:
    """The logistic loss of a linear model, without predictions."""

    targets = "signs"

    def init(self, key: Any, dataset: Dataset) -> Any:
        return jnp.zeros(dataset.dim)

    def loss(self, params: Any, features: Any, target: Any) -> Any:
        return jnp.logaddexp(0, -target * (features @ params))


class Convolution:
    """A convolution of images and a linear layer in equinox. It holds an array that is no parameter."""

    def __init__(self, shift: float = 0.5):
        self.shift = jnp.full((1, 1, 1, 1), shift)

    def init(self, key: Any, dataset: Dataset) -> Any:
        first, second = jax.random.split(key)
        layers = [
            eqx.nn.Conv2d(1, 3, 3, key=first),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(3 * 6 * 6, len(dataset.classes or ()), key=second),
        ]
        params, self.static = eqx.partition(eqx.nn.Sequential(layers), eqx.is_inexact_array)
        return params

    def predict(self, params: Any, features: Any) -> Any:
        return jax.vmap(eqx.combine(params, self.static))(features[:, None] - self.shift)

    def loss(self, params: Any, features: Any, target: Any) -> Any:
        return cross_entropy(self.predict(params, features), target)


class Flax:
    """Two layers in flax.nnx."""

    def init(self, key: Any, dataset: Dataset) -> Any:
        from flax import nnx

        rngs = nnx.Rngs(key)
        into, out = nnx.Linear(dataset.dim, 5, rngs=rngs), nnx.Linear(5, len(dataset.classes or ()), rngs=rngs)
        self.graph, params = nnx.split(nnx.Sequential(into, nnx.relu, out))
        return params

    def predict(self, params: Any, features: Any) -> Any:
        from flax import nnx

        return nnx.merge(self.graph, params)(features.reshape(len(features), -1))

    def loss(self, params: Any, features: Any, target: Any) -> Any:
        return cross_entropy(self.predict(params, features), target)


def cross_entropy(logits: Any, target: Any) -> Any:
    return -jax.nn.log_softmax(logits)[jnp.arange(len(target)), target]
