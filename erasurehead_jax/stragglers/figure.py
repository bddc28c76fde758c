"""The figure of a recording."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm

from erasurehead_jax.delays.fits import Fit
from erasurehead_jax.delays.recording import NORMALISED, Recording
from erasurehead_jax.studies.heat_map import plain_logarithms

MOST_ROUNDS = 400  # that the picture has; each is the median of several
QUANTILES = 200
MOST_NAMES = 32  # of workers


def trace_figure(recording: Recording, fit: Fit, path: Path) -> None:
    """All times, the range of each worker's, and their quantiles beside those of the model."""
    times = np.where(recording.times_s > 0, recording.times_s, np.nan)
    unit = "normalised" if recording.unit == NORMALISED else "seconds"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    shown = _thinned(times)
    low, high = np.nanquantile(times, [0.001, 1])
    norm = LogNorm(low, high if high > low else low * 1.01)
    extent = (0.0, float(len(times)), times.shape[1] - 0.5, -0.5)
    image = left.imshow(shown.T, aspect="auto", cmap="magma_r", norm=norm, interpolation="nearest", extent=extent)
    plain_logarithms(figure.colorbar(image, ax=left).ax.yaxis)
    if times.shape[1] <= MOST_NAMES:
        left.set_yticks(range(times.shape[1]), recording.workers)
    left.set(xlabel="round", ylabel="worker", title=f"all times, {unit}; white: missing")

    order = np.argsort(np.nan_to_num(np.nanmedian(_filled(times), axis=0)))
    some = order if len(order) <= 60 else order[np.linspace(0, len(order) - 1, 60).round().astype(int)]
    ends = np.nanquantile(_filled(times)[:, some], [0.05, 0.5, 0.95], axis=0)
    at = np.arange(len(some))
    middle.vlines(at, ends[0], ends[2], color="0.6", linewidth=3)
    middle.plot(at, ends[1], "k_", markersize=8)
    labels = [recording.workers[j] for j in some] if len(some) <= MOST_NAMES else []
    middle.set_xticks(at if labels else [], labels, rotation=90 if max(map(len, labels), default=0) > 2 else 0)
    what = "worker" if len(some) == len(order) else f"{len(some)} of {len(order)} workers"
    middle.set(yscale="log", xlabel=f"{what}, by median", ylabel=unit, title="medians, 5 to 95 % of the rounds")
    plain_logarithms(middle.yaxis)

    residual = times if fit.factors is None else times / fit.factors
    residual = residual[np.isfinite(residual)]
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    right.plot(fit.law.ppf(shares), np.quantile(residual, shares), "k.", markersize=4)
    line = [np.quantile(residual, shares[0]), np.quantile(residual, shares[-1])]
    right.plot(line, line, color="0.6", linewidth=1, zorder=0)
    divided = "" if fit.factors is None else ", over the worker's factor"
    right.set(xscale="log", yscale="log", xlabel=f"quantiles of the model{divided}", ylabel="recorded quantiles")
    right.set_title(f"best model: {fit.name}")
    for axis in (middle, right):
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (right.xaxis, right.yaxis):
        plain_logarithms(axis)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _thinned(times: Float[np.ndarray, "rounds workers"]) -> Float[np.ndarray, "some workers"]:
    if len(times) <= MOST_ROUNDS:
        return times
    parts = np.array_split(times, MOST_ROUNDS)
    return np.array([np.nanmedian(_filled(part), axis=0) for part in parts])


def _filled(times: Float[np.ndarray, "rounds workers"]) -> Float[np.ndarray, "rounds workers"]:
    """A worker without any time gets one that cannot be seen, so that NumPy does not warn."""
    return np.where(np.isfinite(times).any(0), times, np.nanmin(times))
