"""`train resume=DIR|auto`: loads what a run needs to continue from its newest usable checkpoint."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from erasurehead_jax.cluster.checkpoint import ADDED, FREE, fingerprint, newest
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.hydra_app import remove_if_empty, started_in
from erasurehead_jax.job import Job
from erasurehead_jax.refusals import USER_ERRORS
from erasurehead_jax.rundir.files import SUMMARY, replacing
from erasurehead_jax.update import start

Check = Callable[[DictConfig], tuple[dict[str, Any], Job]]
AUTO = "auto"


def run_dir_of(cfg: DictConfig) -> Path:
    """The directory of the run: the one to resume, or Hydra's."""
    named = cfg.resume is not None and cfg.resume != AUTO
    return started_in() / Path(str(cfg.resume)).expanduser() if named else Path(HydraConfig.get().runtime.output_dir)


def begun(run_dir: Path) -> bool:
    """Whether a run was started in this directory."""
    return (run_dir / ".hydra" / "config.yaml").exists()


def is_done(cfg: DictConfig, run_dir: Path) -> bool:
    """Whether the run in this directory has completed all rounds. Raises ConfigError if its settings differ."""
    try:
        _require_same(_saved(run_dir)[0], cfg, run_dir)
        summary = json.loads((run_dir / SUMMARY).read_text())
        return summary["rounds"] >= cfg.rounds or bool(summary.get("stopped"))
    except FileNotFoundError:
        return False
    except USER_ERRORS:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{run_dir / SUMMARY}: is damaged ({error})") from None


def resumed(cfg: DictConfig, check: Check) -> tuple[Path, dict[str, Any], Job, dict[str, str], Path | None]:
    """The run directory, config, job, chosen config files and checkpoint (None: start over) of the run to resume.

    Warns of checkpoints that cannot be used. Raises ConfigError if the run cannot be resumed.
    """
    run_dir = run_dir_of(cfg)
    remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
    if HydraConfig.get().job.chdir and run_dir.is_dir():
        os.chdir(run_dir)
    try:
        saved, choices = _saved(run_dir)
        if cfg.resume == AUTO:  # the command line has all settings; `is_done` has compared them
            saved = cfg.copy()
        else:
            _override(saved, cfg, HydraConfig.get().overrides.task)
            for name in ADDED.keys() - saved.keys():
                saved[name] = ADDED[name]
        saved.resume = None
        config, job = check(saved)
        if config["backend"] != "mpi":
            raise ConfigError(
                f"resume={run_dir}: backend={config['backend']} writes no checkpoints; start the run again"
            )
        template = start(job.optimizer(), job.problem.start(job.settings.seed), job.sampling.points > 1)
        metric = job.problem.objective.metric.name
        path, snapshot, refused = newest(run_dir, config, template, metric, job.scheme.code.messages)
        if snapshot and snapshot.progress.rounds > config["rounds"]:
            raise ConfigError(
                f"rounds={config['rounds']}: must be at least {snapshot.progress.rounds}, the rounds already completed"
            )
    except KeyError as error:
        raise ConfigError(f"{run_dir / '.hydra' / 'config.yaml'}: has no setting {error}") from None
    for reason in refused:
        sys.stderr.write(f"warning: checkpoint skipped: {reason}\n")
    with replacing(run_dir / ".hydra" / "config.yaml") as partial:
        OmegaConf.save(saved, partial, resolve=True)
    return run_dir, config, job, choices, path


def _saved(run_dir: Path) -> tuple[DictConfig, dict[str, str]]:
    try:
        saved = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
        if not isinstance(saved, DictConfig):
            raise ValueError("config.yaml has no settings")
        choices = OmegaConf.load(run_dir / ".hydra" / "hydra.yaml").hydra.runtime.choices
        return saved, {str(group): str(choice) for group, choice in choices.items()}  # pyright: ignore
    except (OSError, ValueError, AttributeError, OmegaConfBaseException, YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"resume={run_dir}: not a run directory ({reason})") from None


def _require_same(saved: DictConfig, cfg: DictConfig, run_dir: Path) -> None:
    """Raises ConfigError if the run in the directory has other settings."""
    here, there = (cast(dict[str, Any], OmegaConf.to_container(each, resolve=True)) for each in (cfg, saved))
    if fingerprint(here) != fingerprint(there):
        differing = [name for name in here if name not in FREE and here[name] != there.get(name)]
        raise ConfigError(
            f"resume=auto: {run_dir} holds a run with different settings ({', '.join(differing)}); "
            "choose another hydra.run.dir"
        )


def _override(saved: DictConfig, cfg: DictConfig, overrides: Any) -> None:
    """Applies the overrides. Raises ConfigError for a setting on which the iterates depend."""
    for override in overrides:
        name = override.lstrip("+~").partition("=")[0]
        if name.partition(".")[0] not in FREE:
            raise ConfigError(f"{override}: a resumed run keeps its settings; only {', '.join(FREE[:-1])} may change")
        OmegaConf.update(saved, name, OmegaConf.select(cfg, name), force_add=True)
