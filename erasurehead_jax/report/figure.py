"""The comparison as a figure: the metric against the clock, and the time a round takes."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from erasurehead_jax.report.runs import Run

# Legible without colour: every run has its own line style and marker.
STYLES = [("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"), ("-", "v"), ("--", "P"), ("-.", "X"), (":", "*")]
AXIS_NAMES = {"train_loss": "mean training loss", "test_auc": "test AUC", "test_mse": "test mean squared error"}


def comparison_figure(runs: list[Run], target: float, title: str, path: Path) -> None:
    """Draws the runs into `path` (PNG, SVG or PDF by its ending)."""
    figure, (against_clock, per_round) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for i, run in enumerate(runs):
        line, marker = STYLES[i % len(STYLES)]
        evaluated = run.history.dropna(subset=[run.metric])
        clock_s, values = evaluated["clock_s"], evaluated[run.metric]
        every = max(1, len(values) // 8)
        against_clock.plot(clock_s, values, line, marker=marker, markevery=every, markersize=5, label=run.label)
    against_clock.axhline(target, color="0.6", linewidth=0.8)
    against_clock.annotate(
        "target", (1, target), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.4", fontsize=8
    )
    against_clock.set(xlabel="training clock (s), all waiting included", ylabel=AXIS_NAMES[runs[0].metric])
    against_clock.legend(frameon=False)
    per_round.boxplot(
        [1e3 * run.history["round_s"] for run in runs],
        orientation="horizontal",
        tick_labels=[run.label for run in runs],
        whis=(5, 95),
        showmeans=True,
        medianprops={"color": "black"},
        meanprops={"marker": "D", "markerfacecolor": "black", "markeredgecolor": "black", "markersize": 4},
        flierprops={"markersize": 3},
    )
    per_round.invert_yaxis()
    per_round.set(xlabel="time of a round (ms): median, quartiles, 5-95 %, mean (diamond)", xlim=(0, None))
    for axes in (against_clock, per_round):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=140, metadata={"Title": title})
    plt.close(figure)
