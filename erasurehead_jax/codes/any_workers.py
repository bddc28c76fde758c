"""Codes that decode exactly from any k - s workers, and their decoder."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.codes.on_host import on_host
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights

RANK = 1e-13  # relative to the largest singular value: random coefficients of 1,000 workers go down to 1e-8


class AbstractAnyWorkers(AbstractCode):
    """Load s + 1, the least that s stragglers allow (Tandon et al. 2017, Theorem 1); one message a worker.

    Decoding solves s equations instead of a least-squares problem. All a with G a = 1 are a_0 + N z, where a_0 decodes
    all messages and the columns of N (at least s) span the null space of G; z is chosen so that a is zero for
    stragglers. With more than s stragglers, least squares.
    """

    G: Assignment
    owner: Owner
    stragglers: int = eqx.field(static=True)  # s
    decodes_all: Float[np.ndarray, " k"]  # a_0, of minimum norm
    null_space: Float[np.ndarray, "k z"]  # N, orthonormal

    def _set(self, G: Assignment, stragglers: int) -> None:
        """Called by __init__."""
        blocks, workers = G.shape
        self.G, self.owner, self.stragglers = G, np.arange(workers), stragglers
        left, values, right = np.linalg.svd(G)
        rank = min(workers - stragglers, int((values > RANK * values[0]).sum()))
        self.decodes_all = right[:rank].T @ (left[:, :rank].T @ np.ones(blocks) / values[:rank])
        self.null_space = right[rank:].T

    def decodable(self, got: Got) -> Verdict:
        return got.sum() >= self.workers - self.stragglers

    def weights(self, got: Got) -> Weights:
        return on_host(self._weights, got)

    def _weights(self, got: Bool[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        if not self.decodable(got):
            return np.asarray(least_squares_weights(self.G, got))
        rows = self.null_space[~got]
        z = np.linalg.lstsq(rows, -self.decodes_all[~got], rcond=None)[0]
        return np.where(got, self.decodes_all + self.null_space @ z, 0)


def require_square(family: str, blocks: int, workers: int, load: int) -> None:
    """Raises ConfigError unless workers == blocks and 1 <= load <= blocks."""
    if workers != blocks:
        raise ConfigError(f"blocks={blocks}: {family} needs as many blocks as workers ({workers})")
    if not 1 <= load <= blocks:
        raise ConfigError(f"load={load}: must lie between 1 and blocks={blocks}")


def require_real(family: str, workers: int, load: int) -> None:
    """Raises ConfigError unless the code with s = load - 1 has real coefficients."""
    if (workers - load) % 2:
        nearest = " or ".join(str(other) for other in (load - 1, load + 1) if 1 <= other <= workers)
        raise ConfigError(
            f"load={load}: {family} has real coefficients only if workers - load is even, else roots of unity on one "
            f"side have no complex conjugate; use load={nearest} with workers={workers}"
        )
