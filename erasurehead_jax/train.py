"""Train: one run, or with -m several. `python -m erasurehead_jax.train scheme=erasurehead data=amazon ...`"""

import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, cast

import jax
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from erasurehead_jax.caches import keep_compiled
from erasurehead_jax.cluster.checkpoint import written
from erasurehead_jax.cluster.launch.command import require_startable
from erasurehead_jax.cluster.launch.watch import run_ranks
from erasurehead_jax.cluster.protocol import Protocol
from erasurehead_jax.errors import Status, Stopped
from erasurehead_jax.hydra_app import checked, hydra_command, in_multirun, leave, run_command
from erasurehead_jax.job import Job, JobSpec, build, instantiate, make_optimizer
from erasurehead_jax.refusals import override
from erasurehead_jax.resume import AUTO, begun, is_done, resumed
from erasurehead_jax.rundir.files import CHECKPOINT, SUMMARY
from erasurehead_jax.rundir.progress import RoundsBar, summary_table
from erasurehead_jax.tracking import AbstractTracking


@hydra_command("train")
def train(cfg: DictConfig) -> float | None:
    """One run: check everything, start the ranks or the simulation, show how it goes, print the result.

    Returns what a sweeper minimizes: the time to the target (seconds; inf if not reached), None without a target.
    """
    going_on = cfg.resume is not None
    if cfg.resume == AUTO:
        here = Path(HydraConfig.get().runtime.output_dir)
        going_on = begun(here)
        if going_on and is_done(cfg, here):
            Console().print(f"done already: {here}")
            return _time_to_target(here)
    if going_on:
        run_dir, config, job, choices, checkpoint = resumed(cfg, check)
    else:
        run_dir, (config, job) = checked(cfg, check)
        choices, checkpoint = dict(HydraConfig.get().runtime.choices), None
    spec = JobSpec(
        config=config,
        choices=choices,
        run_dir=str(run_dir),
        checkpoint=checkpoint and str(checkpoint),
        launched_s=time.time(),
        launcher=(platform.node(), os.getpid()),
        more=in_multirun(),
    )
    try:
        with RoundsBar(run_dir, config["rounds"], config["workers"], choices["scheme"]) as bar:
            if config["backend"] == "simulate":
                from erasurehead_jax.simulation.run import lead_simulated  # late: slow to import, and ranks are waiting

                keep_compiled()
                lead_simulated(job, spec, bar.update)
                status, told = Status.OK, ""
            else:
                status, told = run_ranks(spec, bar.update)
    except (KeyboardInterrupt, Stopped):
        _point_to_checkpoint(run_dir)
        raise
    if (run_dir / SUMMARY).exists() and status != Status.FAILED:
        Console().print(summary_table(json.loads((run_dir / SUMMARY).read_text()), run_dir))
    if status:
        sys.stderr.write(f"{told}\n")
        _point_to_checkpoint(run_dir)
        (sys.exit if status == Status.TERMINATED else leave)(status)  # then the rest of a multirun is not wanted either
    return _time_to_target(run_dir)


def _time_to_target(run_dir: Path) -> float | None:
    summary = json.loads((run_dir / SUMMARY).read_text())
    if summary["target"] is None:
        return None
    return math.inf if summary["time_to_target_s"] is None else summary["time_to_target_s"]


def _point_to_checkpoint(run_dir: Path) -> None:
    checkpoints = written(run_dir / CHECKPOINT)
    if checkpoints:
        sys.stderr.write(f"checkpoint {checkpoints[0].name}: go on with {override('resume', run_dir)}\n")


def check(cfg: DictConfig) -> tuple[dict[str, Any], Job]:
    """The resolved config, and everything that the run will need: nothing starts on a bad setting.

    Raises ConfigError.
    """
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    if config["backend"] == "mpi":
        jax.config.update("jax_platforms", "cpu")  # this process only checks; the ranks choose for themselves
    job = build(config)
    make_optimizer(config)
    instantiate("tracking", config, AbstractTracking)
    job.problem.start(job.settings.seed)
    if config["backend"] == "mpi":
        require_startable(config)
        Protocol(job.scheme, job.settings.late, job.settings.cluster.on_loss)
    else:
        from erasurehead_jax.simulation.run import make_point

        make_point(job, config)
    return config, job


def main() -> None:
    """The `erasurehead-train` command."""
    run_command(train)


if __name__ == "__main__":
    main()
