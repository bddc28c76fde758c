"""Blocks assigned at random in pairs that are balanced, decoded with fixed weights."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.bernoulli import require_sizes
from erasurehead_jax.errors import ConfigError, require_number, require_whole
from erasurehead_jax.types import Assignment, Got, Number, Owner, Verdict, Weights


class StochasticCode(AbstractCode):
    """Block i has `copies[i]` copies on random workers; an unbiased sum without any decoding.

    Bitar, Wootters, El Rouayheb 2020, "Stochastic Gradient Coding for Straggler Mitigation in Distributed Learning": a
    worker sends the sum of its blocks' gradients, each divided by its copies, and the master adds what it has, divided
    by 1 - p, where p = 1 - wait_for/workers is the chance that a worker is late. The sum is unbiased, and the variance
    of block i's share is p / (copies (1 - p)) if workers are late independently. Blocks i and j share copies_i copies_j
    / k workers on average. Give more copies to blocks with larger gradients. Drawn from `code_seed`.

    Raises ConfigError unless copies lie between 1 and workers, one for all blocks or one for each, and
    1 <= wait_for <= workers.
    """

    G: Assignment
    owner: Owner
    arriving: Number  # 1 - p

    def __init__(self, blocks: int, workers: int, copies: int | Sequence[int], wait_for: Number, code_seed: int = 0):
        require_sizes(blocks, workers)
        require_number("wait_for", wait_for, above=0.0, at_most=float(workers))
        require_whole("code_seed", code_seed, 0)
        each = _copies(copies, blocks, workers)
        rng = np.random.default_rng(code_seed)
        self.G = np.zeros((blocks, workers))
        for block, count in enumerate(each):
            self.G[block, rng.permutation(workers)[:count]] = 1 / count
        self.owner = np.arange(workers)
        self.arriving = wait_for / workers

    def decodable(self, got: Got) -> Verdict:
        return got.all() & (self.arriving == 1)

    def weights(self, got: Got) -> Weights:
        return got / self.arriving


def _copies(copies: int | Sequence[int], blocks: int, workers: int) -> Int[np.ndarray, " n"]:
    each = np.broadcast_to(np.array(copies), blocks) if np.ndim(copies) == 0 else np.array(copies)
    if each.shape != (blocks,) or each.dtype.kind not in "iu" or each.min() < 1 or each.max() > workers:
        raise ConfigError(
            f"copies={copies}: must be a whole number between 1 and workers={workers}, or a list of blocks={blocks} of "
            "them"
        )
    return each
