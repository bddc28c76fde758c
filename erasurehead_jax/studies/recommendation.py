"""The recommended point of a grid for a target, its margins over other points, and the limits of the comparison.

Points are compared seed by seed, because equal seeds have equal delays.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from erasurehead_jax.delays import Trace
from erasurehead_jax.rundir.kinds import Kind
from erasurehead_jax.rundir.wording import metric_value
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.studies.frontier import FEWEST, Estimate, estimate, times_to
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.montecarlo import Trainings

RELIABLE = 0.9  # fraction of seeds that must reach a target, unless no point of the grid attains it
SAME = 1e-6  # relative difference in clock and metric below which two points are the same run


class Margin(NamedTuple):
    """How many times as long another point takes as the best, seed by seed."""

    over: str
    ratio: Estimate | None  # None for the best point itself, or the same run under another name
    seeds: int  # seeds in which at least one of the two points reached the target
    reached: int
    of: int

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval lies above 1."""
        return self.ratio is not None and self.ratio.low > 1

    def sentence(self) -> str:
        """The margin as a sentence."""
        if self.ratio is None:
            return "the recommended point itself"
        if math.isinf(self.ratio.median):
            sentence = f"{self.over} is reached by {self.reached} of {self.of} seeds"
        else:
            sentence = f"{self.over} takes {self.ratio.median:.3g} times as long"
            if not math.isnan(self.ratio.low):
                sentence += f" (95 % interval {self.ratio.interval()})"
            if self.reached < self.of:
                sentence += f", reached by {self.reached} of {self.of} seeds"
        return f"{sentence}: {self._verdict()}"

    def _verdict(self) -> str:
        if self.seeds < FEWEST:
            return f"inconclusive with {self.seeds} seed{'s' * (self.seeds != 1)}, at least {FEWEST} are needed"
        return "beyond the noise" if self.beyond_noise else "within the noise"


class Recommendation(NamedTuple):
    """The best point for a target under the same circumstances; `best` is None if no point reaches it in most seeds."""

    circumstances: dict[str, Any]
    target: float
    best: str | None
    time_s: Estimate | None
    reached: int  # of the best point's seeds
    seeds: int
    same: list[str]  # points that are the same run as the best under another name
    margins: dict[str, Margin | None]  # over the next best, uncoded and ignoring stragglers; None if not in the grid
    notes: list[str]  # what limits the recommendation

    def lines(self) -> list[str]:
        """The recommendation as text."""
        where = "".join(f", {name}={value}" for name, value in self.circumstances.items())
        head = f"target {metric_value(self.target)}{where}: "
        if self.best is None or self.time_s is None:
            return [head + "not reached by most seeds at any grid point"]
        lines = [f"{head}{self.best} in {self.time_s.median:.3g} s ({self.time_s.interval()})"]
        if self.reached < self.seeds:
            lines[0] += f"; reached by {self.reached} of {self.seeds} seeds"
        lines += [f"  the same run under another name: {name}" for name in self.same]
        for name, margin in self.margins.items():
            lines.append(f"  {name}: {'not in the grid' if margin is None else margin.sentence()}")
        return lines + [f"  note: {note}" for note in self.notes]


def recommend(points: Sequence[GridPoint], found: Trainings, target: float) -> list[Recommendation]:
    """One recommendation for each set of circumstances in the grid."""
    time_s = times_to(target, found)
    settings: dict[tuple, list[int]] = {}
    for i, point in enumerate(points):
        settings.setdefault(point.circumstances(), []).append(i)
    return [_recommend(dict(setting), points, found, time_s, inside, target) for setting, inside in settings.items()]


