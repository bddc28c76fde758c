"""The built-in network: a multilayer perceptron for classes or numbers, on features of any layout."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data import AbstractFeatures, Dataset
from erasurehead_jax.errors import ConfigError, require_choice, require_whole
from erasurehead_jax.types import Key

ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "softplus", "sigmoid")
TARGETS = {None: None, "classification": "classes", "regression": "numbers"}
ROWS, PROBES = 256, 8  # with which the size of a row is estimated


class Layer(eqx.Module):
    """inputs @ weight + bias."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, inputs: Any) -> Float[Array, "m outputs"]:
        return inputs @ self.weight + self.bias


class MLP(eqx.Module):
    """A multilayer perceptron with these widths of hidden layers: softmax cross entropy for classes, else (y - z)^2.

    Images are flattened. Without a `task`, few distinct values of the target are taken for classes.
    """

    hidden: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(64,))
    activation: str = eqx.field(static=True, default="relu")
    task: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        for width in self.hidden:
            require_whole("objective.model.hidden", width, 1)
        require_choice("objective.model.activation", self.activation, ACTIVATIONS)
        if self.task not in TARGETS:
            raise ConfigError(f"objective.model.task={self.task}: must be classification, regression or null")

    @property
    def targets(self) -> str | None:
        """What the targets are, as `Model` asks for it."""
        return TARGETS[self.task]

    def init(self, key: Key, dataset: Dataset) -> list[Layer]:
        """Uniform in +-1/sqrt(inputs), as equinox and PyTorch draw them, with the squared norm of a row for the number
        of its columns, most of which are zero in one-hot rows.

        The numbers are drawn in float32, so that they are the same in every precision.
        """
        outputs = 1 if self.task == "regression" or dataset.classes is None else len(dataset.classes)
        widths = [dataset.dim, *self.hidden, outputs]
        sizes = [_size_of_a_row(dataset.train.features), *self.hidden]
        keys = jax.random.split(key, len(sizes))
        return [_layer(*each) for each in zip(keys, widths[:-1], widths[1:], sizes, strict=True)]

    def loss(
        self,
        params: list[Layer],
        features: AbstractFeatures | Float[Array, "m ..."],
        target: Int[Array, " m"] | Float[Array, " m"],
    ) -> Float[Array, " m"]:
        """The loss of each row; targets of classes are their codes."""
        scores = self.predict(params, features)
        if scores.ndim == 1:
            return (target - scores) ** 2
        return jax.nn.logsumexp(scores, axis=1) - jnp.take_along_axis(scores, target[:, None], 1)[:, 0]

    def predict(
        self, params: list[Layer], features: AbstractFeatures | Float[Array, "m ..."]
    ) -> Float[Array, "m *outputs"]:
        """Logits (m, K) of classes, or numbers (m,)."""
        flat = features.reshape(len(features), -1) if isinstance(features, jax.Array) else features
        first, *others = params
        scores = first(flat)
        for layer in others:
            scores = layer(getattr(jax.nn, self.activation)(scores))
        return scores[:, 0] if scores.shape[1] == 1 else scores


def _layer(key: Key, inputs: int, outputs: int, size: float | int) -> Layer:
    uniform = jax.random.uniform(key, (inputs + 1, outputs), jnp.float32, -1, 1)
    scaled = (uniform * np.float32(1 / math.sqrt(size))).astype(float)
    return Layer(scaled[:-1], scaled[-1])


def _size_of_a_row(features: AbstractFeatures) -> float:
    """The mean squared norm of the first rows, to the next power of two, which does not depend on the precision.

    For random signs s, the mean of (row . s)^2 is the squared norm of the row, in any layout.
    """
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (features.dim, PROBES))
    with jax.ensure_compile_time_eval():
        squared = np.mean(np.asarray(features.take(slice(ROWS)).matvec(jnp.asarray(signs))) ** 2)
    return 2.0 ** round(math.log2(squared)) if squared > 0 else 1.0
