"""Hydra at the edge: where the configs are, and how an error becomes a line and an exit status."""

import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from erasurehead_jax.errors import ConfigError, JobFailed, Status, Stopped, StorageFailed
from erasurehead_jax.rundir.files import require_empty, storing

_INSTALLED = Path(__file__).parent / "configs"
CONFIG_DIR = str(_INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "configs")

USER_ERRORS = (ConfigError, HydraException, OmegaConfBaseException)


def run_command(command: Callable[[], None]) -> NoReturn:
    """Runs a command line to its exit: 0, 2 with one line for what the user can mend, 130 after Ctrl-C, 3 or 5 when a
    run cannot go on.

    Any other exception is a programming error and keeps its traceback (status 1).
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1
    try:
        command()
    except USER_ERRORS as error:
        refuse(error)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        refuse(ConfigError(f"{error.filename}: {error.strerror}; choose another folder (hydra.run.dir=...)"))
    except ValueError as error:
        if not _raised_by_hydra(error):
            raise
        refuse(ConfigError(f"{' '.join(sys.argv[1:])}: {error}"))
    except JobFailed as error:
        sys.exit(error.status)
    except Stopped as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(Status.INTERRUPTED)
    sys.exit(Status.OK)


def _raised_by_hydra(error: Exception) -> bool:
    """Some of its refusals of a command line are plain ValueErrors."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__")).startswith("hydra.")


def checked(cfg: DictConfig, check: Callable[[DictConfig], Any]) -> tuple[Path, Any]:
    """The run directory with .hydra/ in it, and what `check` makes of the config; a refused run leaves nothing behind.

    `check` raises ConfigError for what the user can mend.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        require_empty(run_dir)
        made = check(cfg)
    except BaseException as error:
        remove_if_empty(run_dir)
        if isinstance(error, USER_ERRORS):
            refuse(error)  # here, because Hydra would add lines of its own
        raise
    try:
        with storing(run_dir):
            _save_config(cfg, run_dir)
    except StorageFailed:
        shutil.rmtree(run_dir / ".hydra", ignore_errors=True)
        remove_if_empty(run_dir)
        raise
    return run_dir, made


def in_multirun() -> bool:
    """Is this one of several jobs?"""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def leave(status: int) -> NoReturn:
    """Ends the command, or the job if it is one of several: the others have their turn, and the first failure's status
    is the command's.
    """
    if in_multirun():
        raise JobFailed(status)
    sys.exit(status)


def refuse(error: Exception) -> NoReturn:
    """Prints the error as one line and leaves with status 2."""
    told = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        told = f"{group}={name}: unknown; choose one of {', '.join(error.options)}"
    elif isinstance(error, MissingMandatoryValue):
        told = f"{error.full_key}=???: needs a value"
    print(f"error: {' '.join(told.split())}", file=sys.stderr)
    leave(Status.BAD_INPUT)


def _save_config(cfg: DictConfig, run_dir: Path) -> None:
    """What Hydra keeps in .hydra/; done here, and not by Hydra, which would do it too early.

    config.yaml comes last: where it is, the others are.
    """
    (run_dir / ".hydra").mkdir()
    OmegaConf.save(HydraConfig.get().overrides.task, run_dir / ".hydra" / "overrides.yaml")
    OmegaConf.save(OmegaConf.create({"hydra": HydraConfig.get()}), run_dir / ".hydra" / "hydra.yaml")
    OmegaConf.save(cfg, run_dir / ".hydra" / "config.yaml", resolve=True)


def remove_if_empty(run_dir: Path) -> None:
    """Removes the run directory, and the folders above it that were made for it, while they are empty."""
    here = Path.cwd()
    folder = run_dir
    while folder == run_dir or here in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # not empty
            return
        folder = folder.parent
