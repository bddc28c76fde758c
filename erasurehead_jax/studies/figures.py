"""The figures of a what-if. All are legible without colour, and state what they omit."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.reports.figure import STYLES
from erasurehead_jax.rundir.wording import metric_name, metric_value
from erasurehead_jax.studies import closed_forms
from erasurehead_jax.studies.frontier import estimate, times_to
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.heat_map import heat_map, plain_logarithms
from erasurehead_jax.studies.montecarlo import Timings, Trainings

MOST_LINES, MOST_ROWS = 8, 4  # lines in one panel, rows of panels in one figure
MARKERS = 5  # per line
TITLE: dict[str, Any] = {"fontsize": 9, "loc": "left"}  # style of a panel's title


def timing_figure(points: Sequence[GridPoint], timings: Timings, path: Path) -> None:
    """Distributions of round times, and decode errors against r, simulated and in closed form."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6), layout="constrained")
    round_times(left, points, timings)
    decode_errors(right, points, timings.table["mean_decode_error"].to_numpy())
    _save(figure, path)


def round_times(axis: Axes, points: Sequence[GridPoint], timings: Timings) -> None:
    """The distributions of round times (s), of the points that are fastest on average: the share of shorter rounds.

    Simulated (lines), and in closed form (crosses) where `closed_forms.round_cdf` has one.
    """
    fastest = np.argsort(timings.table["mean_round_s"].to_numpy(), kind="stable")[:MOST_LINES]
    compared = False
    for place, ((style, marker), i) in enumerate(zip(STYLES, sorted(fastest), strict=False)):
        round_s = np.sort(timings.round_s[i])
        share = np.arange(1, len(round_s) + 1) / len(round_s)
        shown = {
            "marker": marker,
            "markevery": _staggered(place, len(round_s)),
            "markersize": 5,
            "label": _full_name(points[i]),
        }
        (line,) = axis.plot(round_s, share, style, **shown)
        if (cdf := closed_forms.round_cdf(points[i].point)) is not None:
            t = np.linspace(0, round_s[-1], 40)
            axis.plot(t, cdf(t), "+", color=line.get_color(), markersize=5, label="_")
            compared = True
    axis.set(xlabel="round time (s)", ylabel="fraction of rounds that are no longer", xlim=(0, None), ylim=(0, 1.02))
    if compared:
        axis.plot([], [], "+", color="black", label="closed form")
    if len(fastest) < len(points):
        axis.set_title(f"the {len(fastest)} fastest of {len(points)} points; all are in timing.csv", **TITLE)
    _legend(axis)


