"""Decoders in plain NumPy inside the simulator's compiled rounds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from erasurehead_jax.types import Got


def on_host(decoder: Callable[[Bool[np.ndarray, " M"]], Any], got: Got) -> Any:
    """Calls a decoder, which takes a NumPy mask and returns one number for each message or a single truth value.

    For a decoder that JAX cannot trace, or that is faster in NumPy. In the simulator it is called once for every run of
    a batch, on the host, so that both backends decode with the same arithmetic.
    """
    if isinstance(got, np.ndarray):
        return decoder(got)
    found = np.asarray(decoder(np.ones(got.shape, bool)))
    if found.dtype == bool:
        return _called(decoder, got, found.shape, bool)
    precision = jnp.result_type(float)
    if precision == np.float32:
        return _called(decoder, got, found.shape, np.float32)
    # JAX rounds what a callback returns to float32 where x64 is not enabled for all threads, so it returns the bits.
    bits = lambda mask: np.asarray(decoder(mask), np.float64)[..., None].view(np.uint32)
    return jax.lax.bitcast_convert_type(_called(bits, got, (*found.shape, 2), np.uint32), precision)


def _called(decoder: Callable[[Any], Any], got: Got, shape: tuple[int, ...], kind: type) -> Any:
    def rows(masks: Any) -> np.ndarray:
        masks = np.asarray(masks)
        flat = masks.reshape(-1, masks.shape[-1])
        return np.array([decoder(mask) for mask in flat], kind).reshape(masks.shape[:-1] + shape)

    return jax.pure_callback(rows, jax.ShapeDtypeStruct(shape, kind), got, vmap_method="expand_dims")
