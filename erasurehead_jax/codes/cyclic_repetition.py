"""Random coefficients on cyclic supports: exact for every set of load - 1 stragglers."""

import numpy as np

from erasurehead_jax.codes.any_workers import AbstractAnyWorkers, require_square
from erasurehead_jax.errors import require_whole
from erasurehead_jax.types import Assignment


class CyclicRepetition(AbstractAnyWorkers):
    """Worker j holds blocks j, ..., j+s (mod n), s = load - 1, and any n - s workers decode exactly.

    Tandon et al. 2017, "Gradient Coding", Algorithm 2: the coefficients lie in the null space of a Gaussian H (s x n)
    whose rows sum to zero. H is drawn from `code_seed`. Random H is ill-conditioned (4.5e3 at worst for s = 3).

    Raises ConfigError unless workers == blocks and 1 <= load <= blocks.
    """

    def __init__(self, blocks: int, workers: int, load: int, code_seed: int = 0):
        require_square("cyclic repetition", blocks, workers, load)
        require_whole("code_seed", code_seed, 0)
        stragglers = load - 1
        H = np.random.default_rng(code_seed).standard_normal((stragglers, blocks))
        H[:, -1] = -H[:, :-1].sum(1)
        self._set(_cyclic_null_space(H), stragglers)


def _cyclic_null_space(H: np.ndarray) -> Assignment:
    """Columns on cyclic supports with H @ column == 0: 1 on the first block, -H_rest^-1 H_first on the rest."""
    s, n = H.shape
    G = np.zeros((n, n))
    for j in range(n):
        rest = (j + 1 + np.arange(s)) % n
        G[j, j] = 1
        G[rest, j] = -np.linalg.solve(H[:, rest], H[:, j])
    return G
