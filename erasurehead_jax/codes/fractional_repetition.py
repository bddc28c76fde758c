"""Groups of workers that hold the same blocks."""

import equinox as eqx
import numpy as np

from erasurehead_jax.codes.base import AbstractCode, require_multiple
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class FractionalRepetition(AbstractCode):
    """n/c groups of l = kc/n workers; the workers of a group all hold its c blocks and send their plain sum.

    Tandon et al. 2017, "Gradient Coding"; section 2 of the ErasureHead paper. One answer per group suffices to decode
    exactly, so any l - 1 stragglers are tolerated, and often many more.

    Raises ConfigError unless load divides blocks and n/c divides workers.
    """

    G: Assignment
    owner: Owner
    groups: int = eqx.field(static=True)

    def __init__(self, blocks: int, workers: int, load: int):
        require_multiple("blocks", blocks, "load", load, "every group of workers holds `load` blocks")
        self.groups = blocks // load
        if workers < 1 or workers % self.groups:
            raise ConfigError(
                f"workers={workers}: must be a multiple of blocks/load={self.groups}, the number of groups"
            )
        self.G = np.kron(np.eye(self.groups), np.ones((load, workers // self.groups)))
        self.owner = np.arange(workers)

    def decodable(self, got: Got) -> Verdict:
        return got.reshape(self.groups, -1).any(1).all()

    def weights(self, got: Got) -> Weights:
        # The answers of a group are equal. Using the lowest-numbered one makes the order of arrival irrelevant.
        got = got.reshape(self.groups, -1)
        return (got & (got.cumsum(1) == 1)).reshape(-1).astype(float)
