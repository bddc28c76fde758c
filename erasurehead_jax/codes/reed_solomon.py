"""Coefficients that are values of polynomials on the unit circle."""

import numpy as np

from erasurehead_jax.codes.any_workers import AbstractAnyWorkers, require_real, require_square


class ReedSolomon(AbstractAnyWorkers):
    """Block i is held by s + 1 = load consecutive workers, from load * i (mod n) on; any n - s workers decode exactly.

    Halbawi, Azizan-Ruhi, Salehi, Hassibi 2018, "Improving Distributed Gradient Descent Using Reed-Solomon Codes": the
    coefficients of a block are the values, at the workers' points, of a polynomial of degree n - s - 1 that vanishes at
    the points of the workers without the block; normalised, all blocks are recovered by one interpolation. Here the
    points are the n-th roots of unity, and the polynomials are centred (trigonometric), so that all values are real.

    Raises ConfigError unless workers == blocks, 1 <= load <= blocks and workers - load is even.
    """

    def __init__(self, blocks: int, workers: int, load: int):
        require_square("Reed-Solomon", blocks, workers, load)
        require_real("Reed-Solomon", workers, load)
        points = 2 * np.pi * np.arange(workers) / workers
        lacking = load + np.arange(workers - load)  # of the block whose workers are 0, ..., s
        # In half angles, so that the values are real: |z - z_0| is 2 |sin(angle / 2)|.
        values = np.prod(np.sin((points[:, None] - points[lacking]) / 2) * 2, axis=1)
        values[lacking] = 0
        values /= values.mean()  # the mean is the constant term, which the interpolation returns
        self._set(np.stack([np.roll(values, load * i) for i in range(blocks)]), load - 1)
