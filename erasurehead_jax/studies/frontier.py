"""The time that each point takes to reach a target: medians over seeds with 95 % confidence intervals.

A seed that never reaches the target has infinite time. The intervals of medians are those of the sign test
(`scipy.stats.quantile_test`), which makes no assumption about the distribution.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import quantile_test

from erasurehead_jax.errors import Diverged
from erasurehead_jax.rundir.kinds import Kind
from erasurehead_jax.rundir.targets import time_to
from erasurehead_jax.studies.grid import GridPoint, label_columns
from erasurehead_jax.studies.montecarlo import Trainings

CONFIDENCE = 0.95
FEWEST = 6  # seeds needed for an interval: with fewer, all lie on one side of the median more often than 1 in 20


class Estimate(NamedTuple):
    """A median over seeds and its 95 % interval, which is nan if there are too few seeds."""

    median: float
    low: float
    high: float

    def interval(self) -> str:
        """The interval as text."""
        if math.isnan(self.low):
            return "too few seeds for an interval"
        return f"{self.low:.3g} or more" if math.isinf(self.high) else f"{self.low:.3g} to {self.high:.3g}"


def estimate(values: Float[np.ndarray, " seeds"]) -> Estimate:
    """Estimates the median; values may be infinite."""
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    ordered = np.sort(values)
    lower, upper = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    median = lower if lower == upper else (lower + upper) / 2
    interval = quantile_test(ordered).confidence_interval(CONFIDENCE)
    return Estimate(float(median), float(interval.low), float(interval.high))


def default_target(points: Sequence[GridPoint], found: Trainings) -> float:
    """The median over seeds of what uncoded (or else the first point) reaches half-way, as in reports.

    Points of which most runs have diverged by then are skipped. Raises Diverged if no point is left.
    """
    half_way = found.metrics[found.metric][:, :, (len(found.rounds) - 1) // 2]
    worst = -np.inf if found.more_is_better else np.inf
    medians = np.median(np.where(np.isnan(half_way), worst, half_way), axis=1)
    for i in sorted(range(len(points)), key=lambda i: points[i].kind != Kind.UNCODED):
        if np.isfinite(medians[i]):
            return float(medians[i])
    raise Diverged(
        f"{found.metric} is not finite half-way in most runs of every point, so there is no default target; "
        "use a smaller optimizer.step_size"
    )


def times_to(target: float, found: Trainings) -> Float[np.ndarray, "points seeds"]:
    """Seconds on the clock until the first evaluated round that reaches the target; inf if none does."""
    return time_to(found.metrics[found.metric], found.clock_s, target, found.more_is_better)


def frontier(points: Sequence[GridPoint], found: Trainings, targets: Sequence[float]) -> pd.DataFrame:
    """One row per point and target: the time to it (s; inf if fewer than half the seeds reach it), and their share."""
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
