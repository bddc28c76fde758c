"""Random keys derived from the seed of a run."""

from typing import Any

import jax

from erasurehead_jax.types import Key


def run_keys(seed: Any) -> tuple[Key, Key]:
    """The keys of the starting point and of the delays, which schemes compared under one seed share."""
    init, delay = jax.random.split(jax.random.key(seed))
    return init, delay
