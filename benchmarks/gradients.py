"""The gradient of one worker's blocks (c = 3 of 30) on one core: ours against SciPy CSR, timed alternately.

python benchmarks/gradients.py      (or `make bench`; includes the paper's data sets if ERASUREHEAD_DATA has them)
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from erasurehead_jax import ConfigError, LeastSquares, Logistic
from erasurehead_jax.data import Dataset, OneHot, Rows, Sparse, amazon, block_bounds, covertype, kc_housing, synthetic

REPEATS = 50
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX sizes its thread pools, at its first use


def contestants(dataset: Dataset) -> tuple[Callable[[], object], Callable[[], object]]:
    """Our gradient and SciPy's on the full block, in float32, compiled and warm."""
    logistic = set(np.unique(dataset.train.target)) == {-1.0, 1.0}
    objective = Logistic() if logistic else LeastSquares()
    rows = dataset.train.take(slice(0, int(block_bounds(len(dataset.train), 30)[3])))
    touched = rows.features.touched()
    assert touched is not None
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, rows.restrict(touched)))
    x = np.random.default_rng(0).standard_normal(len(touched)).astype(np.float32)
    ones = jnp.ones(len(rows))
    gradient = jax.jit(lambda x, *leaves: objective.gradient(x, jax.tree.unflatten(tree, leaves), ones))

    X = csr(rows, touched)
    y = np.asarray(rows.target, np.float32)

    def scipy() -> np.ndarray:
        z = X @ x
        return X.T @ (-y * expit(-y * z) if logistic else 2 * (z - y))

    ours = lambda: gradient(x, *leaves).block_until_ready()
    np.testing.assert_allclose(ours(), scipy(), rtol=1e-3, atol=1e-2)
    return ours, scipy


def csr(rows: Rows, touched: np.ndarray) -> sp.csr_matrix:
    """The rows as SciPy has them, in float32, with the touched columns only."""
    match rows.features:
        case OneHot(index=index):
            row, column = np.tile(np.arange(len(rows)), len(index)), np.asarray(index).ravel()
            value = np.ones(column.size)
        case Sparse(value=value, column=column, start=start):
            row = np.repeat(np.arange(len(rows)), np.diff(start))
        case other:
            raise TypeError(type(other))
    at = row, np.searchsorted(touched, column)
    return sp.csr_matrix((value.astype(np.float32), at), (len(rows), len(touched)))


def words(rows: int, law: str) -> Dataset:
    """Rows like those of RCV1: 76 entries on average, of 47,236 columns, which are equally frequent or follow a power
    law.
    """
    rng, columns = np.random.default_rng(0), 47_236
    frequency = np.cumsum(1 / (np.arange(columns) + 10)) if law == "power" else np.arange(1.0, columns + 1)
    lengths = rng.lognormal(np.log(76) - 0.18, 0.6, rows).astype(int) + 1
    drawn = np.searchsorted(frequency / frequency[-1], rng.random(lengths.sum()))
    at = np.repeat(np.arange(rows), lengths), rng.permutation(columns)[drawn]
    features = Sparse.from_scipy(sp.coo_array((rng.random(len(drawn)) + 0.1, at), (rows, columns)))
    everything = Rows(features, rng.choice([-1.0, 1.0], rows))
    return Dataset("words", everything, everything.take(slice(1)))


def seconds(work: Callable[[], object]) -> float:
    """The time of one call."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


DATA: Mapping[str, Callable[[], Dataset]] = {
    load.__name__: load for load in (synthetic, amazon, covertype, kc_housing)
} | {f"{law} law, {rows} rows": partial(words, rows, law) for law in ("power", "uniform") for rows in (23_149, 200_000)}


def main() -> None:
    """Prints one row per data set: medians, and the median of the pairwise ratios."""
    print(f"{'data':24} {'ours ms':>9} {'SciPy ms':>9} {'ratio':>6}   (medians of {REPEATS}; ratio = SciPy / ours)")
    for name, load in DATA.items():
        try:
            ours, scipy = contestants(load())
        except ConfigError as error:
            print(f"{name:24} skipped: {error}")
            continue
        pairs = [(seconds(ours), seconds(scipy)) for _ in range(REPEATS)]
        mine, theirs = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{name:24} {mine:9.3f} {theirs:9.3f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
