"""The tables of a what-if for the terminal, at most 80 columns wide; the CSV files have every column."""

import math
from typing import Any

import pandas as pd
from rich.table import Table

CONSTANTS = ("late", "target", "seeds")  # moved to the title if all rows agree
HEADINGS = {
    "wait_for": "r",
    "load": "c",
    "time_s": "time s",
    "mean_round_s": "round s",
    "mean_wall_s": "next after s",
    "sem_round_s": "std. error s",
    "exact_fraction": "exact",
    "mean_decode_error": "decode error",
}


def terminal_table(table: pd.DataFrame, title: str) -> Table:
    """The table with times in seconds, and with intervals in one column."""
    same = [name for name in CONSTANTS if name in table and len(set(table[name])) == 1]
    title = ", ".join([title, *(f"{name}={_cell(name, table[name].iloc[0])}" for name in same)])
    rows = table.drop(columns=same)
    if "low_s" in rows:
        low_s, high_s = rows.pop("low_s"), rows.pop("high_s")
        intervals = [f"{_cell('', low)} to {_cell('', high)}" for low, high in zip(low_s, high_s, strict=True)]
        place = list(rows.columns).index("time_s") + 1
        rows.insert(place, "95 % interval", [each.replace("- to -", "-") for each in intervals])
    shown = Table(title=title, title_justify="left")
    for name in map(str, rows.columns):
        words = bool(pd.api.types.is_string_dtype(rows[name].dtype))
        left = words and name != "95 % interval"
        heading = HEADINGS.get(name, name.replace("_", " "))
        shown.add_column(heading, justify="left" if left else "right", overflow="fold", no_wrap=words)
    for row in rows.itertuples(index=False):
        shown.add_row(*map(_cell, rows.columns, row))
    return shown


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "not reached" if name == "time_s" else "-"
    digits = 2 if name == "sem_round_s" else 4
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
