"""Train: one run, or with -m several. `python -m erasurehead_jax.train scheme=erasurehead data=amazon ...`"""

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, cast

import hydra
import jax
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from erasurehead_jax.cluster.launch import find_mpirun, run_ranks
from erasurehead_jax.cluster.protocol import Protocol
from erasurehead_jax.config import CONFIG_DIR, FAILED, USER_ERRORS, refuse, run_command
from erasurehead_jax.job import build, instantiate
from erasurehead_jax.progress import RoundsBar, summary_table
from erasurehead_jax.record import ERROR, LOG, SUMMARY, require_empty


@hydra.main(config_path=CONFIG_DIR, config_name="train", version_base="1.3")
def train(cfg: DictConfig) -> None:
    """One run: check everything, start the ranks, show how they go, print the result."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        require_empty(run_dir)
        config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
        mpirun = check(config)
    except BaseException as error:
        _remove_if_empty(run_dir)
        if isinstance(error, USER_ERRORS):
            refuse(error)  # here, because Hydra would add lines of its own
        raise
    _save_config(cfg, run_dir)
    spec = {
        "config": config,
        "choices": dict(HydraConfig.get().runtime.choices),
        "run_dir": str(run_dir),
        "launched_s": time.time(),
        "launcher": [platform.node(), os.getpid()],
    }
    with RoundsBar(run_dir, config["rounds"], config["workers"], spec["choices"]["scheme"]) as bar:
        status = run_ranks(mpirun, spec, bar.update)
    if status:
        error = run_dir / ERROR
        told = error.read_text() if error.exists() else f"mpirun ended with status {status}; see {run_dir / LOG}\n"
        sys.stderr.write(told)
        sys.exit(FAILED)
    Console().print(summary_table(json.loads((run_dir / SUMMARY).read_text()), run_dir))


def check(config: dict[str, Any]) -> str:
    """Builds everything that the ranks will build, so that nothing starts on a bad setting; returns the mpirun to use.

    Raises ConfigError.
    """
    jax.config.update("jax_platforms", "cpu")  # this process only checks; the ranks choose for themselves
    job = build(config)
    Protocol(job.scheme, job.late)
    instantiate("optimizer", config)
    instantiate("tracking", config)
    job.objective.init(job.keys()[0], job.dataset)
    return find_mpirun(config["cluster"]["mpirun"])


def _save_config(cfg: DictConfig, run_dir: Path) -> None:
    """What Hydra keeps in .hydra/; done here, and not by Hydra, so that a refused run leaves nothing behind."""
    (run_dir / ".hydra").mkdir()
    OmegaConf.save(cfg, run_dir / ".hydra" / "config.yaml", resolve=True)
    OmegaConf.save(HydraConfig.get().overrides.task, run_dir / ".hydra" / "overrides.yaml")
    OmegaConf.save(OmegaConf.create({"hydra": HydraConfig.get()}), run_dir / ".hydra" / "hydra.yaml")


def _remove_if_empty(run_dir: Path) -> None:
    here = Path.cwd()
    folder = run_dir
    while folder == run_dir or here in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # not empty
            return
        folder = folder.parent


def main() -> None:
    """The `erasurehead-train` command."""
    run_command(train)


if __name__ == "__main__":
    main()
