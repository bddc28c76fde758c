"""What recorded times say about workers and rounds: who is slow, for how long, and what that costs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

Times = Float[np.ndarray, "rounds workers"]  # nan: no time

SLOW = 1.5  # times as long as the fast workers take, from which on a worker or a round is slow
FAST = 0.25  # the share of workers that are taken for the fast ones
STRETCHES, SHORTEST = 10, 5  # into which rounds are divided, and the rounds that one has at least
THROUGHOUT = 0.9  # of the stretches
SEVERAL = 2  # slow stretches: a single one may be chance


class Worker(NamedTuple):
    """What the times say about one worker."""

    name: str
    median_s: float
    ratio: float  # of its median to that of the fast workers
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
    lag_1: float  # autocorrelation of a worker's log times, less its mean
    slow_rounds: list[int]  # counted from 0: even the fast workers are slow
    without: list[Without]


def summarize(times_s: Times, names: list[str]) -> Summary:
    """The statistics of a recording. A worker's missing times count as nothing at all, not as zero."""
    known = np.isfinite(times_s)
    slow, bounds = _slow_stretches(times_s)
    medians_s = np.array([_median(column) for column in times_s.T])
    fast_s = np.nanquantile(medians_s, FAST, method="lower")
    filled = np.where(known, times_s, -np.inf)
    last_s, middle_s = filled.max(1), np.nanmedian(_with_a_time(times_s), axis=1)
    saved_s = _saved_s(filled, middle_s)
    last = (filled == last_s[:, None]).mean(0)
    workers = [
        Worker(name, median_s, ratio, float(last[j]), float(saved_s[j]), _words(slow[:, j], bounds, known[:, j]))
        for j, (name, median_s, ratio) in enumerate(
            zip(names, medians_s.tolist(), (medians_s / fast_s).tolist(), strict=True)
        )
    ]
    logs = np.log(np.where(times_s > 0, times_s, np.nan))
    return Summary(
        workers=workers,
        rounds=len(times_s),
        missing=int((~known).sum()),
        median_s=_median(times_s),
        all_s=float(last_s.mean()),
        between=between_workers(logs),
        lag_1=lag_1(logs),
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


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _with_a_time(times_s: Times) -> Times:
    """Rounds without any time count as rounds of no time."""
    return np.where(np.isfinite(times_s).any(1, keepdims=True), times_s, 0.0)


def _slow_stretches(times_s: Times) -> tuple[Bool[np.ndarray, "stretches workers"], list[tuple[int, int]]]:
    """The stretches in which each worker is slow, and their first and last rounds."""
    count = min(STRETCHES, max(1, len(times_s) // SHORTEST))
    parts = np.array_split(np.arange(len(times_s)), count)
    medians = np.array([[_median(column) for column in times_s[part].T] for part in parts])
    absent = np.isnan(medians).all(1, keepdims=True)
    fast = np.nanquantile(np.where(absent, 0.0, medians), FAST, axis=1, keepdims=True, method="lower")
    return medians > SLOW * fast, [(int(part[0]), int(part[-1])) for part in parts]


def _words(
    slow: Bool[np.ndarray, " stretches"], bounds: list[tuple[int, int]], known: Bool[np.ndarray, " rounds"]
) -> str:
    """When a worker is slow or absent, in words."""
    if not known.any():
        return "never answers"
    said, rounds = [], np.flatnonzero(known)
    absences = int((~known[rounds[0] : rounds[-1] + 1]).sum())
    if rounds[0] > 0:
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
    if rounds[-1] < len(known) - 1:
        said.append(f"no more answers after round {rounds[-1]}")
    if absences:
        said.append(f"{absences} times missing in between")
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
    absent = np.isnan(times_s).all(1, keepdims=True)
    fast = np.nanquantile(np.where(absent, 0.0, times_s), FAST, axis=1, method="lower")
    return np.flatnonzero(fast > SLOW * np.median(fast)).tolist()


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
