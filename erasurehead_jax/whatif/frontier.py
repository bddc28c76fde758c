"""Which point reaches a target soonest, by how much, and is that more than noise? All with 95 % intervals.

A time to a target is summed up by its median over seeds: a seed that never gets there counts as infinitely late. Points
are compared seed by seed, because they met the same delays. Intervals of medians are those of the sign test
(`scipy.stats.quantile_test`), which assume nothing about the distribution.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import quantile_test

from erasurehead_jax.rundir.files import reached
from erasurehead_jax.whatif.grid import GridPoint, label_columns
from erasurehead_jax.whatif.montecarlo import Trainings

CONFIDENCE = 0.95
RELIABLE = 0.9  # share of the seeds that must reach a target; a point below it is recommended only if all are


class Estimate(NamedTuple):
    """A median over seeds and its 95 % interval; nan where the seeds are too few to give one."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        interval = "too few seeds for an interval" if math.isnan(self.low) else f"{self.low:.3g} to {self.high:.3g}"
        return f"{self.median:.3g} ({interval})"


def estimate(values: Float[np.ndarray, " seeds"]) -> Estimate:
    """Of the median; infinite values are allowed."""
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    ordered = np.sort(values)
    lower, upper = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    median = lower if lower == upper else (lower + upper) / 2
    interval = quantile_test(ordered).confidence_interval(CONFIDENCE)
    return Estimate(float(median), float(interval.low), float(interval.high))


def default_target(points: Sequence[GridPoint], found: Trainings) -> float:
    """What uncoded (or else the first point) has half-way through its rounds, in the median seed: as in the report."""
    base = next((i for i, point in enumerate(points) if point.labels["scheme"] == "uncoded"), 0)
    return float(np.median(found.metrics[found.metric][base, :, (len(found.rounds) - 1) // 2]))


def times_to(target: float, found: Trainings) -> Float[np.ndarray, "points seeds"]:
    """Seconds on the clock until the first kept round that is at least as good as the target; inf if none is."""
    values = found.metrics[found.metric]
    there = reached(found.metric, values, target)
    first = np.take_along_axis(found.clock_s, there.argmax(2)[..., None], 2)[..., 0]
    return np.where(there.any(2), first, np.inf)


def frontier(points: Sequence[GridPoint], found: Trainings, targets: Sequence[float]) -> pd.DataFrame:
    """One row a point and target: time to it (seconds; inf if fewer than half the seeds reach it), and how many did."""
    rows = []
    for target in targets:
        for point, time_s in zip(points, times_to(target, found), strict=True):
            middle, low, high = estimate(time_s)
            rows.append(
                point.labels
                | {"target": target, "time_s": middle, "low_s": low, "high_s": high}
                | {"reached": float(np.isfinite(time_s).mean()), "seeds": len(time_s)}
            )
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*label_columns(points), *rows[0]])))


class Margin(NamedTuple):
    """How many times longer another point takes than the best, seed by seed."""

    over: str
    ratio: Estimate | None  # None for the best itself

    @property
    def beyond_noise(self) -> bool:
        """Does the interval lie above 1?"""
        return self.ratio is not None and self.ratio.low > 1


class Recommendation(NamedTuple):
    """The best point for a target under the same circumstances; `best` is None if no point reaches it in most seeds."""

    circumstances: dict[str, Any]
    target: float
    best: str | None
    time_s: Estimate | None
    reached: float  # share of the best point's seeds
    margins: dict[str, Margin | None]  # to the next, to uncoded and to ignore-stragglers; None if not in the grid

    def lines(self) -> list[str]:
        """For people."""
        where = "".join(f", {name}={value}" for name, value in self.circumstances.items())
        head = f"target {self.target:.4f}{where}: "
        if self.best is None:
            return [head + "no point of the grid reaches it in most seeds"]
        lines = [f"{head}{self.best} in {self.time_s} s"]
        if self.reached < 1:
            lines[0] += f"; {self.reached:.0%} of the seeds reach it"
        for name, margin in self.margins.items():
            lines.append(f"  {name}: {_told(margin)}")
        return lines


def recommend(points: Sequence[GridPoint], found: Trainings, target: float) -> list[Recommendation]:
    """One recommendation for each set of circumstances in the grid."""
    time_s = times_to(target, found)
    settings: dict[tuple, list[int]] = {}
    for i, point in enumerate(points):
        settings.setdefault(point.circumstances(), []).append(i)
    return [_recommend(dict(setting), points, time_s, inside, target) for setting, inside in settings.items()]


def _recommend(
    setting: dict[str, Any], points: Sequence[GridPoint], time_s: np.ndarray, inside: list[int], target: float
) -> Recommendation:
    reached = np.isfinite(time_s).mean(1)
    ranked = sorted(inside, key=lambda i: (reached[i] < RELIABLE, estimate(time_s[i]).median, -reached[i]))
    best = ranked[0]
    middle = estimate(time_s[best])
    if not math.isfinite(middle.median):
        return Recommendation(setting, target, None, None, 0.0, {})

    def margin(i: int | None) -> Margin | None:
        return None if i is None else Margin(points[i].name(), None if i == best else _ratio(time_s[i], time_s[best]))

    def first(scheme: str, **same: Any) -> int | None:
        wanted = {"scheme": scheme} | same
        return next((i for i in ranked if wanted.items() <= points[i].labels.items()), None)

    r = points[best].labels["wait_for"]
    margins = {
        "next best": margin(ranked[1] if len(ranked) > 1 else None),
        "uncoded": margin(first("uncoded")),
        f"ignoring stragglers at r={r}": margin(first("ignore_stragglers", wait_for=r)),
    }
    return Recommendation(
        setting, target, points[best].name(), middle, float(np.isfinite(time_s[best]).mean()), margins
    )


def _ratio(other_s: Float[np.ndarray, " seeds"], best_s: Float[np.ndarray, " seeds"]) -> Estimate:
    """Seeds in which neither arrives say nothing about who is first; where both arrive at once the ratio is 1."""
    either = np.isfinite(other_s) | np.isfinite(best_s)
    other_s, best_s = other_s[either], best_s[either]
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(np.where(other_s == best_s, 1, other_s / best_s))


def _told(margin: Margin | None) -> str:
    if margin is None:
        return "not in the grid"
    if margin.ratio is None:
        return f"{margin.over}: is the best itself"
    noise = "beyond the noise" if margin.beyond_noise else "within the noise"
    return f"{margin.over} takes {margin.ratio} times as long: {noise}"
