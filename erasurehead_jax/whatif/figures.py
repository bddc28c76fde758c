"""The pictures and the table of a what-if."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from rich.table import Table

from erasurehead_jax.report.figure import AXIS_NAMES, STYLES
from erasurehead_jax.whatif import closed_forms
from erasurehead_jax.whatif.frontier import estimate, times_to
from erasurehead_jax.whatif.grid import GridPoint
from erasurehead_jax.whatif.montecarlo import Timings, Trainings

MOST_LINES, MOST_ROWS = 8, 4  # in one panel, of panels in one figure


def timing_table(table: pd.DataFrame, title: str) -> Table:
    """For a terminal; times in seconds."""
    shown = Table(title=title, title_justify="left")
    for name in table.columns:
        words = pd.api.types.is_string_dtype(table[name])
        shown.add_column(name.replace("_", " "), justify="left" if words else "right", no_wrap=words)
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    return shown


def timing_figure(points: Sequence[GridPoint], timings: Timings, path: Path) -> None:
    """Round times as distributions, and decode errors against r, simulated and by their closed forms."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    quickest = np.argsort(timings.table["mean_round_s"].to_numpy())[:MOST_LINES]
    for style, i in enumerate(sorted(quickest)):
        round_s = np.sort(timings.round_s[i])
        share = np.arange(1, len(round_s) + 1) / len(round_s)
        (line,) = left.plot(round_s, share, STYLES[style % len(STYLES)][0], label=_full_name(points[i]))
        cdf = closed_forms.round_cdf(points[i].point)
        if cdf is not None:
            t = np.linspace(0, round_s[-1], 60)
            left.plot(t, cdf(t), "+", color=line.get_color(), markersize=4)
    left.set(xlabel="time of a round (s)", ylabel="share of rounds (+ closed form)", xlim=(0, None), ylim=(0, 1.02))
    left.legend(frameon=False, fontsize=7)
    _decode_errors(right, points, timings.table["mean_decode_error"].to_numpy())
    _save(figure, path)


def training_figure(points: Sequence[GridPoint], found: Trainings, target: float, path: Path) -> None:
    """A row for every set of circumstances: loss and metric against time, and the time to the target over (c, r)."""
    settings = _by_circumstances(points)
    settings = [settings[i] for i in np.unique(np.linspace(0, len(settings) - 1, MOST_ROWS).round().astype(int))]
    figure, panels = plt.subplots(
        len(settings), 3, figsize=(15, 0.6 + 3.6 * len(settings)), layout="constrained", squeeze=False
    )
    time_s = times_to(target, found)
    for (setting, inside), (left, middle, right) in zip(settings, panels, strict=True):
        shown = _best_of_schemes(points, time_s, inside)
        _curves(left, points, shown, found, "train_loss")
        _curves(middle, points, shown, found, found.metric)
        middle.axhline(target, color="0.6", linewidth=0.8)
        _heat_map(right, points, time_s, inside)
        left.set_title(_setting_name(setting), fontsize=9, loc="left")
        right.set_title(f"seconds to {found.metric} {target:.4f} (median of seeds)", fontsize=9, loc="left")
    _save(figure, path)


def frontier_figure(points: Sequence[GridPoint], found: Trainings, target: float, path: Path) -> None:
    """The time to the target against r, and against every other number that varies, with 95 % intervals."""
    time_s = times_to(target, found)
    panels = [panel for panel in _frontier_panels(points) if len(panel[2]) > 1]
    if not panels:
        return
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5.5 * columns, 4.2 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (title, name, inside) in zip(axes.flat, panels, strict=False):
        _lines(axis, points, time_s, inside, name)
        axis.set(xlabel=_NAMES.get(name, name), ylabel=f"seconds to {found.metric} {target:.4f}")
        axis.set_title(title, fontsize=9, loc="left")
        _logarithmic(axis.yaxis, axis.set_yscale, np.median(time_s[inside], axis=1))
        axis.legend(frameon=False, fontsize=7)
    _save(figure, path)


_NAMES = {
    "wait_for": "r, workers waited for",
    "compute_s": "compute on all the data (s); a worker takes c/n of it",
    "mean_s": "mean sleep (s)",
}


def _frontier_panels(points: Sequence[GridPoint]) -> list[tuple[str, str, list[int]]]:
    """Title, axis and points of each panel: a panel shows what happens when one number changes and the rest stays."""
    panels = []
    for setting, inside in _by_circumstances(points, numbers=False):
        numbers = {
            name: sorted({points[i].labels[name] for i in inside if name in points[i].labels})
            for name, value in points[inside[0]].circumstances()
            if isinstance(value, int | float)
        }
        first = [i for i in inside if all(points[i].labels.get(name) == values[0] for name, values in numbers.items())]
        fixed = tuple((name, values[0]) for name, values in numbers.items())
        panels.append((_setting_name(setting + fixed), "wait_for", first))
        for name, values in numbers.items():
            others = [other for other in numbers if other != name]
            same = [i for i in inside if all(points[i].labels.get(other) == numbers[other][0] for other in others)]
            if len(values) > 1:
                panels.append((", ".join(filter(None, [_setting_name(setting), "best r each"])), name, same))
    return panels


