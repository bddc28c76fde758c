"""Explicit, well-conditioned coefficients on cyclic supports."""

import numpy as np

from erasurehead_jax.codes.any_workers import AbstractAnyWorkers, require_real, require_square


class CyclicMDS(AbstractAnyWorkers):
    """Worker j holds blocks j, ..., j+s (mod n), s = load - 1, and any n - s workers decode exactly.

    Raviv, Tandon, Dimakis, Tamo 2018, "Gradient Coding from Cyclic MDS Codes and Expander Graphs": G is the circulant
    of a polynomial whose roots are s consecutive n-th roots of unity, none of them 1. Centred roots, those nearest to
    -1, make it real. 8 to 50 times better conditioned than random coefficients.

    Raises ConfigError unless workers == blocks, 1 <= load <= blocks and workers - load is even.
    """

    def __init__(self, blocks: int, workers: int, load: int):
        require_square("cyclic MDS", blocks, workers, load)
        require_real("cyclic MDS", workers, load)
        stragglers = load - 1
        first = (blocks - stragglers + 1) // 2
        roots = np.exp(2j * np.pi * np.arange(first, first + stragglers) / blocks)
        polynomial = np.atleast_1d(np.poly(roots)).real[::-1]  # of the lowest power first
        column = np.pad(polynomial, (0, blocks - load))
        self._set(np.stack([np.roll(column, j) for j in range(workers)], axis=1), stragglers)
