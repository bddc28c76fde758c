"""The what-if command: `python -m erasurehead_jax.whatif grid.scheme=[...] grid.load=[...] mode=training ...`"""

import os
from functools import partial
from typing import Any, cast

import hydra
import jax
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console

from erasurehead_jax.caches import keep_compiled
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.hydra_app import checked, hydra_command
from erasurehead_jax.job import build_data
from erasurehead_jax.rundir.metrics import why_no_metric
from erasurehead_jax.settings import WhatIfSettings, check_values
from erasurehead_jax.studies.grid import axes, grid_points
from erasurehead_jax.studies.study import Study, progress_bar


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
    with progress_bar(len(study.points) * len(study.seeds)) as bar:
        outcome = study.decode(_heard(cfg), bar) if cfg.mode == "decode" else study.run(bar, console.print)
    outcome.save(run_dir)
    for line in outcome.lines():
        console.print(line, highlight=False, soft_wrap=isinstance(line, str))
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
        points=grid.points,
        seeds=list(range(cfg.seed, cfg.seed + cfg.seeds)),
        rounds=cfg.rounds,
        every=cfg.evaluate_every,
        chunk=cfg.chunk,
        targets=_targets(cfg),
        dataset=dataset,
        objective=objective,
        left_out=grid.left_out,
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


def _heard(cfg: DictConfig) -> list[int]:
    """The numbers of workers waited for."""
    return axes(cfg.grid).get("wait_for", [cfg.wait_for])


def _targets(cfg: DictConfig) -> list[float] | None:
    if cfg.targets is None:
        return None
    return [float(target) for target in (cfg.targets if isinstance(cfg.targets, ListConfig) else [cfg.targets])]
