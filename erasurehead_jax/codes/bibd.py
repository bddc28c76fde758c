"""Blocks assigned by a combinatorial design in which every two workers share equally many blocks."""

import equinox as eqx
import numpy as np
from jaxtyping import Int

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights

# (v, load, lambda): a set of residues mod v in which every other residue is a difference lambda times. Baumert 1971,
# "Cyclic Difference Sets"; those of quadratic residues are computed.
DIFFERENCE_SETS = {
    (3, 2, 1): (0, 1),
    (7, 3, 1): (1, 2, 4),
    (7, 4, 2): (0, 3, 5, 6),
    (11, 6, 3): (0, 2, 6, 7, 8, 10),
    (13, 4, 1): (0, 1, 3, 9),
    (15, 7, 3): (0, 1, 2, 4, 5, 8, 10),
    (21, 5, 1): (3, 6, 7, 12, 14),
    (31, 6, 1): (1, 5, 11, 24, 25, 27),
    (37, 9, 2): (1, 7, 9, 10, 12, 16, 26, 33, 34),
    (40, 13, 4): (1, 2, 3, 5, 6, 9, 14, 15, 18, 20, 25, 27, 35),
    (57, 8, 1): (1, 6, 7, 9, 19, 38, 42, 49),
    (73, 9, 1): (1, 2, 4, 8, 16, 32, 37, 55, 64),
    (91, 10, 1): (0, 1, 6, 10, 23, 26, 34, 41, 53, 55),
    (133, 12, 1): (1, 11, 16, 40, 41, 43, 52, 60, 74, 78, 121, 128),
}
# Designs that are no difference sets: (blocks, workers, load) -> the blocks of each worker.
DESIGNS = {
    # The dual of the affine plane of order 3: a worker for each of its 9 points, a block for each of its 12 lines.
    (12, 9, 4): tuple((x, 3 + y, 6 + (x + y) % 3, 9 + (x + 2 * y) % 3) for x in range(3) for y in range(3)),
    # The dual of the affine plane of order 2: the edges of the complete graph on 4 workers.
    (6, 4, 3): ((0, 1, 2), (0, 3, 4), (1, 3, 5), (2, 4, 5)),
}


class BIBD(AbstractCode):
    """Every worker holds `load` blocks and shares lambda of them with every other worker.

    Kadhe, Koyluoglu, Ramchandran 2019, "Gradient Coding Based on Block Designs for Mitigating Adversarial Stragglers":
    optimal decoding gives each of r answers the weight load / (load + lambda (r - 1)), and the decode error,
    n - load^2 r / (load + lambda (r - 1)), is the same whichever workers have answered. Cyclic designs come from
    difference sets, among them the quadratic residues of primes that are 3 mod 4.

    Raises ConfigError for sizes without a known design.
    """

    G: Assignment
    owner: Owner
    shared: int = eqx.field(static=True)  # lambda, the number of blocks that two workers share

    def __init__(self, blocks: int, workers: int, load: int):
        held = DESIGNS.get((blocks, workers, load)) or _cyclic_design(blocks, workers, load)
        if held is None:
            raise ConfigError(
                f"blocks={blocks}, workers={workers}, load={load}: no design of these sizes is known; choose one of "
                f"{', '.join(_known())} (v(load) has v blocks and workers), or a prime v = 3 mod 4 and load (v-1)/2"
            )
        self.G = np.zeros((blocks, workers))
        for worker, some in enumerate(held):
            self.G[list(some), worker] = 1
        meets = self.G.T @ self.G
        self.shared = int(meets[0, 1])
        self.owner = np.arange(workers)

    def decodable(self, got: Got) -> Verdict:
        return self.blocks * self._divisor(got) == self.load**2 * got.sum()

    def weights(self, got: Got) -> Weights:
        return got * (self.load / self._divisor(got))

    def _divisor(self, got: Got):
        return self.load + self.shared * (got.sum() - 1)


def _cyclic_design(v: int, workers: int, load: int) -> Int[np.ndarray, "v load"] | None:
    """The blocks of each worker, or None."""
    if workers != v:
        return None
    found = next(
        (residues for (size, count, _), residues in DIFFERENCE_SETS.items() if (size, count) == (v, load)), None
    )
    if found is None and load == (v - 1) // 2 and v % 4 == 3 and _prime(v):
        found = tuple(sorted({x * x % v for x in range(1, v)}))
    return None if found is None else (np.array(found) + np.arange(v)[:, None]) % v


def _known() -> list[str]:
    designs = [f"{blocks} blocks, {workers} workers, load {load}" for blocks, workers, load in DESIGNS]
    return [*(f"{v}({load})" for v, load, _ in DIFFERENCE_SETS), *designs]


def _prime(v: int) -> bool:
    return v > 1 and all(v % divisor for divisor in range(2, int(v**0.5) + 1))
