"""Random coefficients on cyclic supports: exact for every set of load - 1 stragglers."""

import equinox as eqx
import numpy as np

from erasurehead_jax.codes.base import AbstractCode, least_squares_weights
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class CyclicRepetition(AbstractCode):
    """Worker j holds blocks j, ..., j+s (mod n), s = load - 1, and any n - s workers decode exactly.

    Tandon et al. 2017, "Gradient Coding", Algorithm 2: the coefficients lie in the null space of a Gaussian H (s x n)
    whose rows sum to zero. H is drawn from `code_seed`. Random H is ill-conditioned (4.5e3 at worst for s = 3), so
    decoding is least squares in float64.

    Raises ConfigError unless workers == blocks and 1 <= load <= blocks.
    """

    G: Assignment
    owner: Owner
    stragglers: int = eqx.field(static=True)  # s

    def __init__(self, blocks: int, workers: int, load: int, code_seed: int = 0):
        if workers != blocks:
            raise ConfigError(f"blocks={blocks}: cyclic repetition needs as many blocks as workers ({workers})")
        require_whole("code_seed", code_seed, 0)
        if not 1 <= load <= blocks:
            raise ConfigError(f"load={load}: must lie between 1 and blocks={blocks}")
        self.stragglers = load - 1
        H = np.random.default_rng(code_seed).standard_normal((self.stragglers, blocks))
        H[:, -1] = -H[:, :-1].sum(1)
        self.G = _cyclic_null_space(H)
        self.owner = np.arange(workers)

    def decodable(self, got: Got) -> Verdict:
        return got.sum() >= self.workers - self.stragglers

    def weights(self, got: Got) -> Weights:
        return least_squares_weights(self.G, got)


def _cyclic_null_space(H: np.ndarray) -> Assignment:
    """Columns on cyclic supports with H @ column == 0: 1 on the first block, -H_rest^-1 H_first on the rest."""
    s, n = H.shape
    G = np.zeros((n, n))
    for j in range(n):
        rest = (j + 1 + np.arange(s)) % n
        G[j, j] = 1
        G[rest, j] = -np.linalg.solve(H[:, rest], H[:, j])
    return G
