"""What recorded times say about workers and rounds: who is slow, for how long, and what that costs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from erasurehead_jax.errors import ConfigError

Times = Float[np.ndarray, "rounds workers"]  # nan: no time

SLOW = 1.5  # times as long as the fast workers take, from which on a worker or a round is slow
FAST = 0.25  # the share of workers that are taken for the fast ones
FEW = 10  # rounds, below which little is known
STRETCHES, SHORTEST = 10, 5  # into which rounds are divided, and the rounds that one has at least
THROUGHOUT = 0.9  # of the stretches
SEVERAL = 2  # slow stretches: a single one may be chance
ABSENT = 3  # missing rounds at the beginning or end that are worth a word


class Worker(NamedTuple):
    """What the times say about one worker."""

    name: str
    median_s: float
    ratio: float  # of its median to that of the fast workers, in the stretches in which it is slow, if there are any
    last: float  # the share of rounds in which it is the last one
    saved_s: float  # by which a round that waits for all is shorter if it takes the median worker's time
    words: str  # when it is slow or absent; empty if it never is


class Without(NamedTuple):
    """Rounds that wait for all, with the slowest workers removed or as fast as the median worker."""

    slowest: list[str]  # workers, by their mean times
    removed_s: float
    replaced_s: float


class Summary(NamedTuple):
    """What the times say."""

    workers: list[Worker]
    rounds: int
    missing: int  # times
    median_s: float
    all_s: float  # mean time of a round that waits for all
    between: float  # share of the variance of log times that lies between workers
    lag_1: float  # autocorrelation of a worker's log times, less its mean and those of the rounds
    slow_rounds: list[int]  # counted from 0: three in four workers take much longer than they mostly do
    without: list[Without]


def summarize(times_s: Times, names: list[str]) -> Summary:
    """The statistics of a recording. A worker's missing times count as nothing at all, not as zero.

    Raises ConfigError if no time is above zero.
    """
    if not (times_s > 0).any():
        raise ConfigError("times: all are 0 or missing")
    known = np.isfinite(times_s)
    slow, ratios, bounds = _slow_stretches(times_s)
    medians_s = np.array([_median(column) for column in times_s.T])
    filled = np.where(known, times_s, -np.inf)
    last_s, middle_s = filled.max(1), np.nanmedian(_with_a_time(times_s), axis=1)
    saved_s = _saved_s(filled, middle_s)
    last = (filled == last_s[:, None]).mean(0)
    workers = [
        Worker(name, median_s, ratio, float(last[j]), float(saved_s[j]), _words(slow[:, j], bounds, known[:, j]))
        for j, (name, median_s, ratio) in enumerate(zip(names, medians_s.tolist(), ratios, strict=True))
    ]
    logs = np.log(np.where(times_s > 0, times_s, np.nan))
    return Summary(
        workers=workers,
        rounds=len(times_s),
        missing=int((~known).sum()),
        median_s=_median(times_s),
        all_s=float(last_s.mean()),
        between=between_workers(logs),
        lag_1=lag_1(logs - _round_means(logs)),
        slow_rounds=_slow_rounds(times_s),
        without=_without(filled, middle_s, names),
    )


def between_workers(logs: Times) -> float:
    """The share of the variance that lies between workers: one-way random effects, 0 if workers are exchangeable."""
    known = np.isfinite(logs)
    counts = known.sum(0).astype(float)
    counted = counts > 0
    total, groups = counts.sum(), counted.sum()
    if groups < 2 or total <= groups:
        return float("nan")
    means = np.where(known, logs, 0).sum(0)[counted] / counts[counted]
    grand = np.nansum(logs) / total
    among = (counts[counted] * (means - grand) ** 2).sum() / (groups - 1)
    within = float(np.nansum((logs[:, counted] - means) ** 2) / (total - groups))
    size = (total - (counts**2).sum() / total) / (groups - 1)
    variance = max(0.0, (among - within) / size)
    return variance / (variance + within) if variance + within > 0 else 0.0


def lag_1(logs: Times) -> float:
    """The autocorrelation from one round to the next, pooled over workers whose means are removed."""
    known = np.isfinite(logs)
    with np.errstate(invalid="ignore"):
        rest = np.where(known, logs - np.where(known, logs, 0).sum(0) / known.sum(0), 0)
    square = (rest**2).sum()
    return float((rest[1:] * rest[:-1]).sum() / square) if square > 0 else 0.0


def _round_means(logs: Times) -> Float[np.ndarray, "rounds 1"]:
    known = np.isfinite(logs)
    return (np.where(known, logs, 0).sum(1) / np.maximum(known.sum(1), 1))[:, None]


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _with_a_time(times_s: Times) -> Times:
    """Rounds without any time count as rounds of no time."""
    return np.where(np.isfinite(times_s).any(1, keepdims=True), times_s, 0.0)


def _slow_stretches(
    times_s: Times,
) -> tuple[Bool[np.ndarray, "stretches workers"], list[float], list[tuple[int, int]]]:
    """The stretches in which each worker is slow, how many times as slow it is then, and their first and last rounds.

    A worker that is never slow has the ratio of all its rounds.
    """
    count = min(STRETCHES, max(1, len(times_s) // SHORTEST))
    parts = np.array_split(np.arange(len(times_s)), count)
    medians = np.array([[_median(column) for column in times_s[part].T] for part in parts])
    absent = np.isnan(medians).all(1, keepdims=True)
    fast = np.nanquantile(np.where(absent, 0.0, medians), FAST, axis=1, keepdims=True, method="lower")
    slow = medians > SLOW * fast
    with np.errstate(invalid="ignore"):
        each = medians / np.where(fast > 0, fast, np.nan)
    counted = np.where(slow.sum(0) >= SEVERAL, slow, True)
    ratios = [_median(column[some]) for column, some in zip(each.T, counted.T, strict=True)]
    return slow, ratios, [(int(part[0]), int(part[-1])) for part in parts]


def _words(
    slow: Bool[np.ndarray, " stretches"], bounds: list[tuple[int, int]], known: Bool[np.ndarray, " rounds"]
) -> str:
    """When a worker is slow or absent, in words."""
    if not known.any():
        return "never answers"
    said, rounds = [], np.flatnonzero(known)
    first, last = rounds[0] >= ABSENT, len(known) - 1 - rounds[-1] >= ABSENT
    missing = int((~known[rounds[0] if first else 0 : rounds[-1] + 1 if last else None]).sum())
    if first:
        said.append(f"joins in round {rounds[0]}")
    if slow.mean() >= THROUGHOUT:
        said.append("slow throughout")
    elif slow.sum() >= SEVERAL:
        where = np.flatnonzero(slow)
        together = len(where) == where[-1] - where[0] + 1
        if together and slow[-1]:
            said.append(f"slow from about round {bounds[where[0]][0]} on")
        elif together and slow[0]:
            said.append(f"slow up to about round {bounds[where[-1]][1]}")
        else:
            said.append(f"slow in {slow.sum()} of {len(slow)} stretches of rounds")
    if last:
        said.append(f"no more answers after round {rounds[-1]}")
    if missing:
        said.append(f"{missing} of its times {'is' if missing == 1 else 'are'} missing")
    return ", ".join(said)


def _saved_s(filled: Times, middle_s: Float[np.ndarray, " rounds"]) -> Float[np.ndarray, " workers"]:
    """By how much a round that waits for all is shorter on average if a worker takes the median time, for each."""
    order = np.argsort(filled, axis=1)
    rounds = np.arange(len(filled))
    last_s = filled[rounds, order[:, -1]]
    second_s = filled[rounds, order[:, -2]] if filled.shape[1] > 1 else middle_s
    gain_s = np.maximum(last_s - np.maximum(second_s, middle_s), 0)
    return np.bincount(order[:, -1], gain_s, filled.shape[1]) / len(filled)


def _slow_rounds(times_s: Times) -> list[int]:
    medians = np.array([_median(column) for column in times_s.T])
    with np.errstate(invalid="ignore"):
        relative = _with_a_time(times_s / np.where(medians > 0, medians, np.nan))
    return np.flatnonzero(np.nanquantile(relative, FAST, axis=1, method="lower") > SLOW).tolist()


def _without(filled: Times, middle_s: Float[np.ndarray, " rounds"], names: list[str]) -> list[Without]:
    means = np.array([column[np.isfinite(column)].mean() if np.isfinite(column).any() else 0 for column in filled.T])
    slowest, found = np.argsort(-means, kind="stable"), []
    for m in (1, 2, 3, 5, 10, 20, 50):
        if m >= len(names):
            break
        left_s = np.delete(filled, slowest[:m], axis=1).max(1)
        left_s = np.where(np.isfinite(left_s), left_s, middle_s)
        replaced_s = np.maximum(left_s, middle_s)
        found.append(Without([names[j] for j in slowest[:m]], float(left_s.mean()), float(replaced_s.mean())))
    return found
