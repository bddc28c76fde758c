"""Any JAX model as an objective: its parameters are a pytree, which travels as one vector and is unravelled inside."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree, Shaped

from erasurehead_jax.data import Dataset, Rows, are_classes, as_classes, as_signs, require_numbers
from erasurehead_jax.objectives.base import AbstractObjective
from erasurehead_jax.objectives.labels import class_of, probabilities_of
from erasurehead_jax.objectives.memory import rows_at_once
from erasurehead_jax.objectives.metrics import ACCURACY, AUC, LOSS, METRICS, MSE, Metric
from erasurehead_jax.objectives.model_checks import (
    require_finite,
    require_float_parameters,
    require_losses,
    require_methods,
    require_predictions,
    require_scores,
    require_values,
    shapes_explained,
    trace_init,
)
from erasurehead_jax.types import AnyArray, Key, Params

Targets = Literal["classes", "signs", "numbers"]
METRIC_OF: dict[str, Metric] = {"classes": ACCURACY, "signs": AUC, "numbers": MSE}
TRACED = 13  # rows on which shapes are checked: no likely number of classes or columns
TRIED = 256  # rows whose losses at a starting point are computed
FEW = 1024  # rows whose gradient is taken at once without asking how much memory that needs


class Model(AbstractObjective):
    """A model given by an object with these methods, of which the last is optional:

    - `init(key, dataset)` returns the parameters, a pytree of arrays of floats, and can be traced by JAX;
    - `loss(params, features, target)` returns the loss of each row;
    - `predict(params, features)` returns K logits a row for classes, and one number a row otherwise, which is the
      log-odds of the second class if there are two.

    `features` is an array, or for columns that are not all dense an object with `features @ W` and `len(features)`.
    `target` depends on the object's attribute `targets`: `classes` (codes 0 to K - 1; `dataset.classes` has their
    names), `signs` (-1 and +1) or `numbers`. Without it, few distinct values are taken for classes. Another attribute,
    `metric`, may name the test metric or be one; otherwise it is the accuracy, the AUC or the mean squared error, and
    without `predict` the loss.
    """

    model: Any
    targets: Targets | None = eqx.field(static=True, default=None)  # what `bind` found the targets to be
    template: PyTree = None  # the shapes of the parameters, which `bind` sets too

    def __check_init__(self):
        require_methods(self.model)

    def __hash__(self) -> int:
        return id(self)  # jax.jit needs one, and neither arrays in a model nor dictionaries of shapes have any

    @property
    def metric(self) -> Metric:
        named = getattr(self.model, "metric", None)
        if named is not None:
            return METRICS[named] if isinstance(named, str) else named
        return METRIC_OF[self._kind] if hasattr(self.model, "predict") else LOSS

    def init(self, key: Key, dataset: Dataset) -> Params:
        parameters = self.model.init(key, dataset)
        return ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), parameters))[0]

    def check(self, dataset: Dataset) -> Dataset:
        match self._named or ("classes" if are_classes(dataset) else "numbers"):
            case "classes":
                return as_classes(dataset, "objective.model.targets=classes")
            case "signs":
                return as_signs(dataset, "objective.model.targets=signs")
        require_numbers(dataset)
        return dataset

    def bind(self, dataset: Dataset) -> "Model":
        template = trace_init(self.model, dataset)
        require_float_parameters(self.model, template)
        kind = self._named or ("numbers" if dataset.classes is None else "classes")
        bound = dataclasses.replace(self, targets=kind, template=template)
        bound._require_shapes(dataset)
        return bound

    def _require_shapes(self, dataset: Dataset) -> None:
        some = dataset.train.take(slice(TRACED))
        x = jax.ShapeDtypeStruct(
            (sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.template)),), jnp.result_type(float)
        )
        given = lambda x, rows: (self.params(x), rows.features.inputs(x.dtype))
        loss = lambda x, rows: self.model.loss(*given(x, rows), self._target(rows, x.dtype))
        features = some.features.inputs(x.dtype)
        with shapes_explained(self.model, features):
            losses = jax.eval_shape(loss, x, some)
        require_losses(self.model, losses, len(some))
        if hasattr(self.model, "predict"):
            with shapes_explained(self.model, features):
                scores = jax.eval_shape(lambda x, rows: self.model.predict(*given(x, rows)), x, some)
            require_scores(self.model, scores, len(some), dataset.classes if self.targets == "classes" else None)

    def try_out(self, dataset: Dataset) -> None:
        losses = jax.jit(lambda key, rows: self.row_losses(self.init(key, dataset), rows))
        require_finite(self.model, np.asarray(losses(jax.random.key(0), dataset.train.take(slice(TRIED)))))
        if isinstance(getattr(self.model, "metric", None), Metric):
            some = dataset.test.take(slice(TRIED))
            predictions = jax.jit(lambda key, rows: self.predict(self.init(key, dataset)[:, None].repeat(2, 1), rows))
            scores = np.asarray(predictions(jax.random.key(0), some), np.float64)
            require_values(self.model, self.metric.score(np.asarray(some.target), scores))

    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *scores"]:
        require_predictions(self.model)
        features = rows.features.inputs(x.dtype)
        return self._each(lambda params: self.model.predict(params, features), x)

    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        features, target = rows.features.inputs(x.dtype), self._target(rows, x.dtype)
        return self._each(lambda params: self.model.loss(params, features, target), x)

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        """The weighted gradient, summed over parts of the rows that fit in memory."""
        x, row_weights = jnp.asarray(x), jnp.asarray(row_weights, x.dtype)
        if len(rows) <= FEW or (fit := rows_at_once(self.row_losses, x, rows)) >= len(rows):
            return super().gradient(x, rows, row_weights)
        parts = math.ceil(len(rows) / fit)
        size = math.ceil(len(rows) / parts)
        index = np.arange(parts * size).reshape(parts, size)
        rows = jax.tree.map(jnp.asarray, rows)

        def add(total, index):
            here = jnp.minimum(index, len(rows) - 1)  # the last part is filled up with rows of no weight
            inside = (index < len(rows)).reshape(-1, *[1] * (x.ndim - 1))
            weights = jnp.where(inside, row_weights[here], 0)
            return total + AbstractObjective.gradient(self, x, rows.take(here), weights), None

        return jax.lax.scan(add, jnp.zeros_like(x), index)[0]

    def touched(self, rows: Rows) -> None:
        return None

    def restrict(self, rows: Rows, touched: Int[np.ndarray, " t"] | None) -> Rows:
        """All columns, in the layout that is fast for gradients."""
        del touched  # all
        return rows if rows.features.touched() is None else rows.restrict(np.arange(rows.features.dim))

    def params(self, x: Params) -> PyTree:
        shapes = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, x.dtype), self.template)
        return ravel_pytree(shapes)[1](jnp.asarray(x))

    def decide(self, scores: Float[AnyArray, "m *outputs"], classes: tuple[Any, ...] | None) -> Shaped[np.ndarray, "m"]:
        return np.asarray(scores) if self._kind == "numbers" else class_of(scores, classes)

    def probabilities(self, scores: Float[AnyArray, "m *outputs"]) -> Float[np.ndarray, "m K"] | None:
        return None if self._kind == "numbers" else probabilities_of(scores)

    @property
    def _named(self) -> Targets | None:
        return getattr(self.model, "targets", None)

    @property
    def _kind(self) -> Targets:
        if self.targets is None:
            raise TypeError("bind(dataset) first: a model's parameters and targets are those for its data")
        return self.targets

    def _each(self, function: Callable[[PyTree], Array], x: AnyArray) -> Array:
        """The value of `function` for the parameters of each model, which are the last axis of what is returned."""
        of_vector = lambda x: function(self.params(x))
        for _ in range(x.ndim - 1):
            of_vector = jax.vmap(of_vector, in_axes=-1, out_axes=-1)
        return of_vector(jnp.asarray(x))

    def _target(self, rows: Rows, dtype: np.dtype) -> Array:
        return jnp.asarray(rows.target).astype(jnp.int32 if self._kind == "classes" else dtype)