def _recommend(
    setting: dict[str, Any],
    points: Sequence[GridPoint],
    found: Trainings,
    time_s: Float[np.ndarray, "points seeds"],
    inside: list[int],
    target: float,
) -> Recommendation:
    reached, seeds = np.isfinite(time_s).sum(1), time_s.shape[1]
    ranked = sorted(inside, key=lambda i: (reached[i] < RELIABLE * seeds, estimate(time_s[i]).median, -reached[i]))
    best = ranked[0]
    middle = estimate(time_s[best])
    if not math.isfinite(middle.median):
        return Recommendation(setting, target, None, None, 0, seeds, [], {}, [])
    same = [i for i in ranked[1:] if _same_run(found, i, best)]
    others = [i for i in ranked[1:] if i not in same]

    def margin(i: int | None) -> Margin | None:
        if i is None:
            return None
        ratios = np.ones(0) if i == best or i in same else _ratios(time_s[i], time_s[best])
        ratio = None if i == best or i in same else estimate(ratios)
        return Margin(points[i].name(), ratio, len(ratios), int(reached[i]), seeds)

    margins = {"next best": margin(others[0] if others else None)}
    margins["uncoded"] = margin(_first(points, ranked, Kind.UNCODED))
    name, ignoring = _ignoring(points, ranked)
    margins[name] = margin(ignoring)
    names = [points[i].name() for i in same]
    notes = _notes(points, inside, best)
    return Recommendation(
        setting, target, points[best].name(), middle, int(reached[best]), seeds, names, margins, notes
    )


def _ignoring(points: Sequence[GridPoint], ranked: list[int]) -> tuple[str, int | None]:
    """The label and index of ignoring stragglers at the best point's r, or else at its own best r."""
    r = points[ranked[0]].labels["wait_for"]
    at_r = [i for i in ranked if points[i].labels["wait_for"] == r]
    if (i := _first(points, at_r, Kind.IGNORE_STRAGGLERS)) is not None:
        return f"ignoring stragglers at the same r={r}", i
    if (i := _first(points, ranked, Kind.IGNORE_STRAGGLERS)) is not None:
        return f"ignoring stragglers at its best r={points[i].labels['wait_for']}", i
    return "ignoring stragglers", None


def _first(points: Sequence[GridPoint], ranked: list[int], kind: Kind) -> int | None:
    return next((i for i in ranked if points[i].kind == kind), None)


def _same_run(found: Trainings, i: int, j: int) -> bool:
    """Whether two points have the same clock and metric in every seed and round."""
    values = found.clock_s, found.metrics[found.metric]
    return all(np.allclose(each[i], each[j], rtol=SAME, atol=0, equal_nan=True) for each in values)


def _ratios(other_s: Float[np.ndarray, " seeds"], best_s: Float[np.ndarray, " seeds"]) -> Float[np.ndarray, " some"]:
    """Ratios of times; seeds in which neither point reaches the target are left out, and equal times have ratio 1."""
    either = np.isfinite(other_s) | np.isfinite(best_s)
    other_s, best_s = other_s[either], best_s[either]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(other_s == best_s, 1, other_s / best_s)


def _notes(points: Sequence[GridPoint], inside: list[int], best: int) -> list[str]:
    notes = []
    if len({points[i].labels["load"] for i in inside}) > 1 and not _load_costs_time(points[best].point):
        notes.append(_free_load(points[best].point))
    labels, workers = points[best].labels, points[best].point.scheme.code.workers
    blocks = points[best].point.scheme.code.blocks
    limits = {"load": (1, blocks), "wait_for": (1, workers), "step_size": (0, math.inf)}
    alike = [points[i].labels for i in inside if points[i].labels["scheme"] == labels["scheme"]]
    for name, possible in limits.items():
        values = {each[name] for each in alike if name in each}
        for side, edge, limit in zip(("smallest", "largest"), (min, max), possible, strict=True):
            if len(values) > 1 and labels[name] == edge(values) != limit:
                beyond = "smaller" if edge is min else "larger"
                notes.append(f"{name}={labels[name]} is the {side} value of the grid; a {beyond} one may be better")
    return notes


def _load_costs_time(point: Point) -> bool:
    """Whether a worker with a larger load takes longer."""
    key, workers = jax.random.key(0), point.scheme.code.workers
    little, much = (np.asarray(point.delay.sample(key, 0, workers, load)) for load in (0.1, 0.9))
    return bool(point.compute_s) or not np.array_equal(little, much)


def _free_load(point: Point) -> str:
    if isinstance(point.delay, Trace):
        why = "the trace replays the same recorded times for every load"
    else:
        why = f"the delays of {type(point.delay).__name__} do not grow with the load, and compute_s=0"
    return f"{why}, so a larger load appears to cost nothing; set compute_s to account for its computation"
