"""Blocks assigned by independent coin tosses."""

import numpy as np

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.one_step import one_step_weights
from erasurehead_jax.errors import ConfigError, require_number, require_whole
from erasurehead_jax.types import Assignment, Got, Number, Owner, Verdict, Weights


class Bernoulli(AbstractCode):
    """Every worker holds every block with probability load/blocks; one-step decoding, never certain to be exact.

    Charles, Papailiopoulos, Ellenberg 2017, "Approximate Gradient Coding via Sparse Random Graphs" (BGC). With
    `most_blocks`, random blocks are taken away from workers that hold more; 2 * load is the paper's regularised code
    (rBGC). A worker may hold no block, and a block may be held by nobody. Drawn from `code_seed`.

    Raises ConfigError unless 0 < load <= blocks and `most_blocks` is at least 1.
    """

    G: Assignment
    owner: Owner
    copies_on_average: float  # before blocks are taken away

    def __init__(self, blocks: int, workers: int, load: Number, most_blocks: int | None = None, code_seed: int = 0):
        require_sizes(blocks, workers)
        require_number("load", load, above=0.0, at_most=float(blocks))
        require_whole("code_seed", code_seed, 0)
        rng = np.random.default_rng(code_seed)
        self.G = (rng.random((blocks, workers)) < load / blocks).astype(float)
        if most_blocks is not None:
            require_whole("most_blocks", most_blocks, 1)
            for column in self.G.T:
                held = np.flatnonzero(column)
                column[rng.permutation(held)[most_blocks:]] = 0
        self.owner = np.arange(workers)
        self.copies_on_average = float(load * workers / blocks)

    def decodable(self, got: Got) -> Verdict:
        return got.all() & False

    def weights(self, got: Got) -> Weights:
        return one_step_weights(got, self.copies_on_average)


def require_sizes(blocks: int, workers: int) -> None:
    """Raises ConfigError unless there is at least one block and one worker."""
    for name, value in (("blocks", blocks), ("workers", workers)):
        if value < 1:
            raise ConfigError(f"{name}={value}: must be at least 1")
