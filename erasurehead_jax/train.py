"""Trains one run or, with -m, several. `python -m erasurehead_jax.train scheme=erasurehead data=amazon ...`"""

import gc
import sys

from erasurehead_jax.cluster.launch import forkserver

if __name__ == "__main__":
    gc.disable()  # it would take a tenth of the import time and free nothing
    forkserver.start_early(sys.argv[1:])  # in parallel with the imports below, which take as long as the server's

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any, NoReturn, cast

import jax
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from erasurehead_jax.caches import keep_compiled
from erasurehead_jax.errors import Status
from erasurehead_jax.hydra_app import checked, hydra_command, in_multirun, leave, run_command
from erasurehead_jax.job import Job, build, settled
from erasurehead_jax.resume import AUTO, begun, is_done, resumed, run_dir_of
from erasurehead_jax.rundir.files import SUMMARY, owned
from erasurehead_jax.rundir.life import Ending
from erasurehead_jax.rundir.progress import summary_table
from erasurehead_jax.training import carry_out, continue_hint, require_ready


@hydra_command("train")
def train(cfg: DictConfig) -> float | None:
    """Checks the config, starts the ranks or the simulation, shows the progress and prints the result.

    Returns what a sweeper minimizes: the time to the target in seconds (inf if not reached), or None without a target.
    """
    if cfg.resume == AUTO and begun(here := run_dir_of(cfg)) and is_done(cfg, here):
        Console().print(f"already complete: {here}")
        return _time_to_target(here)
    if cfg.resume is None or (cfg.resume == AUTO and not begun(run_dir_of(cfg))):
        run_dir, (config, job) = checked(cfg, check)
        with owned(run_dir):
            return _run(run_dir, config, job, dict(HydraConfig.get().runtime.choices), None)
    run_dir = run_dir_of(cfg)
    with owned(run_dir) if begun(run_dir) else contextlib.nullcontext():  # where no run was begun, `resumed` refuses
        return _run(*resumed(cfg, check))


def _run(
    run_dir: Path, config: dict[str, Any], job: Job, choices: dict[str, str], checkpoint: Path | None
) -> float | None:
    if config["backend"] == "simulate":
        forkserver.stop()
        keep_compiled()
    ending = carry_out(job, config, choices, run_dir, checkpoint, more=in_multirun())
    if (run_dir / SUMMARY).exists() and ending.status not in (Status.FAILED, Status.STORAGE):
        Console().print(summary_table(json.loads((run_dir / SUMMARY).read_text()), run_dir))
    if ending.status:
        _end(run_dir, ending)
    return _time_to_target(run_dir)


def _end(run_dir: Path, ending: Ending) -> NoReturn:
    """Prints why the run ended early and how to continue it, and exits with its status."""
    sys.stderr.write(f"{ending.message}{continue_hint(run_dir)}\n")
    stops_all = ending.status in (Status.TERMINATED, Status.INTERRUPTED)  # the whole multirun was stopped
    if stops_all:
        sys.exit(ending.status)
    leave(ending.status, ending.message)


def _time_to_target(run_dir: Path) -> float | None:
    summary = json.loads((run_dir / SUMMARY).read_text())
    if summary["target"] is None:
        return None
    return math.inf if summary["time_to_target_s"] is None else summary["time_to_target_s"]


def check(cfg: DictConfig) -> tuple[dict[str, Any], Job]:
    """The resolved config and job. Raises ConfigError for a bad setting, before anything is started."""
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    if config["backend"] == "mpi":
        jax.config.update("jax_platforms", "cpu")  # this process only checks; the ranks choose their own platform
    jax.config.update("jax_enable_x64", config["x64"] is True)
    config = settled(config)
    job = build(config)
    require_ready(job, config)
    return config, job


def main() -> None:
    """The `erasurehead-train` command."""
    run_command(train)


if __name__ == "__main__":
    gc.enable()
    main()
