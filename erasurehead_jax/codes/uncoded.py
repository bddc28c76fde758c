"""No redundancy: every block is held by exactly one worker."""

import numpy as np

from erasurehead_jax.codes.base import AbstractCode, require_multiple
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class Uncoded(AbstractCode):
    """Every worker holds its own n/k blocks and sends the sum of their gradients.

    Waiting for all workers is plain distributed gradient descent; waiting for r of them is "ignore stragglers" (Chen et
    al. 2016, "Revisiting Distributed Synchronous SGD"; Remark 1 of the ErasureHead paper).

    Raises ConfigError unless workers divides blocks.
    """

    G: Assignment
    owner: Owner

    def __init__(self, blocks: int, workers: int):
        require_multiple("blocks", blocks, "workers", workers, "without a code all workers hold equally many blocks")
        self.G = np.repeat(np.eye(workers), blocks // workers, axis=0)
        self.owner = np.arange(workers)

    def decodable(self, got: Got) -> Verdict:
        return got.all()

    def weights(self, got: Got) -> Weights:
        return got.astype(float)
