"""A code that tests want in simulations and on real ranks: workers that differ in what they hold and send."""

import numpy as np

from erasurehead_jax import AbstractCode
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class Uneven(AbstractCode):
    """Three workers, four blocks: the first sends two blocks one by one and nothing in a third message, the second
    sends two blocks at once, and the third holds none."""

    G: Assignment
    owner: Owner

    def __init__(self):
        self.G = np.array([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]])
        self.owner = np.array([0, 0, 0, 1, 2])

    def decodable(self, got: Got) -> Verdict:
        return got[0] & got[1] & got[3]

    def weights(self, got: Got) -> Weights:
        return got.astype(float)
