"""The set of stragglers that makes the decode error largest: exhaustively for few, by local search for many."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

EXHAUSTIVE = 2000  # sets that are all tried
STARTS, TRIES = 6, 300  # random starts, and swaps in a row that do not help

Error = Callable[[Bool[np.ndarray, " k"]], float]  # of a set of workers that have answered


class Worst(NamedTuple):
    """The worst set of stragglers that was found."""

    error: float
    stopped: Bool[np.ndarray, " k"]
    certain: bool  # that no set is worse


def worst_case(
    error: Error,
    holds: Bool[np.ndarray, "n k"],
    stragglers: int,
    fewer: Bool[np.ndarray, " k"] | None = None,
    seed: int = 0,
) -> Worst:
    """The set of so many stragglers with the largest decode error.

    The search swaps a straggler for another worker as long as that helps, starting from random sets, from an attack on
    whole groups, which stops all workers that hold the block with the fewest, and from the worst set of `fewer`.
    """
    k, everybody = holds.shape[1], np.arange(holds.shape[1])
    if math.comb(k, stragglers) <= EXHAUSTIVE:
        sets = [np.isin(everybody, some) for some in itertools.combinations(range(k), stragglers)]
        found = [(error(~stopped), stopped) for stopped in sets]
    else:
        rng = np.random.default_rng(seed)
        starts = [group_attack(holds, stragglers), *(rng.permutation(k) < stragglers for _ in range(STARTS))]
        if fewer is not None:
            left = rng.permutation(np.flatnonzero(~fewer))[: stragglers - int(fewer.sum())]
            starts.append(fewer | np.isin(everybody, left))
        found = [_climb(error, start, rng) for start in starts]
    return Worst(*max(found, key=lambda each: each[0]), certain=math.comb(k, stragglers) <= EXHAUSTIVE)


def group_attack(holds: Bool[np.ndarray, "n k"], stragglers: int) -> Bool[np.ndarray, " k"]:
    """The workers to stop so that as many blocks as possible have no copy left, chosen greedily."""
    stopped = np.zeros(holds.shape[1], bool)
    while (left := stragglers - int(stopped.sum())) > 0:
        needed = (holds & ~stopped).sum(1)
        open_blocks = np.flatnonzero(needed)
        if len(open_blocks) == 0 or needed[open_blocks].min() > left:
            stopped[np.flatnonzero(~stopped)[:left]] = True
            break
        block = open_blocks[needed[open_blocks].argmin()]
        stopped |= holds[block]
    return stopped


def _climb(
    error: Error, stopped: Bool[np.ndarray, " k"], rng: np.random.Generator
) -> tuple[float, Bool[np.ndarray, " k"]]:
    best, failed = error(~stopped), 0
    while failed < TRIES:
        swapped = stopped.copy()
        swapped[[rng.choice(np.flatnonzero(stopped)), rng.choice(np.flatnonzero(~stopped))]] ^= True
        found = error(~swapped)
        failed += 1
        if found > best * (1 + 1e-12):
            stopped, best, failed = swapped, found, 0
    return best, stopped
