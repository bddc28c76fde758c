"""What is kept for the next run: raw and prepared data, and compiled functions."""

import platform
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The user's cache (XDG_CACHE_HOME is respected)."""
    return Path(platformdirs.user_cache_dir("erasurehead-jax"))


def keep_compiled() -> None:
    """Turns JAX's cache on, in the user's cache and by machine: a shared home may serve processors of several kinds."""
    import jax  # late: preparing data needs none

    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled" / platform.node()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
