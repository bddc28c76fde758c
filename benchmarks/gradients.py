"""The gradient of one worker's blocks (c = 3 of 30) on one core: ours against SciPy CSR, timed alternately.

python benchmarks/gradients.py      (or `make bench`; includes the paper's data sets if ERASUREHEAD_DATA has them)
"""

import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from erasurehead_jax import ConfigError, LeastSquares, Logistic
from erasurehead_jax.data import Dataset, OneHot, amazon, block_bounds, covertype, kc_housing, synthetic

REPEATS = 50
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX sizes its thread pools, at its first use


def contestants(dataset: Dataset) -> tuple[Callable[[], object], Callable[[], object]]:
    """Our gradient and SciPy's on the full block, in float32, compiled and warm."""
    logistic = set(np.unique(dataset.train.target)) == {-1.0, 1.0}
    objective = Logistic() if logistic else LeastSquares()
    rows = dataset.train.take(slice(0, int(block_bounds(len(dataset.train), 30)[3])))
    touched = rows.features.touched()
    assert touched is not None and isinstance(rows.features, OneHot)
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, rows.restrict(touched)))
    x = np.random.default_rng(0).standard_normal(len(touched)).astype(np.float32)
    ones = jnp.ones(len(rows))
    gradient = jax.jit(lambda x, *leaves: objective.gradient(x, jax.tree.unflatten(tree, leaves), ones))

    index = np.searchsorted(touched, np.asarray(rows.features.index))
    at = (np.tile(np.arange(len(rows)), len(index)), index.ravel())
    X = sp.csr_matrix((np.ones(index.size, np.float32), at), (len(rows), len(touched)))
    y = np.asarray(rows.target, np.float32)

    def scipy() -> np.ndarray:
        z = X @ x
        return X.T @ (-y * expit(-y * z) if logistic else 2 * (z - y))

    ours = lambda: gradient(x, *leaves).block_until_ready()
    np.testing.assert_allclose(ours(), scipy(), rtol=1e-3, atol=1e-2)
    return ours, scipy


def seconds(work: Callable[[], object]) -> float:
    """The time of one call."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def main() -> None:
    """Prints one row per data set: medians, and the median of the pairwise ratios."""
    print(f"{'data':12} {'ours ms':>9} {'SciPy ms':>9} {'ratio':>6}   (medians of {REPEATS}; ratio = SciPy / ours)")
    for load in (synthetic, amazon, covertype, kc_housing):
        try:
            ours, scipy = contestants(load())
        except ConfigError as error:
            print(f"{load.__name__:12} skipped: {error}")
            continue
        pairs = [(seconds(ours), seconds(scipy)) for _ in range(REPEATS)]
        mine, theirs = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{load.__name__:12} {mine:9.3f} {theirs:9.3f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
