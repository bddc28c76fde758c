"""Every worker draws one batch of blocks."""

import equinox as eqx
import numpy as np

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.bernoulli import require_sizes
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class CouponCollector(AbstractCode):
    """The blocks are cut into batches of `load`; every worker draws one batch and sends its sum.

    Li, Kalan, Avestimehr, Soltanolkotabi 2018, "Near-Optimal Straggler Mitigation for Distributed Gradient Methods"
    (batched coupon collector): exact once every batch is there, which takes b H_b workers on average for b batches, if
    there are as many workers as it takes. A batch may have been drawn by nobody; then no round is exact. Drawn from
    `code_seed`.

    Raises ConfigError unless 1 <= load <= blocks.
    """

    G: Assignment
    owner: Owner
    batches: int = eqx.field(static=True)
    drawn: Owner  # the batch of each worker

    def __init__(self, blocks: int, workers: int, load: int, code_seed: int = 0):
        require_sizes(blocks, workers)
        require_whole("code_seed", code_seed, 0)
        if not 1 <= load <= blocks:
            raise ConfigError(f"load={load}: must lie between 1 and blocks={blocks}")
        self.batches = -(-blocks // load)
        self.drawn = np.random.default_rng(code_seed).integers(self.batches, size=workers)
        self.G = (np.arange(blocks)[:, None] // load == self.drawn).astype(float)
        self.owner = np.arange(workers)

    @property
    def _draws(self) -> np.ndarray:
        """Bool (batches, k): whether each worker has drawn each batch."""
        return np.arange(self.batches)[:, None] == self.drawn

    def decodable(self, got: Got) -> Verdict:
        return (self._draws & got).any(1).all()

    def weights(self, got: Got) -> Weights:
        # Answers with the same batch are equal. Using the lowest-numbered one makes the order of arrival irrelevant.
        arrived = self._draws & got
        return (arrived & (arrived.cumsum(1) == 1)).any(0).astype(float)
