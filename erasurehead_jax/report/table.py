"""The comparison as a table: terminal, CSV and Markdown from the same rows."""

import math
from typing import Any

from rich.table import Table

from erasurehead_jax.report.runs import Run, baseline


def comparison(runs: list[Run], target: float) -> list[dict[str, Any]]:
    """One row a run. Speed-up is the baseline's time to the target over the run's own; times in seconds."""
    reference_s = baseline(runs).time_to(target)
    rows = []
    for run in runs:
        to_target_s = run.time_to(target)
        rows.append(
            {
                "scheme": run.label,
                "load": run.summary["load"],
                "wait_for": run.summary["wait_for"],
                "rounds": run.summary["rounds"],
                "clock_s": run.summary["clock_s"],
                "ideal_s": run.summary["ideal_s"],
                "round_ms": 1e3 * run.summary["clock_s"] / run.summary["rounds"],
                "to_target_s": to_target_s,
                run.metric: run.summary["final"][run.metric],
                "speed_up": reference_s / to_target_s,
            }
        )
    return rows


def terminal_table(rows: list[dict[str, Any]], title: str) -> Table:
    """The rows for a terminal."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(_HEADINGS.get(name, name), justify="left" if name == "scheme" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    return table


_HEADINGS = {
    "wait_for": "wait for",
    "clock_s": "clock s",
    "ideal_s": "ideal s",
    "round_ms": "ms/round",
    "to_target_s": "to target s",
    "speed_up": "speed-up",
}


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not reached" if name == "to_target_s" else "-"
    if name == "speed_up":
        return f"{value:.2f} x"
    if isinstance(value, float):
        return f"{value:.4f}" if name.startswith("test") else f"{value:.1f}" if name == "round_ms" else f"{value:.2f}"
    return str(value)
