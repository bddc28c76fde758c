"""The paper's claims, checked against the runs of a comparison."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from erasurehead_jax.reports.runs import Comparison, Contender
from erasurehead_jax.reports.table import Target, speed_ups, times_to
from erasurehead_jax.rundir.kinds import Kind

LAST = Target("last", "uncoded at its end")
PAPER_WORKERS = 30
TABLE_1 = {"amazon": (26_215, 241_915), "covertype": (396_112, 15_509), "kc_housing": (17_290, 27_654)}
NOISE = 0.05  # relative difference below which two times count as equal


class Finding(NamedTuple):
    """A claim of the paper, where it is made, what was measured, and whether that meets the claim."""

    where: str
    claim: str
    measured: str
    met: bool
    limit: str  # the best that is possible under the same assumptions


def findings(comparison: Comparison) -> list[Finding]:
    """Checks those claims of the paper to which these runs apply."""
    summary, delay = comparison.first.summary, comparison.first.config["delay"]["_target_"].rpartition(".")[2]
    real = summary["backend"] == "mpi" and comparison.first.kind == Kind.UNCODED
    if not real or summary["data"] not in TABLE_1 or delay not in ("Exponential", "NoDelay"):
        return []
    sleeps = delay == "Exponential"
    checks = [_sizes, *([_over_uncoded, _over_exact, _shorter_rounds, _r] if sleeps else [_never_worse])]
    return [found for check in checks if (found := check(comparison))]


def _sizes(comparison: Comparison) -> Finding:
    summary = comparison.first.summary
    rows, columns = TABLE_1[summary["data"]]
    measured = f"{summary['train_rows']} training rows, {summary['features']} columns"
    claim = f"{rows} training rows, {columns} columns"
    if summary["data"] == "covertype":
        claim += " (495,141 rows before the split)"
    return Finding("Table 1", claim, measured, (summary["train_rows"], summary["features"]) == (rows, columns), "")


def _over_uncoded(comparison: Comparison) -> Finding | None:
    found = _best(comparison, loads=(2, 3))
    if found is None:
        return None
    each, ratio = found
    from erasurehead_jax.theory import speed_up_limit  # imported here: SciPy and JAX take two seconds

    r = each.runs[0].summary["wait_for"]
    limit = f"{speed_up_limit(comparison.first.summary['workers'], r):.2f} x a round at r={r}"
    claim = "ErasureHead is up to 6 times as fast as uncoded, end to end"
    return Finding("Abstract, Figure 3", claim, f"{ratio:.2f} x ({each.label})", ratio >= 6, limit)


def _over_exact(comparison: Comparison) -> Finding | None:
    """The largest speed-up of ErasureHead over exact coding with the same c, for c = 2 and 3."""
    ratios = {}
    for each in _of(comparison, Kind.ERASUREHEAD, (2, 3)):
        for exact in _of(comparison, Kind.EXACT, (each.runs[0].summary["load"],)):
            ratios[each.label] = _time_s(comparison, exact) / _time_s(comparison, each)
    if not ratios:
        return None
    label, ratio = max(ratios.items(), key=lambda item: item[1])
    factor = {"amazon": 3, "covertype": 2, "kc_housing": 3}[comparison.first.summary["data"]]
    claim = f"{'around' if factor == 2 else 'up to'} {factor} times as fast as exact coding with the same c"
    return Finding("Section 5.3, Figure 3", claim, f"{ratio:.2f} x ({label})", ratio >= factor, "")


def _shorter_rounds(comparison: Comparison) -> Finding | None:
    """Figure 2: for both c, rounds of ErasureHead are shorter than those of exact coding, and these than uncoded's."""
    mean_s = lambda each: float(np.mean([run.summary["clock_s"] / run.summary["rounds"] for run in each.runs]))
    pairs = [
        (exact, each)
        for exact in _of(comparison, Kind.EXACT, (2, 3))
        for each in _of(comparison, Kind.ERASUREHEAD, (exact.runs[0].summary["load"],))
    ]
    if not pairs:
        return None
    uncoded_s = mean_s(comparison.contenders[0])
    measured = "; ".join(
        f"{each.label}: {1e3 * mean_s(each):.0f} of {1e3 * mean_s(exact):.0f} ms" for exact, each in pairs
    )
    met = all(mean_s(each) < mean_s(exact) < uncoded_s for exact, each in pairs)
    claim = "a round is shortest with ErasureHead, then exact coding, then uncoded"
    return Finding("Figure 2 (d-f)", claim, f"{measured}; uncoded {1e3 * uncoded_s:.0f} ms", met, "")


def _r(comparison: Comparison) -> Finding | None:
    """At most 11 of 30 workers were waited for on Amazon."""
    chosen = _best(comparison, loads=(2, 3))
    if chosen is None or comparison.first.summary["data"] != "amazon":
        return None
    r, workers = chosen[0].runs[0].summary["wait_for"], comparison.first.summary["workers"]
    claim = "best with at most 11 of 30 workers waited for"
    return Finding("Section 5.3", claim, f"{r} of {workers}", r / workers <= 11 / PAPER_WORKERS, "")


def _never_worse(comparison: Comparison) -> Finding | None:
    """Figure 4: without sleeps, ErasureHead is at least as fast as uncoded."""
    found = _best(comparison, loads=(2, 3))
    if found is None:
        return None
    each, ratio = found
    claim = f"without sleeps ErasureHead performs at least as well as uncoded, end to end (here: within {NOISE:.0%})"
    return Finding("Section 5.4, Figure 4", claim, f"{ratio:.2f} x ({each.label})", ratio >= 1 - NOISE, "")


def _of(comparison: Comparison, kind: Kind, loads: tuple[int, ...]) -> list[Contender]:
    """The contenders of this kind that use the paper's code, fractional repetition, and can abandon late work."""
    fits: Callable[[Contender], bool] = lambda each: (
        each.runs[0].kind == kind
        and each.runs[0].summary["code"] == "FractionalRepetition"
        and each.runs[0].summary["load"] in loads
        and each.runs[0].summary["late"] == "cancel"
    )
    return [each for each in comparison.contenders if fits(each)]


def _time_s(comparison: Comparison, contender: Contender) -> float:
    return float(np.median(times_to(LAST, comparison, contender)[0]))


def _best(comparison: Comparison, loads: tuple[int, ...]) -> tuple[Contender, float] | None:
    """The ErasureHead contender first to reach uncoded's last value, and its speed-up over uncoded."""
    some = _of(comparison, Kind.ERASUREHEAD, loads)
    if not some:
        return None
    best = min(some, key=lambda each: _time_s(comparison, each))
    return best, float(np.nan_to_num(speed_ups(LAST, comparison, best)[1]))
