"""Codes without any training: their decode errors against the number of stragglers, random and worst."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
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
EXACT, ZERO = 1e-9, 1e-12


class Sampled(NamedTuple):
    """Random sets of so many stragglers: errors and amplifications, each (sets,)."""

    error: Float[np.ndarray, " sets"]  # of the scheme's decoder
    optimal: Float[np.ndarray, " sets"]  # of least squares
    amplification: Float[np.ndarray, " sets"]  # |a| |G|: how much a relative error of the answers can grow


class Examined(NamedTuple):
    """A code and decoder, and the numbers of workers that points with it wait for."""

    name: str
    point: GridPoint
    wait_for: set[int]


def examined(points: Sequence[GridPoint]) -> list[Examined]:
    """The codes and decoders of a grid, each once: how many workers are waited for matters to few."""
    groups: list[list[GridPoint]] = []
    for point in points:
        alike = next((group for group in groups if _alike(group[0], point)), None)
        groups.append([point]) if alike is None else alike.append(point)
    plain = [_without_r(group[0]).name() for group in groups]
    return [
        Examined(
            name if plain.count(name) == 1 else group[0].name(),
            group[0],
            {point.labels["wait_for"] for point in group},
        )
        for name, group in zip(plain, groups, strict=True)
    ]


def _without_r(point: GridPoint) -> GridPoint:
    return point._replace(labels=point.labels | {"wait_for": point.point.scheme.code.workers})


def _alike(one: GridPoint, other: GridPoint) -> bool:
    (a, b), (c, d) = ((point.point.scheme.code, point.point.scheme.decode) for point in (one, other))
    same_labels = _without_r(one).labels == _without_r(other).labels
    return same_labels and bool(eqx.tree_equal(a, c)) and bool(eqx.tree_equal(b, d))


def decode_table(
    points: Sequence[Examined],
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
    for each in points:
        scheme, fewer = each.point.point.scheme, None
        for stragglers in counts(scheme.code.workers, heard):
            found = sampled(scheme, stragglers, sets, seed)
            error = lambda heard, scheme=scheme: _error(scheme, _got(scheme, heard))
            worst = worst_case(error, scheme.code.holds, stragglers, fewer, seed)
            fewer = worst.stopped
            rows.append(
                each.point.labels
                | {
                    "name": each.name,
                    "stragglers": stragglers,
                    "mean_error": _rounded(found.error.mean()),
                    "sem_error": _rounded(found.error.std() / np.sqrt(sets)),
                    "optimal_error": _rounded(found.optimal.mean()),
                    "worst_error": _rounded(worst.error),
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
    return pd.DataFrame(
        rows, columns=list(dict.fromkeys(["name", *label_columns([each.point for each in points]), *rows[0]]))
    )


def counts(workers: int, heard: Sequence[int]) -> list[int]:
    """The numbers of stragglers to examine: evenly spaced, and those that leave `heard` workers."""
    spaced = np.unique(np.linspace(0, workers - 1, MOST_COUNTS).round().astype(int)).tolist()
    return sorted({*spaced, *(workers - r for r in heard if r <= workers)})


def sampled(scheme: Scheme, stragglers: int, sets: int, seed: int) -> Sampled:
    """The scheme's decoder, and least squares, on random sets of workers; equal seeds stop equal workers.

    For a code that does not approximate, there is no least squares: its own decoder stands for both.
    """
    code = scheme.code
    rng = np.random.default_rng([seed, stragglers])
    norm = np.linalg.norm(code.coefficients.reshape(-1, code.messages), 2)
    errors, optimal, amplifications = [], [], []
    for _ in range(sets):
        got = _got(scheme, rng.permutation(code.workers) >= stragglers)
        a = scheme.weights(got)
        errors.append(scheme.decode_error(a))
        least = a if not code.approximates else np.asarray(least_squares_weights(code.G, got))
        optimal.append(scheme.decode_error(least))
        amplifications.append(np.linalg.norm(a.reshape(len(a), -1), 2) * norm)
    return Sampled(*map(np.array, (errors, optimal, amplifications)))


def least_mean_error(scheme: Scheme, stragglers: int) -> float:
    """The expected number of blocks without a copy: no decoder, and no code with as many copies, does better."""
    workers = scheme.code.workers
    return float(sum(theory.p(workers, int(copies), workers - stragglers) for copies in scheme.code.copies))


def least_worst_error(scheme: Scheme, stragglers: int) -> int:
    """The blocks that an adversary can erase by stopping all workers that hold them, those with the fewest first."""
    return int((np.cumsum(np.sort(scheme.code.copies)) <= stragglers).sum())


def _rounded(value: float) -> float:
    """Zero for what rounding leaves of an exact gradient."""
    return 0.0 if value < ZERO else float(value)


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


def recommend_codes(points: Sequence[Examined], table: pd.DataFrame, heard: Sequence[int]) -> list[CodeAdvice]:
    """For each load, and each number of workers that are waited for: the best code on average, and at worst."""
    rows = {(row["name"], row["stragglers"]): row for row in table.to_dict("records")}
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for name, point, wait_for in points:
        workers = point.point.scheme.code.workers
        for r in filter(lambda r, workers=workers: r <= workers, heard):
            if wait_for & {r, workers}:  # those that wait until they can decode have no r
                key = point.circumstances(), workers, point.labels["load"], workers - r
                groups.setdefault(key, []).append(rows[name, workers - r])
    return [_advice(found, *key) for key, found in groups.items() if len(found) > 1]


def _advice(found: list[dict[str, Any]], circumstances: tuple, workers: int, load: int, stragglers: int) -> CodeAdvice:
    mean, worst = _best(found, "mean_error", "worst_error"), _best(found, "worst_error", "mean_error")
    where = "".join(f", {name}={value}" for name, value in circumstances)
    text = f"c={load}, {stragglers} of {workers} workers late{where}: smallest mean error {_in_words(mean)}"
    text += ", and smallest worst one" if mean == worst else f"; smallest worst error {_in_words(worst)}"
    return CodeAdvice(dict(circumstances), load, stragglers, _names(mean), _names(worst), text)


def _best(found: list[dict[str, Any]], first: str, second: str) -> list[dict[str, Any]]:
    """The codes with the smallest of two errors, if equal by the other one; several if both are equal."""
    rank = lambda row: (round(row[first], 9), round(row[second], 9))
    return [row for row in found if rank(row) == min(map(rank, found))]


def _names(rows: list[dict[str, Any]]) -> str:
    return " and ".join(row["name"] for row in rows)


def _in_words(rows: list[dict[str, Any]]) -> str:
    best = rows[0]
    found = "" if best["worst_is"] == "exhaustive" else " that was found"
    return (
        f"{_names(rows)} ({best['mean_error']:.3g} ± {best['sem_error']:.1g}, worst{found} {best['worst_error']:.4g})"
    )
