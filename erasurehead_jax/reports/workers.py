"""A figure of the stragglers of one run: when workers answered, how often they were used, and missing blocks."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from erasurehead_jax.reports.runs import Run
from erasurehead_jax.rundir.files import ARRIVALS
from erasurehead_jax.rundir.telemetry import worker_times

MOST_ROUNDS = 400  # columns of the image; a longer run is thinned out


def workers_figure(run: Run, path: Path) -> None:
    """Draws the arrivals and the telemetry of a run to `path` (PNG, SVG or PDF, by its suffix)."""
    with np.load(run.folder / ARRIVALS, allow_pickle=False) as file:
        times_s = worker_times(file["arrival_s"], file["owner"])
    telemetry, rounds = run.summary["telemetry"], len(times_s)
    shown = np.arange(0, rounds, -(-rounds // MOST_ROUNDS))
    workers = np.arange(times_s.shape[1])
    figure, (when, used, blocks) = plt.subplots(
        1, 3, figsize=(12, 1.8 + 0.12 * max(len(workers), 16)), width_ratios=[3, 1, 1], layout="constrained"
    )

    for axes in (when, used, blocks):
        axes.title.set_fontsize(10)
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="lightgrey")
    image = when.imshow(
        np.ma.masked_invalid(times_s[shown].T),
        aspect="auto",
        interpolation="nearest",
        cmap=colours,
        extent=(-0.5, rounds - 0.5, len(workers) - 0.5, -0.5),
    )
    figure.colorbar(image, ax=when, label="seconds into the round (grey: not used)")
    lost = run.summary["lost_workers"]
    when.scatter([row["round"] for row in lost], [row["worker"] for row in lost], marker="x", color="red", label="lost")
    if lost:
        when.legend(loc="upper right", fontsize=8)
    when.set(xlabel="round", ylabel="worker", title="When each worker answered")

    per_worker = telemetry["workers"]
    used.barh(workers, np.array(per_worker["used"]) / rounds, label="used")
    if any(per_worker.get("late", [])):
        late = np.array(per_worker["late"]) / rounds
        used.barh(workers, late, left=np.array(per_worker["used"]) / rounds, hatch="///", alpha=0.5, label="too late")
        used.legend(fontsize=8)
    recurrence = telemetry["straggler_recurrence"]
    used.set(ylim=(len(workers) - 0.5, -0.5), xlabel="fraction of rounds", title="How often it was used")

    blocks.barh(np.arange(len(telemetry["blocks"]["longest_gap"])), telemetry["blocks"]["longest_gap"])
    blocks.invert_yaxis()
    blocks.set(xlabel="rounds", ylabel="block", title="Longest gap without the block")
    steady = (
        "" if recurrence is None else f"; straggler recurrence {recurrence:.2f} (0: they rotate, 1: always the same)"
    )
    figure.suptitle(f"{run.label} on {run.summary['data']}, late={run.summary['late']}{steady}", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)