def _lines(axis: Axes, points: Sequence[GridPoint], time_s: np.ndarray, inside: list[int], name: str) -> None:
    """A line for every scheme and load; where several points share a place the quickest is drawn."""
    lines: dict[str, dict[Any, int]] = {}
    for i in inside:
        labels = points[i].labels
        line = lines.setdefault(f"{labels['scheme']} c={labels['load']}", {})
        best = line.get(labels[name], i)
        line[labels[name]] = i if np.median(time_s[i]) < np.median(time_s[best]) else best
    for (style, marker), (label, places) in zip(STYLES * len(lines), lines.items(), strict=False):
        x = sorted(places)
        middle, low, high = np.array([estimate(time_s[places[at]]) for at in x]).T
        with np.errstate(invalid="ignore"):  # inf - inf, where a target is not reached
            error = np.nan_to_num(np.abs([middle - low, high - middle]), nan=0, posinf=0)
        reached = [np.isfinite(time_s[i]).mean() for i in places.values()]
        if min(reached) < 1:
            label += f" (reached by {min(reached):.0%}" + (
                f" to {max(reached):.0%})" if max(reached) > min(reached) else ")"
            )
        middle = np.where(np.isfinite(middle), middle, np.nan)
        axis.errorbar(x, middle, error, fmt=style + marker, capsize=2, ms=4, label=label)


def _curves(axis: Axes, points: Sequence[GridPoint], shown: list[int], found: Trainings, name: str) -> None:
    """Median over seeds of a metric against the median clock, with the band that holds 95 % of the seeds."""
    values = found.metrics[name]
    for (style, marker), i in zip(STYLES * len(shown), shown, strict=False):
        clock_s = np.median(found.clock_s[i], axis=0)
        low, middle, high = np.quantile(values[i], [0.025, 0.5, 0.975], axis=0)
        every = max(1, len(middle) // 8)
        axis.plot(clock_s, middle, style, marker=marker, markevery=every, markersize=4, label=points[i].name())
        axis.fill_between(clock_s, low, high, alpha=0.15)
    axis.set(xlabel="simulated training clock (s)", ylabel=AXIS_NAMES[name])
    _logarithmic(axis.xaxis, axis.set_xscale, np.where(np.isfinite(values[shown]), found.clock_s[shown], np.nan))
    axis.legend(frameon=False, fontsize=7)


def _heat_map(axis: Axes, points: Sequence[GridPoint], time_s: np.ndarray, inside: list[int]) -> None:
    """The quickest median time at every (c, r); c = 1 are uncoded and ignore-stragglers."""
    loads = sorted({points[i].labels["load"] for i in inside})
    heard = sorted({points[i].labels["wait_for"] for i in inside})
    quickest = np.full((len(loads), len(heard)), np.nan)
    for i in inside:
        at = loads.index(points[i].labels["load"]), heard.index(points[i].labels["wait_for"])
        quickest[at] = np.fmin(quickest[at], np.median(time_s[i]))
    finite = np.where(np.isfinite(quickest), quickest, np.nan)
    axis.imshow(finite, aspect="auto", origin="lower", cmap="viridis_r")
    middle = (np.nanmin(finite) + np.nanmax(finite)) / 2 if np.isfinite(finite).any() else 0
    for (i, j), value in np.ndenumerate(quickest):
        if not np.isnan(value):
            text = f"{value:.3g}" if np.isfinite(value) else "not\nreached"
            axis.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > middle and np.isfinite(value) else "black",
            )
    axis.set(
        xlabel=_NAMES["wait_for"], ylabel="c, blocks a worker holds", xticks=range(len(heard)), yticks=range(len(loads))
    )
    axis.set_xticklabels(heard)
    axis.set_yticklabels(loads)


def _decode_errors(axis: Axes, points: Sequence[GridPoint], errors: np.ndarray) -> None:
    """Simulated (markers) and closed form (lines) against r, a scheme and load each."""
    groups: dict[str, list[int]] = {}
    for i, point in enumerate(points):
        groups.setdefault(f"{point.labels['scheme']} c={point.labels['load']}", []).append(i)
    for (style, marker), (label, inside) in zip(STYLES * len(groups), groups.items(), strict=False):
        heard = [points[i].labels["wait_for"] for i in inside]
        (dots,) = axis.plot(heard, errors[inside], marker, markersize=5, label=label)
        r = np.arange(1, points[inside[0]].point.scheme.code.workers + 1)
        closed = closed_forms.decode_error(points[inside[0]].point, r)
        if closed is not None:
            axis.plot(r, closed, style, color=dots.get_color(), linewidth=1)
    axis.set(xlabel=_NAMES["wait_for"], ylabel="mean decode error (lines: closed form)")
    _logarithmic(axis.yaxis, axis.set_yscale, errors)
    axis.legend(frameon=False, fontsize=7)


def _best_of_schemes(points: Sequence[GridPoint], time_s: np.ndarray, inside: list[int]) -> list[int]:
    best: dict[str, int] = {}
    for i in sorted(inside, key=lambda i: np.median(time_s[i])):
        best.setdefault(points[i].labels["scheme"], i)
    return sorted(best.values())


def _by_circumstances(points: Sequence[GridPoint], numbers: bool = True) -> list[tuple[tuple, list[int]]]:
    settings: dict[tuple, list[int]] = {}
    for i, point in enumerate(points):
        setting = tuple(pair for pair in point.circumstances() if numbers or isinstance(pair[1], str))
        settings.setdefault(setting, []).append(i)
    return list(settings.items())


def _setting_name(setting: tuple) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting)


def _full_name(point: GridPoint) -> str:
    return ", ".join(filter(None, [point.name(), _setting_name(point.circumstances())]))


def _logarithmic(axis: Axis, set_scale: Callable[[str], None], values: np.ndarray) -> None:
    """With plain numbers at 1, 2 and 5; left linear if there is nothing to take the logarithm of."""
    if (np.isfinite(values) & (values > 0)).any():
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _save(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
    plt.close(figure)
