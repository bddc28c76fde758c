"""The figures of a comparison: metric against clock, round times, speed-ups; decode errors and used answers."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from erasurehead_jax.reports.runs import Comparison, Contender
from erasurehead_jax.reports.table import Target, speed_ups, times_to
from erasurehead_jax.rundir.wording import metric_name

# Legible without colour: each contender has its own line style and marker, the bars of each target their own hatching.
STYLES = [("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"), ("-", "v"), ("--", "P"), ("-.", "X"), (":", "*")]
FILLS = [("0.85", ""), ("0.55", "///")]  # for the bars of the first and second target
MOST_LINES = 8  # in one panel
WIDE_RANGE = 4.0  # ratio of clocks beyond which their axis is logarithmic


def comparison_figure(comparison: Comparison, targets: list[Target], stem: Path) -> list[Path]:
    """The metric against the clock (one panel per late policy), round times and speed-ups, as PNG and SVG."""
    panels = _panels(comparison, targets[-1])
    few = len(comparison.contenders)
    heights = (3.2, 1.1 + 0.28 * few)
    figure = plt.figure(figsize=(11, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    against_clock = above.subplots(1, len(panels), squeeze=False)
    per_round, speed_ups = below.subplots(1, 2)
    for panel, (late, shown) in zip(against_clock[0], panels, strict=True):
        _against_clock(panel, comparison, shown, targets)
        panel.set_title(f"late={late}" if len(panels) > 1 else "", fontsize=9)
    _round_times(per_round, comparison)
    _speed_ups(speed_ups, comparison, targets)
    return _save(figure, comparison, stem)


def answers_figure(comparison: Comparison, stem: Path) -> list[Path]:
    """Decode errors, and the fraction of rounds in which each worker's answer was used, as PNG and SVG."""
    contenders = comparison.contenders
    figure, (errors, used) = plt.subplots(
        1, 2, figsize=(13, 1.6 + 0.3 * len(contenders)), width_ratios=[1, 1.6], layout="constrained"
    )
    means = [np.mean([run.history["decode_error"].mean() for run in each.runs]) for each in contenders]
    exact = [np.mean([run.history["exact"].mean() for run in each.runs]) for each in contenders]
    rows = np.arange(len(contenders))
    errors.barh(rows, means, color="0.6", hatch="///", edgecolor="black")
    for row, mean, share in zip(rows, means, exact, strict=True):
        errors.annotate(f" {mean:.2g}, exact in {share:.0%}", (mean, row), va="center", fontsize=8)
    errors.set(xlabel="mean decode error ‖w - 1‖² of a round", xlim=(0, 1.6 * max([*means, 1e-9])))
    errors.set_yticks(rows, [each.label for each in contenders], fontsize=8)
    shares = [
        np.mean([np.array(run.summary["telemetry"]["workers"]["used"]) / run.summary["rounds"] for run in each.runs], 0)
        for each in contenders
    ]
    image = used.imshow(shares, aspect="auto", vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
    figure.colorbar(image, ax=used, label="fraction of rounds")
    used.set(xlabel="worker", title="How often each worker's answer was used")
    used.title.set_fontsize(9)
    used.set_yticks([])
    errors.set_ylim(len(contenders) - 0.5, -0.5)
    errors.spines[["top", "right"]].set_visible(False)
    return _save(figure, comparison, stem)


def _panels(comparison: Comparison, target: Target) -> list[tuple[str, list[Contender]]]:
    """Each late policy with the baseline and its contenders; if too many, only the fastest of each scheme and c."""
    lates = sorted({contender.runs[0].summary["late"] for contender in comparison.contenders})
    return [(late, _shown(comparison, target, late)) for late in lates]


def _shown(comparison: Comparison, target: Target, late: str) -> list[Contender]:
    base, *others = comparison.contenders
    others = [each for each in others if each.runs[0].summary["late"] == late]
    if len(others) >= MOST_LINES:
        fastest: dict[tuple, Contender] = {}
        for each in sorted(others, key=lambda each: np.median(times_to(target, comparison, each)[0])):
            fastest.setdefault((each.runs[0].summary["scheme"], each.runs[0].summary["load"]), each)
        others = [each for each in others if each in fastest.values()][: MOST_LINES - 1]
    return [base, *others]


def _against_clock(axes: Axes, comparison: Comparison, shown: list[Contender], targets: list[Target]) -> None:
    """One line per contender: the run with the first seed, and thin lines for the other seeds."""
    ends = [run.summary["clock_s"] for run in comparison.runs]
    if max(ends) > WIDE_RANGE * min(ends):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for place, each in enumerate(shown):
        line, marker = STYLES[place]
        colour = f"C{place}"
        for i, run in enumerate(each.runs):
            known = np.isfinite(run.values)
            clock_s, values = run.history["clock_s"].to_numpy()[known], run.values[known]
            if i:
                axes.plot(clock_s, values, line, color=colour, linewidth=0.6, alpha=0.5)
            else:
                every = max(1, len(values) // 8)
                axes.plot(
                    clock_s, values, line, color=colour, marker=marker, markevery=every, markersize=5, label=each.label
                )
    values = [target.of(comparison.first) for target in targets]
    for target, value in zip(targets, values, strict=True):
        axes.axhline(value, color="0.6", linewidth=0.8)
        side = "bottom" if value == max(values) else "top"
        axes.annotate(target.words, (0.01, value), xycoords=("axes fraction", "data"), va=side, color="0.4", fontsize=7)
    axes.set(xlabel="training clock (s), all waiting included", ylabel=metric_name(comparison.first.metric))
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handlelength=3)
    axes.spines[["top", "right"]].set_visible(False)


def _round_times(axes: Axes, comparison: Comparison) -> None:
    round_ms = [1e3 * np.concatenate([run.history["round_s"] for run in each.runs]) for each in comparison.contenders]
    axes.boxplot(
        round_ms,
        orientation="horizontal",
        tick_labels=[each.label for each in comparison.contenders],
        whis=(5, 95),
        showmeans=True,
        medianprops={"color": "black"},
        meanprops={"marker": "D", "markerfacecolor": "black", "markeredgecolor": "black", "markersize": 4},
        showfliers=False,
    )
    axes.tick_params("y", labelsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="round time (ms)\nmedian, quartiles, 5-95 %, mean (diamond)", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)


def _speed_ups(axes: Axes, comparison: Comparison, targets: list[Target]) -> None:
    """Bars show the median over seeds, whiskers the range."""
    height = 0.8 / len(targets)
    for i, (target, (colour, hatch)) in enumerate(zip(targets, FILLS, strict=False)):
        for row, each in enumerate(comparison.contenders):
            ratios, median = speed_ups(target, comparison, each)
            y, middle = row + (i - (len(targets) - 1) / 2) * height, float(np.nan_to_num(median))
            spread = [[middle - ratios.min()], [ratios.max() - middle]] if len(ratios) > 1 and middle else None
            axes.barh(
                y,
                middle,
                height,
                xerr=spread,
                color=colour,
                hatch=hatch,
                edgecolor="black",
                linewidth=0.6,
                error_kw={"linewidth": 0.8},
                label=target.words if not row else None,
            )
            reached = f"reached by {np.count_nonzero(ratios)} of {len(ratios)}" if ratios.any() else "not reached"
            shown = f" {middle:.2g}" if middle else f" {reached}"
            axes.annotate(shown, (max(middle, ratios.max()) if middle else 0, y), va="center", fontsize=7)
    axes.axvline(1, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(comparison.contenders)), [""] * len(comparison.contenders))
    axes.set_ylim(len(comparison.contenders) - 0.5, -0.5)
    axes.set_xlabel(f"times as fast as {comparison.contenders[0].label}\nto the same {comparison.first.metric}")
    axes.margins(x=0.15)
    axes.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(targets), borderpad=0)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, comparison: Comparison, stem: Path) -> list[Path]:
    """Saves as PNG and SVG, titled with a description of the runs."""
    figure.suptitle(comparison.description(), fontsize=8, wrap=True)
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=120, metadata={"Title": comparison.description()})
        figure.set_layout_engine(None)  # the layout is done, and takes longer than drawing
    plt.close(figure)
    return paths
