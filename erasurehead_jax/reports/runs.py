"""Reading run directories, and grouping comparable runs."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Float

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.files import HISTORY, ROUND_COLUMNS, SUMMARY
from erasurehead_jax.rundir.kinds import Kind, kind_of_run
from erasurehead_jax.rundir.targets import time_to
from erasurehead_jax.rundir.wording import metric_name

CIRCUMSTANCES = ("data", "objective", "delay", "workers")  # equal for all runs of a comparison
CHOSEN = (  # part of a label if they differ
    *("scheme", "optimizer", "l2", "init", "x64", "compute_s", "overhead_s"),
    *("batch", "variance_reduction", "snapshot_every", "snapshot"),
)
IN_LABEL = ("load", "wait_for", "blocks", "workers")  # settings of the scheme that its label has anyway


class Run:
    """One finished run directory: its settings, summary.json and history.csv."""

    def __init__(self, folder: Path, config: dict[str, Any], summary: dict[str, Any], history: pd.DataFrame):
        self.folder, self.config, self.summary, self.history = folder, config, summary, history

    @property
    def interrupted(self) -> bool:
        """Whether the run stopped before its last round. Such a run is not compared with others."""
        return bool(self.summary.get("interrupted"))

    @property
    def metric(self) -> str:
        """The column of the test metric, which is the last one."""
        return str(self.history.columns[-1])

    @property
    def more_is_better(self) -> bool:
        """Whether a larger test metric is better. Summaries of version 0.1 do not say."""
        return bool(self.summary.get("more_is_better", self.metric == "test_auc"))

    @property
    def kind(self) -> Kind:
        """The kind of the scheme, independent of the name of its yaml file."""
        return kind_of_run(self.summary["code"], self.config["scheme"])

    @property
    def label(self) -> str:
        """The scheme, with c, r and the late policy where they matter."""
        summary = self.summary
        parts = [str(summary["scheme"])]
        if summary["code"] != "Uncoded":
            parts.append(f"c={summary['load']}")
        if summary["wait_for"] < summary["workers"]:
            parts.append(f"r={summary['wait_for']}")
        if summary["late"] != "cancel":
            parts.append(f"late={summary['late']}")
        if summary.get("backend") == "simulate":
            parts.append("(simulated)")
        return " ".join(parts)

    @property
    def values(self) -> Float[np.ndarray, " T"]:
        """The test metric, nan where it was not evaluated."""
        return self.history[self.metric].to_numpy(float)

    def time_to(self, target: float) -> float:
        """Seconds on the clock until the metric first reaches the target; inf if it never does."""
        return float(time_to(self.values, self.history["clock_s"].to_numpy(), target, self.more_is_better))


class Contender(NamedTuple):
    """Runs that differ only in their seeds."""

    label: str
    runs: list[Run]


class Comparison(NamedTuple):
    """Contenders under the same circumstances. The first is the baseline of the others."""

    name: str
    contenders: list[Contender]

    @property
    def runs(self) -> list[Run]:
        """The runs of all contenders."""
        return [run for contender in self.contenders for run in contender.runs]

    @property
    def first(self) -> Run:
        """The first run of the first contender."""
        return self.contenders[0].runs[0]

    def description(self) -> str:
        """One line that describes the runs."""
        config, summary = self.first.config, self.first.summary
        optimizers = sorted({_described(run.config["optimizer"]) for run in self.runs})
        seeds = sorted({run.summary["seed"] for run in self.runs})
        return (
            f"{summary['data']} ({summary['train_rows']} training rows, {summary['features']} columns), "
            f"{_objective(config['objective'])}, {summary['workers']} workers, "
            f"delay {_described(config['delay'])}, {' | '.join(optimizers)}, "
            f"seeds {_listed(seeds)}"
        )

    def base(self, seed: int) -> Run:
        """The baseline of the runs with this seed."""
        return next((run for run in self.contenders[0].runs if run.summary["seed"] == seed), self.first)


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """All run directories in and below these folders, finished or not, sorted by name."""
    begun = {path.parent.parent for folder in folders for path in folder.rglob(".hydra/config.yaml")}
    return sorted(begun | {path.parent for folder in folders for path in folder.rglob(SUMMARY)})


def load_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs in these directories, and one line for each other directory that explains why it is skipped."""
    runs, skipped = [], []
    for folder in folders:
        try:
            runs.append(_load(folder))
        except ConfigError as error:
            skipped.append(f"skipped {folder}: {error}")
    return runs, skipped


def is_whatif(folder: Path) -> bool:
    """Whether the directory holds a finished what-if."""
    return (folder / SUMMARY).exists() and ((folder / "timing.csv").exists() or (folder / "frontier.csv").exists())