def training_figure(points: Sequence[GridPoint], found: Trainings, target: float, path: Path) -> None:
    """One row per set of circumstances: loss and metric against time, and the time to the target over (c, r)."""
    settings = _by_circumstances(points)
    rows = [settings[i] for i in np.unique(np.linspace(0, len(settings) - 1, MOST_ROWS).round().astype(int))]
    figure, panels = plt.subplots(
        len(rows), 3, figsize=(16, 0.6 + 4.4 * len(rows)), layout="constrained", squeeze=False, width_ratios=[1, 1, 1.3]
    )
    time_s = times_to(target, found)
    for (setting, inside), (left, middle, right) in zip(rows, panels, strict=True):
        shown = _best_of_schemes(points, time_s, inside)
        _curves(left, points, shown, found, "train_loss")
        _curves(middle, points, shown, found, found.metric)
        _legend(left)
        middle.axhline(target, color="0.4", linewidth=0.8)
        middle.annotate("target", (1, target), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
        heat_map(right, points, time_s, inside)
        left.set_title(_setting_name(setting), **TITLE)
        middle.set_title("the fastest point of each scheme; band: 95 % of the seeds", **TITLE)
        right.set_title(f"seconds to {found.metric} {metric_value(target)}: median over seeds", **TITLE)
    if len(rows) < len(settings):
        figure.suptitle(f"{len(rows)} of {len(settings)} settings; all are in frontier.csv", fontsize=10)
    _save(figure, path)


def frontier_figure(points: Sequence[GridPoint], found: Trainings, target: float, path: Path) -> None:
    """The time to the target against r and every other number that varies, with 95 % intervals."""
    time_s = times_to(target, found)
    panels = [panel for panel in _frontier_panels(points) if len(panel[2]) > 1]
    if not panels:
        return
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(6 * columns, 5.2 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (title, name, inside) in zip(axes.flat, panels, strict=False):
        _lines(axis, points, time_s, inside, name)
        axis.set(xlabel=_NAMES.get(name, name), ylabel=f"seconds to {found.metric} {metric_value(target)}")
        axis.set_title(title, **TITLE)
        if name == "wait_for":
            axis.set_xticks(sorted({points[i].labels[name] for i in inside}))
        _logarithmic(axis.yaxis, axis.set_yscale, np.median(time_s[inside], axis=1))
        _legend(axis)
    _save(figure, path)


_NAMES = {
    "wait_for": "r, maximum number of workers waited for",
    "compute_s": "computation time on the whole data set (s); a worker's is c/n of it",
    "mean_s": "mean sleep (s)",
}


def _frontier_panels(points: Sequence[GridPoint]) -> list[tuple[str, str, list[int]]]:
    """Title, axis and points of each panel; in a panel one number varies and the others are fixed."""
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
                panels.append((", ".join(filter(None, [_setting_name(setting), "best r for each"])), name, same))
    return panels


def _lines(axis: Axes, points: Sequence[GridPoint], time_s: np.ndarray, inside: list[int], name: str) -> None:
    """One line per scheme and load; of several points with the same value, the fastest is drawn."""
    lines: dict[str, dict[Any, int]] = {}
    for i in inside:
        labels = points[i].labels
        line = lines.setdefault(f"{labels['scheme']} c={labels['load']}", {})
        best = line.get(labels[name], i)
        line[labels[name]] = i if np.median(time_s[i]) < np.median(time_s[best]) else best
    for (style, marker), (label, places) in zip(STYLES * len(lines), lines.items(), strict=False):
        x = sorted(places)
        middle, low, high = np.array([estimate(time_s[places[at]]) for at in x]).T
        with np.errstate(invalid="ignore"):  # inf - inf, if a target is not reached
            error = np.nan_to_num(np.abs([middle - low, high - middle]), nan=0, posinf=0)
        reached, seeds = [int(np.isfinite(time_s[i]).sum()) for i in places.values()], time_s.shape[1]
        if min(reached) < seeds:
            few = f"{min(reached)}" if min(reached) == max(reached) else f"{min(reached)} to {max(reached)}"
            label += f" (reached by {few} of {seeds} seeds)"
        middle = np.where(np.isfinite(middle), middle, np.nan)
        axis.errorbar(x, middle, error, fmt=style + marker, capsize=2, ms=4, label=label)


def _curves(axis: Axes, points: Sequence[GridPoint], shown: list[int], found: Trainings, name: str) -> None:
    """A metric against the clock, medians over seeds, with a band that contains 95 % of the seeds."""
    values = found.metrics[name]
    for place, ((style, marker), i) in enumerate(zip(STYLES * len(shown), shown, strict=False)):
        clock_s = np.median(found.clock_s[i], axis=0)
        low, middle, high = np.quantile(values[i], [0.025, 0.5, 0.975], axis=0)
        axis.plot(
            clock_s,
            middle,
            style,
            marker=marker,
            markevery=_staggered(place, len(middle)),
            markersize=5,
            label=points[i].name(),
        )
        axis.fill_between(clock_s, low, high, alpha=0.12, linewidth=0)
    axis.set(xlabel="simulated training clock (s)", ylabel=metric_name(name))
    _logarithmic(axis.xaxis, axis.set_xscale, np.where(np.isfinite(values[shown]), found.clock_s[shown], np.nan))


def decode_errors(axis: Axes, points: Sequence[GridPoint], errors: np.ndarray) -> None:
    """Decode errors against r, simulated (markers) and in closed form (lines).

    Schemes that always decode exactly are listed in the legend, because zero cannot be drawn on a logarithmic axis.
    """
    groups: dict[str, list[int]] = {}
    for i, point in enumerate(points):
        labels = {"wait_for": point.point.scheme.code.workers}  # so that the name omits r
        groups.setdefault(_full_name(point._replace(labels=point.labels | labels)), []).append(i)
    exact = [label for label, inside in groups.items() if not (errors[inside] > ROUNDING).any()]
    inexact = {label: inside for label, inside in groups.items() if label not in exact}
    compared = False
    for (style, marker), (label, inside) in zip(STYLES, inexact.items(), strict=False):
        shown = [i for i in inside if errors[i] > ROUNDING]
        waited = [points[i].labels["wait_for"] for i in shown]
        if len(shown) < len(inside):
            rest = sorted({points[i].labels["wait_for"] for i in inside if i not in shown})
            label += f" (exact at r={', '.join(map(str, rest))})"
        (dots,) = axis.plot(waited, errors[shown], marker, markersize=6, label=label)
        r = np.arange(1, points[inside[0]].point.scheme.code.workers + 1)
        closed = closed_forms.decode_error(points[inside[0]].point, r)
        if closed is not None:
            axis.plot(r, np.where(closed > ROUNDING, closed, np.nan), style, color=dots.get_color(), linewidth=1)
            compared = True
    shown = min(len(inexact), MOST_LINES)
    lines = "; lines: closed form" if compared else ""
    axis.set(xlabel=_NAMES["wait_for"], ylabel="mean decode error ‖w - 1‖²")
    few = f"; {shown} of {len(inexact)} schemes, all are in timing.csv" if shown < len(inexact) else ""
    axis.set_title(f"markers: simulated{lines}{few}", **TITLE)
    if inexact:
        _logarithmic(axis.yaxis, axis.set_yscale, errors)
    else:
        axis.set(yticks=[], xticks=[])
    for label in exact[:MOST_LINES]:
        axis.plot([], [], " ", label=f"exact: {label}")
    if len(exact) > MOST_LINES:
        axis.plot([], [], " ", label=f"exact: {len(exact) - MOST_LINES} more")
    _legend(axis)


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
    """Makes an axis logarithmic, with plain numbers, unless no value is positive and finite."""
    if (np.isfinite(values) & (values > 0)).any():
        set_scale("log")
        plain_logarithms(axis)


def _staggered(place: int, points: int) -> tuple[int, int]:
    """The first marker of a line and their spacing, so that overlapping lines can be distinguished."""
    every = max(1, points // MARKERS)
    return place * every // MOST_LINES, every


def _legend(axis: Axes) -> None:
    """Draws the legend below the panel, where it hides no curve."""
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), handlelength=3.5)


def _save(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        if axis.get_label() != "<colorbar>":
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
    plt.close(figure)
