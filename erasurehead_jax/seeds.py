"""What follows from a seed."""

from typing import Any

import jax

from erasurehead_jax.types import Key


def run_keys(seed: Any) -> tuple[Key, Key]:
    """The key of the starting point and the key of the delays: schemes compared under one seed share both."""
    init, delay = jax.random.split(jax.random.key(seed))
    return init, delay
