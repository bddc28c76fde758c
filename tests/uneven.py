"""A code for tests, simulated and on real ranks, whose workers differ in what they hold and send."""

import numpy as np

from erasurehead_jax import AbstractCode
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class Uneven(AbstractCode):
    """Three workers and four blocks.

    The first worker sends two blocks in separate messages and an empty third one, the second sends two blocks in one
    message, and the third holds none.
    """

    G: Assignment
    owner: Owner

    def __init__(self):
        self.G = np.array([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]])
        self.owner = np.array([0, 0, 0, 1, 2])

    def decodable(self, got: Got) -> Verdict:
        return got[0] & got[1] & got[3]

    def weights(self, got: Got) -> Weights:
        return got.astype(float)
