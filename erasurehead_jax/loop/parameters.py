"""A script's parameters, any pytree of arrays of floats, as one flat vector and back."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import Params


class Parameters:
    """The structure, shapes and types of a script's parameters; vectors have the precision of the run.

    Raises ConfigError unless all leaves are arrays of finite floats.
    """

    def __init__(self, params: PyTree):
        named, self._structure = jax.tree_util.tree_flatten_with_path(params)
        if not named:
            raise ConfigError("params: has no arrays; must be a pytree of arrays of floats")
        self._names = [f"params{jax.tree_util.keystr(path)}" for path, _ in named]
        for name, (_, leaf) in zip(self._names, named, strict=True):
            _require_floats(name, leaf)
        self._like = [jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)) for _, leaf in named]
        self.dtype = np.dtype(jnp.result_type(float))
        self.count = sum(like.size for like in self._like)
        self._jitted_unravel = jax.jit(self.unravel)

    def ravel(self, params: PyTree) -> Float[np.ndarray, " d"]:
        """The vector, in memory of its own. Raises ConfigError for another structure, and inside `jax.jit`."""
        leaves, structure = jax.tree.flatten(params)
        if structure != self._structure:
            raise ConfigError(
                f"params: structure {structure}; must be that of the params which coded_gradient was given, "
                f"{self._structure}"
            )
        for name, leaf, like in zip(self._names, leaves, self._like, strict=True):
            if isinstance(leaf, jax.core.Tracer):
                raise ConfigError("gradient: is called inside jax.jit, grad or vmap; call it outside of them")
            if np.shape(leaf) != like.shape:
                raise ConfigError(f"{name}: has shape {np.shape(leaf)}; coded_gradient was given {like.shape}")
        return np.concatenate([np.asarray(leaf, self.dtype).reshape(-1) for leaf in leaves])

    def unravel(self, x: Params) -> PyTree:
        """The pytree of a vector, which may be traced."""
        ends = np.cumsum([like.size for like in self._like])
        parts = jnp.split(jnp.asarray(x), ends[:-1].tolist())
        leaves = [part.reshape(like.shape).astype(like.dtype) for part, like in zip(parts, self._like, strict=True)]
        return self._structure.unflatten(leaves)

    def arrays(self, x: Params) -> PyTree[Float[Array, "..."]]:
        """The pytree of a vector that is not traced."""
        return self._jitted_unravel(x)


def _require_floats(name: str, leaf: Any) -> None:
    try:
        kind = jnp.result_type(leaf)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name}: is a {type(leaf).__name__}; must be an array of floats (of an Equinox model, give "
            "coded_gradient the first part of eqx.partition(model, eqx.is_inexact_array))"
        ) from None
    if not jnp.issubdtype(kind, jnp.floating):
        raise ConfigError(f"{name}: has type {kind}; must be an array of floats")
    finite = np.isfinite(np.asarray(leaf, np.float64))
    if not finite.all():
        raise ConfigError(f"{name}: {np.asarray(leaf, np.float64)[~finite][0]} at the start; must be finite")
