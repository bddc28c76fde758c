"""Run directories read back."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.record import HISTORY, SUMMARY


class Run(NamedTuple):
    """One run directory: its label in tables and figures, summary.json, history.csv and where they lie."""

    label: str
    summary: dict[str, Any]
    history: pd.DataFrame
    folder: Path

    @property
    def metric(self) -> str:
        """test_auc or test_mse."""
        return str(self.history.columns[-1])

    def time_to(self, target: float) -> float:
        """Seconds on the clock until the metric first is at least as good as the target; nan if it never is."""
        values = self.history[self.metric].to_numpy()
        reached = values >= target if self.metric == "test_auc" else values <= target
        return float(self.history["clock_s"].to_numpy()[reached.argmax()]) if reached.any() else float("nan")


def load_runs(folders: list[Path]) -> list[Run]:
    """All finished runs in and below these folders, in the order of their names.

    Raises ConfigError if there is none.
    """
    found = sorted({path.parent for folder in folders for path in folder.rglob(SUMMARY)})
    if not found:
        raise ConfigError(f"report of {', '.join(map(str, folders))}: no finished run ({SUMMARY}) in or below")
    summaries = [json.loads((folder / SUMMARY).read_text()) for folder in found]
    schemes = [summary["scheme"] for summary in summaries]
    labels = [
        scheme if schemes.count(scheme) == 1 else f"{scheme} ({folder.name})"
        for scheme, folder in zip(schemes, found, strict=True)
    ]
    histories = [pd.read_csv(folder / HISTORY) for folder in found]
    runs = [Run(*parts) for parts in zip(labels, summaries, histories, found, strict=True) if parts[1]["rounds"]]
    kinds = {(run.summary["data"], run.metric) for run in runs}
    if len(kinds) != 1:
        raise ConfigError(f"report: runs must share their data and metric, found {sorted(kinds) or 'no rounds at all'}")
    return runs


def baseline(runs: list[Run]) -> Run:
    """What speed-ups are measured against: the first uncoded run, else the first run."""
    return next((run for run in runs if run.summary["scheme"] == "uncoded"), runs[0])


def half_way_target(runs: list[Run]) -> float:
    """The metric that the baseline has half-way through its rounds: a target that every sound scheme can reach."""
    run = baseline(runs)
    values = run.history[run.metric].dropna().to_numpy()
    return float(values[(len(values) - 1) // 2])
