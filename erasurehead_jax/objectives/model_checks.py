"""The checks of a user's model, each with one line that says what is wrong with it."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from erasurehead_jax.data import Dataset
from erasurehead_jax.errors import ConfigError, require_choice, shown
from erasurehead_jax.objectives.metrics import METRICS, Metric

NEEDED = {"init": "(key, dataset)", "loss": "(params, features, target)"}


def require_methods(model: Any) -> None:
    """Raises ConfigError unless the object has the methods of a model, and attributes that can be understood."""
    if isinstance(model, str):
        raise ConfigError(f"objective.model={model}: must be an object; write objective.model._target_={model}")
    if isinstance(model, type):
        raise ConfigError(f"objective.model={model.__name__}: is a class; give an instance of it")
    for name, arguments in NEEDED.items():
        if not callable(getattr(model, name, None)):
            raise ConfigError(f"{_setting(model)}: has no method {name}{arguments}, which a model needs")
    targets, metric = (getattr(model, name, None) for name in ("targets", "metric"))
    if targets is not None:
        require_choice(f"{_setting(model)}, targets", targets, ("classes", "signs", "numbers"))
    if isinstance(metric, str):
        require_choice(f"{_setting(model)}, metric", metric, METRICS)
    elif metric is not None and not isinstance(metric, Metric):
        raise ConfigError(
            f"{_setting(model)}, metric={shown(metric)}: must be a Metric, or one of {', '.join(METRICS)}"
        )
    if metric not in (None, "loss") and not hasattr(model, "predict"):
        raise ConfigError(f"{_setting(model)}: has a metric, but no method predict(params, features) that it judges")


def require_predictions(model: Any) -> None:
    """Raises ConfigError for a model that only has losses."""
    if not hasattr(model, "predict"):
        raise ConfigError(f"{_setting(model)}: has no method predict(params, features), so it predicts nothing")


def trace_init(model: Any, dataset: Dataset) -> PyTree:
    """The shapes and types of the parameters. Raises ConfigError if JAX cannot trace `init`."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        return eqx.filter_eval_shape(lambda key: model.init(key, dataset), key)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{_setting(model)}: init cannot be traced by JAX ({reason}); its shapes must not depend on the key's "
            "value, and it must draw with jax.random"
        ) from error


@contextlib.contextmanager
def shapes_explained(model: Any, features: Any) -> Iterator[None]:
    """Turns JAX's error about shapes that do not fit into a ConfigError that names the shape of the features."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError) or not re.search("shape|dimension", str(error)):
            raise
        shape = features.shape[1:] if hasattr(features, "shape") else (features.dim,)
        advice = "; in init, use dataset.dim, which counts the constant column" if len(shape) == 1 else ""
        raise ConfigError(
            f"{_setting(model)}: cannot be computed for features of shape (rows, {', '.join(map(str, shape))}): "
            f"{str(error).splitlines()[0].rstrip('.')}{advice}"
        ) from error


def require_float_parameters(model: Any, template: PyTree) -> None:
    """Raises ConfigError for a parameter that is no array of floats, and for a model without any."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(template):
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            what = str(leaf.dtype) if hasattr(leaf, "dtype") else type(leaf).__name__
            raise ConfigError(
                f"{_setting(model)}: the parameter params{jax.tree_util.keystr(path)} is of type {what}; must be "
                "floats (of an equinox model, return eqx.filter(model, eqx.is_inexact_array))"
            )
    if not jax.tree.leaves(template):
        raise ConfigError(f"{_setting(model)}: init returned no parameters; must return arrays of floats")


def require_losses(model: Any, losses: Any, rows: int) -> None:
    """Raises ConfigError unless these are the shape and type of one loss a row."""
    if getattr(losses, "shape", None) != (rows,):
        raise ConfigError(
            f"{_setting(model)}: loss returned {_described(losses)} for {rows} rows; must be of shape ({rows},), one "
            "loss a row and not their mean"
        )
    if not jnp.issubdtype(losses.dtype, jnp.floating):
        raise ConfigError(f"{_setting(model)}: loss returned {_described(losses)}; must be floats")


def require_scores(model: Any, scores: Any, rows: int, classes: tuple[Any, ...] | None) -> None:
    """Raises ConfigError unless these are the shape and type of scores; `classes` is None unless there is one each."""
    allowed = [(rows,)] if classes is None or len(classes) == 2 else []
    allowed += [] if classes is None else [(rows, len(classes))]
    if getattr(scores, "shape", None) not in allowed:
        rule = " or ".join(map(str, allowed))
        raise ConfigError(f"{_setting(model)}: predict returned {_described(scores)} for {rows} rows; must be {rule}")


def require_finite(model: Any, losses: np.ndarray) -> None:
    """Raises ConfigError, naming the row, if a loss at the starting point is not finite."""
    if not (finite := np.isfinite(losses)).all():
        row = int(np.argmin(finite))
        raise ConfigError(
            f"{_setting(model)}: at the starting point the loss of training row {row} is {losses[row]}; must be finite"
        )


def require_values(model: Any, values: Any) -> None:
    """Raises ConfigError unless this is what a metric returned for two models."""
    if np.shape(values) != (2,):
        raise ConfigError(
            f"{_setting(model)}: the score of its metric returned {_described(values)} for scores of 2 models as their "
            "last axis; must be of shape (2,)"
        )


def _described(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__


def _setting(model: Any) -> str:
    return f"objective.model={type(model).__name__}"
