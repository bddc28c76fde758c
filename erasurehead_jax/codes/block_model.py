"""Blocks assigned by coin tosses that favour a worker's own group."""

import numpy as np

from erasurehead_jax.codes.base import AbstractCode, require_multiple
from erasurehead_jax.codes.one_step import one_step_weights
from erasurehead_jax.errors import ConfigError, require_number, require_whole
from erasurehead_jax.types import Assignment, Got, Number, Owner, Verdict, Weights


class BlockModel(AbstractCode):
    """Workers and blocks in groups of `group`: a worker holds a block of its own group with probability `inside`, any
    other with the probability that makes its expected load `load`. One-step decoding, never certain to be exact.

    Charles, Papailiopoulos 2018, "Gradient Coding Using the Stochastic Block Model". inside = load/blocks is the
    Bernoulli code; inside = 1 and group = load is fractional repetition. Drawn from `code_seed`.

    Raises ConfigError unless workers == blocks, group divides them, and both probabilities lie between 0 and 1.
    """

    G: Assignment
    owner: Owner
    expected_load: float

    def __init__(self, blocks: int, workers: int, load: Number, group: int, inside: Number, code_seed: int = 0):
        if workers != blocks:
            raise ConfigError(f"blocks={blocks}: the block model needs as many blocks as workers ({workers})")
        require_multiple("workers", workers, "group", group, "all groups have the same size")
        require_number("load", load, above=0.0, at_most=float(blocks))
        require_number("inside", inside, at_most=1.0)
        require_whole("code_seed", code_seed, 0)
        others = workers - group
        outside = (load - group * inside) / others if others else 0.0
        if not 0 <= outside <= 1 or (not others and load != group * inside):
            least, most = max(0.0, (load - others) / group), min(1.0, load / group)
            raise ConfigError(
                f"inside={inside}: must lie between {least:g} and {most:g} for load={load} and group={group}, so that "
                "a worker can hold `load` blocks on average"
            )
        same = np.kron(np.eye(workers // group), np.ones((group, group))) == 1
        chance = np.where(same, inside, outside)
        self.G = (np.random.default_rng(code_seed).random((blocks, workers)) < chance).astype(float)
        self.owner = np.arange(workers)
        self.expected_load = float(load)

    def decodable(self, got: Got) -> Verdict:
        return got.all() & False

    def weights(self, got: Got) -> Weights:
        return one_step_weights(got, self.expected_load)
