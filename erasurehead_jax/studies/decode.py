"""Codes without any training: their decode errors against the number of stragglers, random and worst."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from erasurehead_jax import theory
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.studies import closed_forms
from erasurehead_jax.studies.grid import GridPoint, label_columns
from erasurehead_jax.studies.worst_case import worst_case

MOST_COUNTS = 31  # numbers of stragglers that are examined
EXACT = 1e-9


class Sampled(NamedTuple):
    """Random sets of so many stragglers: errors and amplifications, each (sets,)."""

    error: Float[np.ndarray, " sets"]  # of the scheme's decoder
    optimal: Float[np.ndarray, " sets"]  # of least squares
    amplification: Float[np.ndarray, " sets"]  # |a| |G|: how much a relative error of the answers can grow


def decode_table(
    points: Sequence[GridPoint],
    heard: Sequence[int],
    sets: int,
    seed: int,
    progress: Callable[[float], object] = lambda done: None,
) -> pd.DataFrame:
    """One row a point and number of stragglers, those that leave `heard` workers among them.

    Means over `sets` random sets of stragglers with their standard errors, the worst case, the closed form of the mean
    error where one is known, and what no decoder can avoid: blocks without a copy, on average and at worst.
    """
    rows = []
    for i, point in enumerate(points):
        scheme, fewer = point.point.scheme, None
        for stragglers in counts(scheme.code.workers, heard):
            found = sampled(scheme, stragglers, sets, seed)
            error = lambda heard, scheme=scheme: _error(scheme, _got(scheme, heard))
            worst = worst_case(error, scheme.code.holds, stragglers, fewer, seed)
            fewer = worst.stopped
            rows.append(
                point.labels
                | {
                    "point": i,
                    "stragglers": stragglers,
                    "mean_error": found.error.mean(),
                    "sem_error": found.error.std() / np.sqrt(sets),
                    "optimal_error": found.optimal.mean(),
                    "worst_error": worst.error,
                    "worst_is": "exhaustive" if worst.certain else "search",
                    "exact_fraction": (found.error < EXACT).mean(),
                    "amplification": np.median(found.amplification),
                    "worst_amplification": found.amplification.max(),
                    "closed_form": closed_forms.uniform_decode_error(scheme, scheme.code.workers - stragglers),
                    "least_mean_error": least_mean_error(scheme, stragglers),
                    "least_worst_error": least_worst_error(scheme, stragglers),
                }
            )
        progress(1.0)
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*label_columns(points), *rows[0]])))


def counts(workers: int, heard: Sequence[int]) -> list[int]:
    """The numbers of stragglers to examine: evenly spaced, and those that leave `heard` workers."""
    spaced = np.unique(np.linspace(0, workers - 1, MOST_COUNTS).round().astype(int)).tolist()
    return sorted({*spaced, *(workers - r for r in heard)})


def sampled(scheme: Scheme, stragglers: int, sets: int, seed: int) -> Sampled:
    """The scheme's decoder, and least squares, on random sets of workers; equal seeds stop equal workers."""
    code = scheme.code
    rng, norm = np.random.default_rng([seed, stragglers]), np.linalg.norm(code.G, 2)
    errors, optimal, amplifications = [], [], []
    for _ in range(sets):
        got = _got(scheme, rng.permutation(code.workers) >= stragglers)
        a = scheme.weights(got)
        errors.append(scheme.decode_error(a))
        optimal.append(scheme.decode_error(np.asarray(least_squares_weights(code.G, got))))
        amplifications.append(np.linalg.norm(a) * norm)
    return Sampled(*map(np.array, (errors, optimal, amplifications)))


def least_mean_error(scheme: Scheme, stragglers: int) -> float:
    """The expected number of blocks without a copy: no decoder, and no code with as many copies, does better."""
    workers = scheme.code.workers
    return float(sum(theory.p(workers, int(copies), workers - stragglers) for copies in scheme.code.copies))


def least_worst_error(scheme: Scheme, stragglers: int) -> int:
    """The blocks that an adversary can erase by stopping all workers that hold them, those with the fewest first."""
    return int((np.cumsum(np.sort(scheme.code.copies)) <= stragglers).sum())


def _got(scheme: Scheme, heard: Bool[np.ndarray, " k"]) -> Bool[np.ndarray, " M"]:
    """All messages of these workers."""
    return heard[scheme.code.owner]


def _error(scheme: Scheme, got: Bool[np.ndarray, " M"]) -> float:
    return scheme.decode_error(scheme.weights(got))


class CodeAdvice(NamedTuple):
    """The codes with the smallest errors for one load and number of stragglers."""

    circumstances: dict[str, Any]
    load: int
    stragglers: int
    least_mean: str
    least_worst: str
    text: str


def recommend_codes(points: Sequence[GridPoint], table: pd.DataFrame, heard: Sequence[int]) -> list[CodeAdvice]:
    """For each load, and each number of workers that are waited for: the best code on average, and at worst."""
    rows = {(row["point"], row["stragglers"]): row for row in table.to_dict("records")}
    groups: dict[tuple, list[tuple[str, dict[str, Any]]]] = {}
    for i, point in enumerate(points):
        workers = point.point.scheme.code.workers
        for r in heard:
            if point.labels["wait_for"] in (r, workers):  # those that wait until they can decode have no r
                key = point.circumstances(), workers, point.labels["load"], workers - r
                groups.setdefault(key, []).append((point.name(), rows[i, workers - r]))
    return [_advice(found, *key) for key, found in groups.items() if len(found) > 1]


def _advice(
    found: list[tuple[str, dict[str, Any]]], circumstances: tuple, workers: int, load: int, stragglers: int
) -> CodeAdvice:
    by = lambda first, second: min(found, key=lambda each: (round(each[1][first], 9), each[1][second]))
    mean, worst = by("mean_error", "worst_error"), by("worst_error", "mean_error")
    where = "".join(f", {name}={value}" for name, value in circumstances)
    text = f"c={load}, {stragglers} of {workers} workers late{where}: smallest mean error {_in_words(*mean)}"
    text += "; none is better at worst" if mean[0] == worst[0] else f"; best at worst: {_in_words(*worst)}"
    return CodeAdvice(dict(circumstances), load, stragglers, mean[0], worst[0], text)


def _in_words(name: str, row: dict[str, Any]) -> str:
    return f"{name} ({row['mean_error']:.3g} ± {row['sem_error']:.1g}, at worst {row['worst_error']:.3g})"
