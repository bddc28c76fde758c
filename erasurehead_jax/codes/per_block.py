"""Partial work counts: every block's sum is a message of its own."""

import numpy as np
from jaxtyping import Int

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class PerBlock(AbstractCode):
    """The workers hold the blocks of another code, but send each block's sum as soon as it is done.

    What a straggler has finished is used, at the price of more bytes: one message a block. A round can be decoded
    exactly once every block has arrived from anybody; coefficients are not needed. Workers begin with different blocks
    (Ozfatura, Ulukus, Gunduz 2020, "Straggler-Aware Distributed Learning: Communication-Computation Latency
    Trade-Off"): at each position a worker takes the block that the fewest have taken so far.
    """

    G: Assignment
    owner: Owner

    def __init__(self, code: AbstractCode):
        worker, block = _orders(code.holds)
        self.owner = worker
        self.G = np.zeros((code.blocks, len(worker)))
        self.G[block[block >= 0], np.flatnonzero(block >= 0)] = 1

    def decodable(self, got: Got) -> Verdict:
        return ((self.G != 0) & got).any(1).all()

    def weights(self, got: Got) -> Weights:
        # Copies of a block are equal. Using the lowest-numbered one makes the order of arrival irrelevant.
        arrived = (self.G != 0) & got
        return (arrived & (arrived.cumsum(1) == 1)).any(0).astype(float)


def _orders(holds: np.ndarray) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """The worker and the block of each message: all first messages, then all second ones and so on.

    A worker without blocks has one empty message, of block -1.
    """
    left = [set(np.flatnonzero(column).tolist()) for column in holds.T]
    taken = np.zeros(len(holds), int)
    messages = [(worker, -1) for worker, blocks in enumerate(left) if not blocks]
    while any(left):
        for worker, blocks in enumerate(left):
            if blocks:
                block = min(blocks, key=lambda each: (taken[each], each))
                blocks.remove(block)
                taken[block] += 1
                messages.append((worker, block))
    worker, block = np.array(messages).T
    return worker, block
