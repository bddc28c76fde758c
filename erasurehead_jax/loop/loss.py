"""A script's loss: checked, taken row by row, and as a program that can be sent to the ranks."""

import inspect
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float

from erasurehead_jax.data import Rows
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.loop.parameters import Parameters
from erasurehead_jax.loop.rows import arguments_of
from erasurehead_jax.types import AnyArray, Params

TRIED = 13  # rows on which the loss is tried out: no likely number of outputs
RULE = "must return one loss a row, or their mean"


class Loss:
    """The gradient of `loss(params, *data)`, as a weighted sum over the rows of the data.

    The loss may return one value a row or the mean over the rows it is given; it is always taken of one row at a time.
    """

    def __init__(self, loss: Callable[..., Any], parameters: Parameters):
        self._loss, self.parameters = loss, parameters

    def gradient(self, x: Params, rows: Rows, weights: Float[AnyArray, " m"]) -> Float[Array, " d"]:
        """Sum over rows of weight * gradient of the row's loss."""
        losses, pull_back = jax.vjp(lambda x: self._alone(x, rows), jnp.asarray(x))
        return pull_back(jnp.asarray(weights, losses.dtype))[0]

    def _alone(self, x: Params, rows: Rows) -> Float[Array, " m"]:
        params, index = self.parameters.unravel(x), jnp.arange(rows.target.shape[0])
        one = lambda i: self._loss(params, *arguments_of(rows.take(i[None]), self.parameters.dtype))
        return jax.vmap(lambda i: jnp.reshape(one(i), ()))(index)

    def _together(self, x: Params, rows: Rows) -> Any:
        return self._loss(self.parameters.unravel(x), *arguments_of(rows, self.parameters.dtype))

    def try_out(self, x: Params, rows: Rows) -> None:
        """Raises ConfigError for a loss of the wrong shape, one that is not finite, or one that mixes rows."""
        some = rows.take(np.arange(TRIED) % len(rows))
        _require_arguments(self._loss, arguments_of(some, self.parameters.dtype))
        _require_shape(jax.eval_shape(self._together, x, some))
        together, alone = map(np.asarray, jax.jit(lambda *at: (self._together(*at), self._alone(*at)))(x, some))
        if not np.isfinite(together).all():
            raise ConfigError(f"loss: is {_odd(together)} at the start; must be finite")
        if not np.isfinite(alone).all():
            raise ConfigError(
                f"loss: of {TRIED} rows is {together.ravel()[0]:.6g}, but of one row alone it is {_odd(alone)}; a "
                "row's loss must not depend on other rows (no batch normalisation)"
            )
        expected = alone if together.ndim else alone.mean()
        off = np.abs(together - expected).max()
        if off > float(jnp.finfo(together.dtype).eps) ** 0.5 * (np.abs(alone).mean() + np.abs(together).max()):
            raise ConfigError(
                f"loss: of {TRIED} rows is {together.ravel()[0]:.6g}, but of each alone it is "
                f"{expected.ravel()[0]:.6g}{'' if together.ndim else ' in the mean'}; {RULE}, and the loss of a row "
                "must not depend on other rows (no sums, no batch normalisation)"
            )

    def exported(self, rows: Rows) -> bytes:
        """The program of `gradient` for any number of rows like these, which needs no Python of the script's.

        Raises ConfigError for a loss that calls back into Python.
        """
        leaves, structure = jax.tree.flatten(rows)
        two, three = (jax.tree.leaves(rows.take(np.arange(count) % len(rows))) for count in (2, 3))
        (m,) = export.symbolic_shape("m")
        shapes = [
            jax.ShapeDtypeStruct([m if a != b else a for a, b in zip(a.shape, b.shape, strict=True)], leaf.dtype)
            for a, b, leaf in zip(two, three, leaves, strict=True)
        ]
        vectors = [jax.ShapeDtypeStruct((size,), self.parameters.dtype) for size in (self.parameters.count, m)]
        gradient = lambda x, weights, *leaves: self.gradient(x, structure.unflatten(leaves), weights)
        platforms = ["cpu"] if os.environ.get("JAX_PLATFORMS") == "cpu" else ["cpu", "cuda"]
        program = jax.jit(gradient)
        traced = program.trace(*vectors, *shapes)  # here an error of the script's keeps its traceback
        refused = (
            "loss: cannot be sent to the ranks ({}); must be a program for JAX alone, without jax.debug.print or other "
            "callbacks into Python"
        )
        if effects := traced.jaxpr.effects:
            raise ConfigError(refused.format(f"it has effects: {', '.join(sorted(map(str, effects)))}"))
        try:
            return bytes(export.export(program, platforms=platforms)(*vectors, *shapes).serialize())
        except (NotImplementedError, ValueError) as error:  # a callback without effects, for several platforms or one
            raise ConfigError(refused.format(str(error).splitlines()[0])) from error


def _odd(values: np.ndarray) -> Any:
    """The first value that is not finite."""
    return values[~np.isfinite(values)][0]


def _require_arguments(loss: Callable[..., Any], data: tuple[Any, ...]) -> None:
    """Raises ConfigError unless the loss takes so many arguments besides params."""
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # of a built-in
        return
    try:
        signature.bind(None, *data)
    except TypeError as error:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        needed = sum(each.kind in kinds and each.default is each.empty for each in signature.parameters.values()) - 1
        if needed < 1 or needed == len(data):
            raise ConfigError(f"loss: cannot be called with params and {len(data)} arguments ({error})") from error
        given = "one array" if len(data) == 1 else f"{len(data)} arrays"
        takes = "1 argument" if needed == 1 else f"{needed} arguments"
        raise ConfigError(
            f"data: {given}, but the loss takes {takes} besides params: give a tuple of {needed}"
        ) from error


def _require_shape(found: Any) -> None:
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise ConfigError(f"loss: returned a {type(found).__name__}; {RULE}, as one array")
    if found.shape not in ((), (TRIED,)):
        raise ConfigError(f"loss: returned shape {found.shape} for {TRIED} rows; {RULE}")
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise ConfigError(f"loss: returned {found.dtype}; {RULE}, as floats")
