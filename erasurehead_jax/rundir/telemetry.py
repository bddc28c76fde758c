"""How often each worker was used, how fast it was, and how often each block was covered."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.types import Owner

RECENT = 20  # rounds that tell who is slow now
SLOW = 2.0  # a straggler is unused, or slower than this many times the median of its round


def telemetry(scheme: Scheme, arrival_s: Float[np.ndarray, "T M"]) -> dict[str, Any]:
    """Per worker: rounds used, median time, also relative to the fastest worker's, and what it lately took relative to
    its own best. Per block: rounds covered, longest gap in rounds. And the recurrence.

    `arrival_s` has the seconds from the start of the round to each message, nan where it was not used.
    """
    code = scheme.code
    times_s = worker_times(arrival_s, code.owner)
    medians_s = [_median_s(column, times_s) for column in times_s.T]
    fastest_s = min((each for each in medians_s if each), default=None)
    covered = coverage(scheme, ~np.isnan(arrival_s))
    return {
        "workers": {
            "used": (~np.isnan(times_s)).sum(0).tolist(),
            "median_s": medians_s,
            "times_fastest": [each / fastest_s if each and fastest_s else None for each in medians_s],
            "times_own_best": [_times_own_best(column) for column in times_s.T],
        },
        "blocks": {"covered": covered.sum(0).tolist(), "longest_gap": longest_gaps(covered).tolist()},
        "straggler_recurrence": recurrence(stragglers(times_s)),
    }


def worker_times(arrival_s: Float[np.ndarray, "T M"], owner: Owner) -> Float[np.ndarray, "T k"]:
    """Seconds until each worker's last message, nan if any was not used."""
    workers = int(owner.max()) + 1
    if np.array_equal(owner, np.arange(workers)):
        return arrival_s
    return np.stack([arrival_s[:, owner == j].max(1) for j in range(workers)], axis=1)


def coverage(scheme: Scheme, got: Bool[np.ndarray, "T M"]) -> Bool[np.ndarray, "T n"]:
    """Whether each block was in the round's decoded gradient."""
    masks, which = np.unique(got, axis=0, return_inverse=True)
    shares = [np.asarray(scheme.code.shares(scheme.decode(scheme.code, mask))) for mask in masks]
    covered = np.abs(np.reshape(shares, (-1, scheme.code.blocks))) > ROUNDING
    return covered[which.reshape(-1)]


def longest_gaps(covered: Bool[np.ndarray, "T n"]) -> Int[np.ndarray, " n"]:
    """The most consecutive rounds in which each block was not covered."""
    gap = longest = np.zeros(covered.shape[1], int)
    for row in covered:
        gap = np.where(row, 0, gap + 1)
        longest = np.maximum(longest, gap)
    return longest


def stragglers(times_s: Float[np.ndarray, "T k"]) -> Bool[np.ndarray, "T k"]:
    """Whether each worker was unused, or more than twice as slow as the round's median."""
    late = np.isnan(times_s)
    with np.errstate(invalid="ignore"):
        return late | (times_s > SLOW * np.median(np.where(late, np.inf, times_s), axis=1, keepdims=True))


def recurrence(straggling: Bool[np.ndarray, "T k"]) -> float | None:
    """(p - q) / (1 - q): p is the probability that a straggler straggles again in the next round, q their share.

    1: always the same workers. 0: they change at random. None if no worker, or every worker, straggles.
    """
    if len(straggling) < 2 or not straggling[:-1].any() or straggling.all():
        return None
    repeated = (straggling[:-1] & straggling[1:]).sum() / straggling[:-1].sum()
    share = straggling.mean()
    return float((repeated - share) / (1 - share))


def slow_now(times_s: Float[np.ndarray, "recent k"]) -> list[int]:
    """The workers that straggled in nearly all of the last rounds; nobody if there were too few rounds."""
    if len(times_s) < RECENT:
        return []
    return np.flatnonzero(stragglers(times_s[-RECENT:]).sum(0) > RECENT - 2).tolist()


def _times_own_best(column: Float[np.ndarray, " T"]) -> float | None:
    """The median of the last used times, over the smallest median of so many in a row. None with too few of them."""
    used = column[~np.isnan(column)]
    if len(used) < RECENT:
        return None
    parts = [float(np.median(used[i : i + RECENT])) for i in range(len(used) % RECENT, len(used), RECENT)]
    return parts[-1] / min(parts) if min(parts) > 0 else None


def _median_s(column: Float[np.ndarray, " T"], times_s: Float[np.ndarray, "T k"]) -> float | None:
    """The Kaplan-Meier median of a worker's time: an unused answer is censored at the end of its round.

    None if the worker was used too rarely to estimate it.
    """
    from scipy.stats import CensoredData, ecdf  # late: slow to import, and off the clock here

    used = ~np.isnan(column)
    known = used | ~np.isnan(times_s).all(1)
    if not used.any():
        return None
    ended_s = np.nanmax(times_s[known & ~used], axis=1) if (known & ~used).any() else np.empty(0)
    survival = ecdf(CensoredData(uncensored=column[used], right=ended_s)).sf
    below = survival.probabilities <= 0.5
    return float(survival.quantiles[below.argmax()]) if below.any() else None
