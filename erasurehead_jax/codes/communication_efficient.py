"""Messages shorter than the gradient, paid for with load."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from erasurehead_jax.codes.any_workers import require_square
from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.on_host import on_host
from erasurehead_jax.errors import ConfigError, require_choice, require_whole
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights

CONSTRUCTIONS = ("fourier", "gaussian", "polynomial")


class CommunicationEfficient(AbstractCode):
    """Any k - s workers decode exactly, and messages are `parts` times shorter than the gradient: s = load - parts.

    Ye and Abbe 2018, "Communication-Computation Efficient Gradient Coding": the gradient is cut into m parts, and a
    worker sends one linear combination of the parts of its blocks' gradients. No code of load below s + m does this.
    Worker j holds blocks j, ..., j + c - 1 (mod n). With more than s late workers there is nothing to decode, and all
    weights are 0: a scheme must wait for k - s.

    All coefficients follow from Q = [N A] (n x c). Its last m columns A are the weights if nobody is late, and decoding
    adds multiples of its first s columns N so that late workers get weight 0: U Q_H = [0 I] for the coefficients U
    (m x c) of a block and the rows Q_H of those who hold it. In the paper's terms N is the null space of V, and A is
    the pseudo-inverse of its last m rows. Three constructions:

    - `fourier`: the columns are waves, N of the highest frequencies, A of spread lower ones, as cyclic MDS codes have
      them (Raviv et al. 2018; m = 1 is one). Rows at consecutive instants of different waves are independent. The best
      conditioned for s of 3 or less; real only if workers - s is odd.
    - `gaussian`: random orthonormal columns, drawn from `code_seed`, in the manner of the paper's random construction.
      For larger s, above all if late workers are neighbours.
    - `polynomial`: V is Vandermonde's matrix of evenly spaced points in [-1, 1]. Useless beyond 20 workers.

    Raises ConfigError unless workers == blocks, 1 <= parts <= load <= blocks and, for `fourier`, the parity is right.
    """

    G: Assignment
    owner: Owner
    mixing: Float[np.ndarray, "n parts M"]
    decodes_all: Float[np.ndarray, "M parts"]  # A
    null_space: Float[np.ndarray, "M s"]  # N

    def __init__(
        self,
        blocks: int,
        workers: int,
        load: int,
        parts: int = 2,
        construction: str = "fourier",
        code_seed: int = 0,
    ):
        require_square("a communication-efficient code", blocks, workers, load)
        require_whole("scheme.code.parts", parts, 1)
        require_choice("scheme.code.construction", construction, CONSTRUCTIONS)
        require_whole("code_seed", code_seed, 0)
        if parts > load:
            raise ConfigError(
                f"scheme.code.parts={parts}: must be at most load={load}: messages {parts} times shorter that leave s "
                f"workers out take a load of {parts} + s"
            )
        stragglers = load - parts
        if construction == "fourier":
            Q = _waves(workers, stragglers, parts)
        elif construction == "gaussian":
            Q = np.linalg.qr(np.random.default_rng(code_seed).standard_normal((workers, load)))[0]
        else:
            Q = _vandermonde(workers, stragglers, parts)
        self.null_space, self.decodes_all = Q[:, :stragglers], Q[:, stragglers:]
        self.owner, self.mixing = np.arange(workers), np.zeros((blocks, parts, workers))
        holders = (np.arange(blocks)[:, None] - np.arange(load)) % workers
        U = np.linalg.solve(Q[holders].transpose(0, 2, 1), np.eye(load)[stragglers:].T).transpose(0, 2, 1)
        np.put_along_axis(self.mixing, holders[:, None], U, axis=2)
        self.G = self.mixing[:, 0] if parts == 1 else np.linalg.norm(self.mixing, axis=1)

    @property
    def parts(self) -> int:
        return self.decodes_all.shape[1]

    @property
    def coefficients(self) -> Float[np.ndarray, "n parts M"]:
        return self.mixing

    @property
    def approximates(self) -> bool:
        """False: too few answers mix the parts of the gradient."""
        return False

    def decodable(self, got: Got) -> Verdict:
        return got.sum() >= self.workers - self.null_space.shape[1]

    def weights(self, got: Got) -> Weights:
        return on_host(self._weights, got)

    def _weights(self, got: Bool[np.ndarray, " M"]) -> Float[np.ndarray, "M *parts"]:
        a = np.zeros_like(self.decodes_all)
        if self.decodable(got):
            z = np.linalg.lstsq(self.null_space[~got], -self.decodes_all[~got], rcond=None)[0]
            a[got] = self.decodes_all[got] + self.null_space[got] @ z
        return a[:, 0] if self.parts == 1 else a


def _waves(workers: int, stragglers: int, parts: int) -> Float[np.ndarray, "k c"]:
    """Q of waves. N has the frequencies nearest to half the number of workers; A has 0 if m is odd, and pairs +-q."""
    if not (workers - stragglers) % 2:
        load = stragglers + parts
        nearest = [each for each in (load + 1, load - 1) if parts <= each <= workers]
        other = f"load={nearest[0]} or " if nearest else ""
        raise ConfigError(
            f"load={load}: scheme.code.construction=fourier is real only if workers - load + parts "
            f"({workers - stragglers}) is odd; use {other}construction=gaussian"
        )
    high = range((workers - stragglers + 1) // 2, workers // 2 + 1)
    spread = (workers - stragglers) / parts
    low = [round((i + 0.5 + 0.5 * (parts % 2)) * spread) for i in range(parts // 2)]
    return np.hstack([_basis(workers, high), _basis(workers, [*[0] * (parts % 2), *low])])


def _basis(workers: int, frequencies: Iterable[int]) -> Float[np.ndarray, "k c"]:
    """Orthonormal columns that span the waves of these frequencies and their negatives."""
    j, columns = np.arange(workers), [np.empty((workers, 0))]
    for frequency in frequencies:
        angle = 2 * np.pi * frequency * j / workers
        alone = 2 * frequency % workers == 0  # the wave has only one phase
        pair = [np.cos(angle)] if alone else [np.cos(angle) * np.sqrt(2), np.sin(angle) * np.sqrt(2)]
        columns.append(np.stack(pair, axis=1) / np.sqrt(workers))
    return np.hstack(columns)


def _vandermonde(workers: int, stragglers: int, parts: int) -> Float[np.ndarray, "k c"]:
    """Q of the polynomial construction."""
    V = np.vander(np.linspace(-1, 1, workers), workers - stragglers, increasing=True).T
    weights = np.linalg.pinv(V)[:, V.shape[0] - parts :]
    return np.hstack([np.linalg.svd(V)[2][V.shape[0] :].T, weights])