def compare(runs: list[Run]) -> list[Comparison]:
    """Groups runs by their circumstances; uncoded, if there is one, comes first in each comparison."""
    alike: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.metric, {name: run.config.get(name) for name in CIRCUMSTANCES}], sort_keys=True)
        alike.setdefault(key, []).append(run)
    names = _names(list(alike.values()))
    return [Comparison(name, _contenders(some)) for name, some in zip(names, alike.values(), strict=True)]


def _load(folder: Path) -> Run:
    """Raises ConfigError for a run that is unfinished or damaged."""
    if not (folder / SUMMARY).exists():
        raise ConfigError(f"unfinished (it has no {SUMMARY})")
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        config = yaml.load((folder / ".hydra" / "config.yaml").read_text(), yaml.CSafeLoader)
        history = pd.read_csv(folder / HISTORY)
        if not isinstance(config, dict) or (*history.columns[: len(ROUND_COLUMNS)],) != ROUND_COLUMNS:
            raise ValueError("its columns or settings are not those of a run")
        if len(history) != summary["rounds"]:
            raise ValueError(f"{HISTORY} has {len(history)} rounds, but {SUMMARY} {summary['rounds']}")
        run = Run(folder, config, summary, history)
        if not np.isfinite(run.values).any():
            raise ConfigError(_nothing_to_compare(run))
        needed = ("scheme", "code", "load", "wait_for", "workers", "late", "seed", "data", "telemetry", "ideal_s")
        if missing := [name for name in needed if name not in summary]:
            raise ValueError(f"{SUMMARY} has no {missing[0]}")
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, pd.errors.ParserError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"damaged ({' '.join(str(error).split())})") from error
    return run


def _nothing_to_compare(run: Run) -> str:
    """Explains why no round has a finite value of the test metric."""
    losses = run.history["train_loss"].to_numpy(float)
    if not np.isfinite(losses).any():
        return "no round was evaluated"
    one_class = ", probably because all test rows are of one class" if run.metric == "test_auc" else ""
    return f"its {metric_name(run.metric)} could not be computed{one_class}"


def _contenders(runs: list[Run]) -> list[Contender]:
    alike: dict[str, list[Run]] = {}
    for run, settings in zip(runs, _differences(runs), strict=True):
        alike.setdefault(" ".join([run.label, *settings]), []).append(run)
    found = []
    for label, some in alike.items():
        if len({run.summary["seed"] for run in some}) == len(some):
            found.append(Contender(label, some))
        else:  # only their directories distinguish them
            found += [Contender(f"{label} ({run.folder.name})", [run]) for run in some]
    return sorted(found, key=lambda contender: _place(contender.runs[0]))


def _place(run: Run) -> tuple[int, int, int, str]:
    """Sorts contenders in the order of the paper, then by load, r and late policy."""
    summary = run.summary
    return list(Kind).index(run.kind), summary["load"], summary["wait_for"], summary["late"]


def _differences(runs: list[Run]) -> list[list[str]]:
    """For each run, the settings in which runs of its scheme differ and that are not in its label."""
    settings = [_flat({name: run.config.get(name) for name in CHOSEN}) for run in runs]
    seen: dict[tuple[str, str], set[str]] = {}
    for run, values in zip(runs, settings, strict=True):
        for name, value in values.items():
            seen.setdefault((run.summary["scheme"], name), set()).add(str(value))
    return [
        [
            f"{name.rpartition('.')[2].strip('_')}={value}"
            for name, value in values.items()
            if len(seen[run.summary["scheme"], name]) > 1 and name.rpartition(".")[2] not in IN_LABEL
        ]
        for run, values in zip(runs, settings, strict=True)
    ]


def _flat(settings: Any, name: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    inside = (
        settings.items() if isinstance(settings, dict) else enumerate(settings) if isinstance(settings, list) else []
    )
    nested = [_flat(value, f"{name}.{key}" if name else str(key)) for key, value in inside]
    return {key: value for part in nested for key, value in part.items()} if nested else {name: settings}


def _names(groups: list[list[Run]]) -> Iterator[str]:
    """Names of the form data-delay, numbered where they would repeat."""
    given: dict[str, int] = {}
    for some in groups:
        delay = some[0].config["delay"]["_target_"].rpartition(".")[2]
        name = f"{some[0].summary['data']}-{delay}".lower()
        given[name] = given.get(name, 0) + 1
        yield name if given[name] == 1 else f"{name}-{given[name]}"


def _described(settings: dict[str, Any]) -> str:
    """A config group as text: the class or function name and its settings."""
    shown = {name: Path(value).name if name == "path" else value for name, value in settings.items() if name[0] != "_"}
    inside = ", ".join(f"{name}={value}" for name, value in shown.items())
    return settings["_target_"].rpartition(".")[2] + (f" ({inside})" if inside else "")


def _objective(settings: dict[str, Any]) -> str:
    """The class of the objective, or of its model."""
    return (settings.get("model") or settings)["_target_"].rpartition(".")[2]


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values)) if len(values) < 6 else f"{values[0]} to {values[-1]} ({len(values)})"
