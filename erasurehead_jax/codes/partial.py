"""Two messages a worker: first its own blocks, uncoded, then coded ones."""

import jax.numpy as jnp
import numpy as np

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.cyclic_repetition import CyclicRepetition
from erasurehead_jax.codes.fractional_repetition import FractionalRepetition
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class AbstractPartial(AbstractCode):
    """`own` blocks that only this worker holds, and `load - own` that a code spreads; for stragglers that are slow but
    not dead.

    Tandon et al. 2017, "Gradient Coding", section 5 (partial stragglers): the master needs every first message, and
    enough of the second. Message j is worker j's first, message k + j its second.
    """

    G: Assignment
    owner: Owner
    coded: AbstractCode  # over the last n - k * own blocks

    def _set(self, own: int, coded: AbstractCode) -> None:
        """Called by __init__."""
        workers = coded.workers
        first = np.repeat(np.eye(workers), own, axis=0)
        self.G = np.zeros((len(first) + coded.blocks, 2 * workers))
        self.G[: len(first), :workers] = first
        self.G[len(first) :, workers:] = coded.G
        self.owner = np.tile(np.arange(workers), 2)
        self.coded = coded

    def decodable(self, got: Got) -> Verdict:
        workers = self.coded.workers
        return got[:workers].all() & self.coded.decodable(got[workers:])

    def weights(self, got: Got) -> Weights:
        workers = self.coded.workers
        first, second = got[:workers].astype(float), self.coded.weights(got[workers:])
        return (np if isinstance(got, np.ndarray) else jnp).concatenate([first, second])


class PartialReplication(AbstractPartial):
    """The coded blocks are spread by fractional repetition (see `AbstractPartial`).

    Raises ConfigError unless 1 <= own < load, blocks > workers * own, and fractional repetition has the other sizes.
    """

    def __init__(self, blocks: int, workers: int, load: int, own: int = 1):
        rest = _coded_blocks(blocks, workers, load, own)
        self._set(own, FractionalRepetition(rest, workers, load - own))


class PartialCyclic(AbstractPartial):
    """The coded blocks are spread by cyclic repetition (see `AbstractPartial`).

    Raises ConfigError unless 1 <= own < load and blocks == workers * (own + 1).
    """

    def __init__(self, blocks: int, workers: int, load: int, own: int = 1, code_seed: int = 0):
        rest = _coded_blocks(blocks, workers, load, own)
        if rest != workers:
            raise ConfigError(
                f"blocks={blocks}: must be workers * (own + 1) = {workers * (own + 1)}, so that as many "
                "blocks are coded as there are workers"
            )
        self._set(own, CyclicRepetition(rest, workers, load - own, code_seed))


def _coded_blocks(blocks: int, workers: int, load: int, own: int) -> int:
    require_whole("own", own, 1)
    if load <= own:
        raise ConfigError(f"load={load}: must exceed own={own}, the blocks that only this worker holds")
    if workers < 1 or blocks <= workers * own:
        raise ConfigError(
            f"blocks={blocks}: must exceed workers * own = {workers * own}, the blocks that are not coded; "
            f"blocks={workers * (own + 1)} codes as many as there are workers"
        )
    return blocks - workers * own
