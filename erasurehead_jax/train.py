"""Train: one run, or with -m several. `python -m erasurehead_jax.train scheme=erasurehead data=amazon ...`"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import hydra
import jax
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from erasurehead_jax.cluster.launch import find_mpirun, run_ranks
from erasurehead_jax.cluster.protocol import Protocol
from erasurehead_jax.compiled import keep_compiled
from erasurehead_jax.config import CONFIG_DIR, FAILED, checked, run_command
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import Job, build, instantiate, make_optimizer
from erasurehead_jax.progress import RoundsBar, summary_table
from erasurehead_jax.record import ERROR, LOG, SUMMARY
from erasurehead_jax.seeds import run_keys


@hydra.main(config_path=CONFIG_DIR, config_name="train", version_base="1.3")
def train(cfg: DictConfig) -> None:
    """One run: check everything, start the ranks or the simulation, show how it goes, print the result."""
    run_dir, (config, job) = checked(cfg, check)
    spec = {
        "config": config,
        "choices": dict(HydraConfig.get().runtime.choices),
        "run_dir": str(run_dir),
        "launched_s": time.time(),
        "launcher": [platform.node(), os.getpid()],
    }
    with RoundsBar(run_dir, config["rounds"], config["workers"], spec["choices"]["scheme"]) as bar:
        if config["backend"] == "simulate":
            from erasurehead_jax.simulated import lead_simulated  # late: slow to import, and ranks are waiting

            keep_compiled()
            lead_simulated(job, spec, bar.update)
        else:
            _lead_ranks(spec, bar.update)
    Console().print(summary_table(json.loads((run_dir / SUMMARY).read_text()), run_dir))


def check(cfg: DictConfig) -> tuple[dict[str, Any], Job]:
    """The resolved config, and everything that the run will need: nothing starts on a bad setting.

    Raises ConfigError.
    """
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    if config["backend"] not in ("mpi", "simulate"):
        raise ConfigError(f"backend={config['backend']}: must be mpi or simulate")
    if config["backend"] == "mpi":
        jax.config.update("jax_platforms", "cpu")  # this process only checks; the ranks choose for themselves
        find_mpirun(config["cluster"]["mpirun"])
    job = build(config)
    make_optimizer(config)
    instantiate("tracking", config)
    job.objective.init(run_keys(job.seed)[0], job.dataset)
    if config["backend"] == "mpi":
        Protocol(job.scheme, job.late)
    else:
        from erasurehead_jax.simulated import make_point

        make_point(job, config)
    return config, job


def _lead_ranks(spec: dict[str, Any], watch: Callable[[], None]) -> None:
    status = run_ranks(find_mpirun(spec["config"]["cluster"]["mpirun"]), spec, watch)
    if status:
        run_dir = Path(spec["run_dir"])
        error = run_dir / ERROR
        told = error.read_text() if error.exists() else f"mpirun ended with status {status}; see {run_dir / LOG}\n"
        sys.stderr.write(told)
        sys.exit(FAILED)


def main() -> None:
    """The `erasurehead-train` command."""
    run_command(train)


if __name__ == "__main__":
    main()
