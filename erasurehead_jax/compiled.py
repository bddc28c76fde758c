"""Compiled functions are kept for the next run."""

import platform

import jax

from erasurehead_jax.data.raw import cache_dir


def keep_compiled() -> None:
    """Turns JAX's cache on, in the user's cache and by machine: a shared home may serve processors of several kinds."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled" / platform.node()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
