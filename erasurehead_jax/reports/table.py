"""The comparison as a table: terminal, CSV and Markdown from the same rows."""

import math
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from erasurehead_jax.reports.runs import Comparison, Contender, Run
from erasurehead_jax.rundir.wording import metric_value


class Target(NamedTuple):
    """A target value of the test metric: the same for all runs, or what the baseline reaches with the same seed."""

    name: str  # in column names
    words: str
    value: float | None = None  # None: the baseline's value ...
    share: float = 1.0  # ... after this fraction of its rounds

    def of(self, base: Run) -> float:
        """The target value for runs whose baseline is `base`."""
        if self.value is not None:
            return self.value
        known = base.values[np.isfinite(base.values)]
        return float(known[math.ceil(self.share * len(known)) - 1])


def default_targets(comparison: Comparison) -> list[Target]:
    """What the baseline reaches half-way, which every sound scheme reaches too, and at its end."""
    label = comparison.contenders[0].label
    return [Target("half", f"{label} half-way", share=0.5), Target("last", f"{label} at its end")]


def times_to(target: Target, comparison: Comparison, contender: Contender) -> tuple[np.ndarray, np.ndarray]:
    """Seconds to the target for each run of the contender and for its baseline; inf if the target is not reached."""
    bases = [comparison.base(run.summary["seed"]) for run in contender.runs]
    own = [run.time_to(target.of(base)) for run, base in zip(contender.runs, bases, strict=True)]
    return np.array(own), np.array([base.time_to(target.of(base)) for base in bases])


def speed_ups(target: Target, comparison: Comparison, contender: Contender) -> tuple[np.ndarray, float]:
    """The speed-up over the baseline for each seed (0 if the target is never reached), and their median.

    The median is nan if half of the seeds never reach the target.
    """
    own_s, base_s = times_to(target, comparison, contender)
    with np.errstate(invalid="ignore"):
        ratios = np.nan_to_num(base_s / own_s)
    return ratios, float(np.median(ratios)) if np.isfinite(np.median(own_s)) else math.nan


def table_rows(comparison: Comparison, targets: list[Target]) -> list[dict[str, Any]]:
    """One row per contender with medians over its seeds, in seconds except round_ms. Speed-ups compare equal seeds."""
    return [_row(comparison, contender, targets) for contender in comparison.contenders]


def _row(comparison: Comparison, contender: Contender, targets: list[Target]) -> dict[str, Any]:
    runs = contender.runs
    median = lambda name: float(np.median([run.summary[name] for run in runs]))
    row: dict[str, Any] = {
        "scheme": contender.label,
        "runs": len(runs),
        "rounds": int(median("rounds")),
        "clock_s": median("clock_s"),
        "ideal_s": median("ideal_s"),
        "round_ms": float(np.median([1e3 * run.summary["clock_s"] / run.summary["rounds"] for run in runs])),
    }
    for target in targets:
        own_s, _ = times_to(target, comparison, contender)
        row[f"{target.name}_s"] = float(np.median(own_s))
        row[f"{target.name}_x"] = speed_ups(target, comparison, contender)[1]
    row["decode_error"] = float(np.mean([run.history["decode_error"].mean() for run in runs]))
    final = [run.summary["final"][comparison.first.metric] for run in runs]  # null if it was not finite
    row[comparison.first.metric] = float(np.median(np.array(final, float)))
    return row


def terminal_table(rows: list[dict[str, Any]], title: str) -> Table:
    """The rows as a table for the terminal."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(heading(name), justify="left" if name == "scheme" else "right", no_wrap=name == "scheme")
    for row in rows:
        table.add_row(*(cell(name, value) for name, value in row.items()))
    return table


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(map(heading, rows[0])) + " |"]
    lines.append("|" + "|".join("---" if isinstance(value, str) else "--:" for value in rows[0].values()) + "|")
    lines += ["| " + " | ".join(cell(name, value) for name, value in row.items()) + " |" for row in rows]
    return "\n".join(lines)


_HEADINGS = {"clock_s": "clock s", "ideal_s": "ideal s", "round_ms": "ms/round", "decode_error": "decode error"}


def heading(name: str) -> str:
    """The heading of a column."""
    if name.endswith("_x"):
        return "speed-up"
    if name.endswith("_s") and name not in _HEADINGS:
        return f"to {name[:-2]} s"
    return _HEADINGS.get(name, name)


def cell(name: str, value: Any) -> str:
    """A value as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "not reached" if name.endswith("_s") else "-"
    if name.endswith("_x"):
        return f"{value:.2f} x"
    if name.startswith("test") and isinstance(value, float):
        return metric_value(value)
    if isinstance(value, float):
        return f"{value:.1f}" if name == "round_ms" else f"{value:.2f}"
    return str(value)
