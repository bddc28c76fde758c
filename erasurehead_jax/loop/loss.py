"""A script's loss: checked, taken row by row, and as a program that can be sent to the ranks."""

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
        _require_shape(jax.eval_shape(self._together, x, some))
        together, alone = map(np.asarray, jax.jit(lambda *at: (self._together(*at), self._alone(*at)))(x, some))
        if not (np.isfinite(together).all() and np.isfinite(alone).all()):
            raise ConfigError(f"loss: is {together.ravel()[0]} at the start; must be finite")
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
        program.trace(*vectors, *shapes)  # an error of the script's keeps its traceback; below, only JAX objects
        try:
            return bytes(export.export(program, platforms=platforms)(*vectors, *shapes).serialize())
        except (NotImplementedError, ValueError) as error:
            raise ConfigError(
                f"loss: cannot be sent to the ranks ({str(error).splitlines()[0]}); must be a program for JAX alone, "
                "without jax.debug.print or other callbacks into Python"
            ) from error


def _require_shape(found: Any) -> None:
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise ConfigError(f"loss: returned a {type(found).__name__}; {RULE}, as one array")
    if found.shape not in ((), (TRIED,)):
        raise ConfigError(f"loss: returned shape {found.shape} for {TRIED} rows; {RULE}")
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise ConfigError(f"loss: returned {found.dtype}; {RULE}, as floats")
