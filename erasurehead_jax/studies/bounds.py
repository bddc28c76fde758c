"""Theorems 1 and 2 compared with simulated runs, on a problem with known mu, beta and sigma."""

from pathlib import Path
from typing import NamedTuple, get_args

import matplotlib.pyplot as plt
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from erasurehead_jax import theory
from erasurehead_jax.codes import FractionalRepetition
from erasurehead_jax.data import Dense, synthetic
from erasurehead_jax.decoding import ByCode
from erasurehead_jax.delays import Exponential
from erasurehead_jax.objectives import LeastSquares
from erasurehead_jax.optimizers import gd
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.simulation.engine import Simulation
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.stopping import Count

WORKERS, LOAD, HEARD = 30, 3, 15
STEP_SIZES = get_args(theory.StepSize)


class Convergence(NamedTuple):
    """Runs with one of the two step sizes, and the theorems' bounds. Gaps are f(x_T) - f*, T = 0, 1, ..."""

    gap: Float[np.ndarray, "T seeds"]
    theorem_1: Float[np.ndarray, " T"]
    theorem_2: Float[np.ndarray, " T"]
    sigma: float


def simulate_convergence(step_size: theory.StepSize, seeds: int = 64, rounds: int = 30) -> Convergence:
    """Least squares on dense columns, without l2; the r = 15 fastest of 30 workers, the sum divided by 1 - p.

    mu and beta are the extreme eigenvalues of the Hessian. sigma, which in the theorems bounds the gradient norms of
    the paper's f_i (n/N times the block's row losses), is the largest norm at any iterate: the proofs need the bound at
    the iterates only.
    """
    # blocks have equal sizes, so that all f_i are means over equally many rows, and are sorted, so that they differ
    dataset = synthetic(rows=3000, fields=5, task="regression", dense=True, sort=True)
    assert isinstance(dataset.train.features, Dense)
    X, y = np.asarray(dataset.train.features.matrix), np.asarray(dataset.train.target)
    eigenvalues = np.linalg.eigvalsh(2 * X.T @ X / len(y))
    mu, beta = float(eigenvalues[0]), float(eigenvalues[-1])
    least = np.mean((y - X @ np.linalg.lstsq(X, y)[0]) ** 2)
    p = theory.p(WORKERS, LOAD, HEARD)
    step = {"1/beta": 1 / beta, "(1-p)/beta": (1 - p) / beta}[step_size]

    code = FractionalRepetition(WORKERS, WORKERS, LOAD)
    scheme = Scheme(code, Count(HEARD), ByCode("expected", HEARD))
    point = Point(scheme, Exponential(1.0), "cancel", optimizer=Partial(gd, step_size=float(step)))
    simulation = Simulation(dataset, LeastSquares(), [point])
    batch, runs = simulation.begin([0] * seeds, range(seeds))
    gaps, sigma = [], 0.0
    for T in range(rounds + 1):
        residuals = X @ np.asarray(runs.x, np.float64) - y[:, None]
        gaps.append((residuals**2).mean(0) - least)
        blocks = 2 * np.einsum("ird,irs->isd", *(_by_block(values) for values in (X, residuals))) * WORKERS / len(y)
        sigma = max(sigma, float(np.linalg.norm(blocks, axis=-1).max()))
        if rounds > T:
            runs, *_ = simulation.advance(batch, runs, 1)
    given = (np.arange(rounds + 1), float(gaps[0][0]), mu, beta, sigma, WORKERS, LOAD, HEARD, step_size)
    return Convergence(np.array(gaps), theory.gap_bound(*given), theory.simple_gap_bound(*given), sigma)


def bounds_figure(path: Path) -> None:
    """One panel for each of the theorems' two step sizes."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for axis, step_size in zip(panels, STEP_SIZES, strict=True):
        found = simulate_convergence(step_size)
        T = np.arange(len(found.gap))
        axis.plot(T, found.theorem_2, ":", label="Theorem 2")
        axis.plot(T, found.theorem_1, "--", label="Theorem 1")
        axis.plot(T, found.gap.mean(1), "-", color="black", label=f"simulated, mean of {found.gap.shape[1]} seeds")
        axis.fill_between(
            T, *np.quantile(found.gap, [0.025, 0.975], axis=1), color="black", alpha=0.15, label="95 % of the seeds"
        )
        axis.set(xlabel="round", yscale="log", title=f"step size {step_size}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    panels[0].set(ylabel="f(x) - f*")
    figure.suptitle(f"least squares, {WORKERS} workers, c = {LOAD}, r = {HEARD}, unbiased decoding", fontsize=10)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _by_block(values: Float[np.ndarray, "N columns"]) -> Float[np.ndarray, "n rows columns"]:
    return values.reshape(WORKERS, -1, values.shape[1])
