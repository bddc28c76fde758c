"""The what-if command: `python -m erasurehead_jax.whatif grid.scheme=[...] grid.load=[...] mode=training ...`"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
import jax
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from erasurehead_jax.caches import keep_compiled
from erasurehead_jax.data import Dataset
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.hydra_app import checked, hydra_command, run_command
from erasurehead_jax.job import build_data
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.rundir.files import SUMMARY, replacing, write_json
from erasurehead_jax.rundir.metrics import why_no_metric
from erasurehead_jax.rundir.versions import versions
from erasurehead_jax.settings import WhatIfSettings, check_values
from erasurehead_jax.whatif.figures import frontier_figure, timing_figure, training_figure
from erasurehead_jax.whatif.frontier import default_target, frontier
from erasurehead_jax.whatif.grid import GridPoint, axes, grid_points, label_columns
from erasurehead_jax.whatif.montecarlo import Trainings, time_grid, train_grid
from erasurehead_jax.whatif.recommendation import recommend
from erasurehead_jax.whatif.tables import terminal_table


class Study(NamedTuple):
    """The settings of a what-if, and the objects built from them."""

    mode: str
    points: list[GridPoint]
    left_out: list[str]  # one line per kind of impossible grid point
    seeds: list[int]
    rounds: int
    every: int
    chunk: int | None
    targets: list[float] | None
    dataset: Dataset | None  # for training only
    objective: AbstractObjective | None


@hydra_command("whatif")
def whatif(cfg: DictConfig) -> None:
    """Simulates the grid, writes tables and figures into the run directory, and prints the result."""
    keep_compiled()
    if hasattr(os, "sched_getaffinity"):
        os.environ.setdefault("NPROC", str(len(os.sched_getaffinity(0)) + 1))  # threads of XLA's pool: see `sharing`
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))  # runs are distributed over devices
    run_dir, study = checked(cfg, check)
    console = Console(width=None if Console().is_terminal else 140)
    for line in study.left_out:
        console.print(line, highlight=False, soft_wrap=True)
    if study.mode == "timing":
        _time(study, run_dir, console)
    else:
        _train(study, run_dir, console)
    console.print(f"tables and figures in {run_dir}")


def check(cfg: DictConfig) -> Study:
    """Builds the whole grid, so that nothing starts with an invalid setting. Raises ConfigError."""
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    check_values(WhatIfSettings, config)
    if "scheme" not in axes(cfg.grid):
        raise ConfigError("grid.scheme=null: must name at least one scheme")
    task = list(HydraConfig.get().overrides.task)
    if any(override.startswith("scheme=") for override in task):
        raise ConfigError("scheme: the schemes of a what-if must be set as grid.scheme=[...]")
    require_whole("seed + seeds", cfg.seed + cfg.seeds, 1)
    jax.config.update("jax_enable_x64", cfg.x64)
    training = cfg.mode == "training"
    objective, dataset = build_data(config) if training else (None, None)
    if objective is not None and dataset is not None:
        require_whole("evaluate_every", cfg.evaluate_every, 1)
        if problem := why_no_metric(objective, dataset):
            raise ConfigError(f"{problem}, and without it no time to a target can be measured")
    grid = grid_points(cfg, partial(_compose, task), len(dataset.train) if dataset else None)
    return Study(
        mode=cfg.mode,
        points=grid.points,
        left_out=grid.left_out,
        seeds=list(range(cfg.seed, cfg.seed + cfg.seeds)),
        rounds=cfg.rounds,
        every=cfg.evaluate_every,
        chunk=cfg.chunk,
        targets=_targets(cfg),
        dataset=dataset,
        objective=objective,
    )


def _compose(task: list[str], chosen: list[str]) -> DictConfig:
    """The config of the command with these choices; an override inside a group applies to the files that have it."""
    groups = {choice.split("=")[0] for choice in chosen}
    inside = [override for override in task if override.split("=")[0].split(".")[0] in groups]
    others = [override for override in task if override not in inside]
    bare = hydra.compose("whatif", [*others, *chosen])
    return hydra.compose("whatif", [*others, *chosen, *(override for override in inside if _fits(bare, override))])


def _fits(bare: DictConfig, override: str) -> bool:
    parent, _, name = override.split("=")[0].rpartition(".")
    return bool(parent) and name in list(OmegaConf.select(bare, parent) or {})  # a plain `in` misses keys set to ???


def _targets(cfg: DictConfig) -> list[float] | None:
    if cfg.targets is None:
        return None
    return [float(target) for target in (cfg.targets if isinstance(cfg.targets, ListConfig) else [cfg.targets])]


def _time(study: Study, run_dir: Path, console: Console) -> None:
    with progress_bar(len(study.points) * len(study.seeds)) as bar:
        timings = time_grid(study.points, study.seeds, study.rounds, study.chunk, jax.devices(), bar, console.print)
    _write_csv(run_dir / "timing.csv", timings.table)
    timing_figure(study.points, timings, run_dir / "timing.png")
    _save_summary(study, run_dir, {})
    title = f"round times (s): {len(study.seeds)} seeds, {study.rounds} rounds each"
    console.print(terminal_table(timings.table, title))
    console.print("Shorter rounds do not imply faster training: use mode=training to compare times to a target.")


def _train(study: Study, run_dir: Path, console: Console) -> None:
    assert study.dataset is not None and study.objective is not None
    with progress_bar(len(study.points) * len(study.seeds)) as bar:
        found = train_grid(
            study.dataset,
            study.objective,
            study.points,
            study.seeds,
            study.rounds,
            study.every,
            study.chunk,
            jax.devices(),
            bar,
            console.print,
        )
    _write_csv(run_dir / "whatif.csv", _long_table(study, found))
    targets = study.targets or [default_target(study.points, found)]
    table = frontier(study.points, found, targets)
    _write_csv(run_dir / "frontier.csv", table)
    recommended = [each for target in targets for each in recommend(study.points, found, target)]
    _save_summary(study, run_dir, {"recommendations": recommended})
    lines = [line for each in recommended for line in each.lines()]
    (run_dir / "recommendation.txt").write_text("\n".join(lines) + "\n")
    training_figure(study.points, found, targets[-1], run_dir / "whatif.png")
    frontier_figure(study.points, found, targets[-1], run_dir / "frontier.png")
    console.print(terminal_table(table, "time to the target (s): median over seeds"))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _long_table(study: Study, found: Trainings) -> pd.DataFrame:
    """One row per point, seed and evaluated round."""
    tables = []
    for i, point in enumerate(study.points):
        for j, seed in enumerate(study.seeds):
            values = {name: metric[i, j] for name, metric in found.metrics.items()}
            columns = {"seed": seed, "round": found.rounds, "clock_s": found.clock_s[i, j]} | values
            tables.append(pd.DataFrame(point.labels | columns))
    table = pd.concat(tables, ignore_index=True)
    return table.reindex(columns=list(dict.fromkeys([*label_columns(study.points), *table.columns])))


def _save_summary(study: Study, run_dir: Path, more: dict[str, Any]) -> None:
    summary = {"mode": study.mode, "points": len(study.points), "seeds": len(study.seeds), "rounds": study.rounds}
    if study.dataset is not None:
        summary["data"] = study.dataset.name
    write_json(run_dir / SUMMARY, summary | more | {"versions": versions()})


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as unfinished:
        table.to_csv(unfinished, index=False)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[float], None]]:
    """Shows a progress bar over `total` runs; yields a function that advances it by a (fractional) number of runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=total)
        done = 0.0

        def advance(runs: float) -> None:
            nonlocal done
            done += runs
            progress.update(task, completed=round(done, 6))  # fractions add up to 255.9999, which would be shown as 255

        yield advance


def main() -> None:
    """The `erasurehead-whatif` command."""
    run_command(whatif)


if __name__ == "__main__":
    main()
