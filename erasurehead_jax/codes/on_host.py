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
    kind = np.dtype(bool) if found.dtype == bool else jnp.result_type(float)
    # float64 is sent as pairs of words: JAX calls back in a thread where x64 may be off, and would round it to float32.
    wide = kind == np.float64
    sent = jax.ShapeDtypeStruct((*found.shape, 2), np.uint32) if wide else jax.ShapeDtypeStruct(found.shape, kind)

    def rows(masks: Any) -> np.ndarray:
        masks = np.asarray(masks)
        flat = masks.reshape(-1, masks.shape[-1])
        values = np.array([decoder(mask) for mask in flat], kind)
        return (values[..., None].view(sent.dtype) if wide else values).reshape(masks.shape[:-1] + sent.shape)

    answers = jax.pure_callback(rows, sent, got, vmap_method="expand_dims")
    return jax.lax.bitcast_convert_type(answers, kind) if wide else answers
