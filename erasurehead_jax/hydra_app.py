"""The interface to Hydra: turns a command line into a job, and an error into one line and an exit status."""

import contextlib
import functools
import logging
import os
import re
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from erasurehead_jax.caches import trim_compiled
from erasurehead_jax.errors import JobFailed, Status, StorageFailed
from erasurehead_jax.refusals import one_line, report_error
from erasurehead_jax.rundir.files import require_empty, storing
from erasurehead_jax.settings import CONFIG_DIR, help_text, require_keys

STDOUT = 1
FIRST_RANK_S = 5.0  # under mpirun the other ranks exit this much later, so that rank 0's message is printed

OmegaConf.register_new_resolver("erasurehead_help", help_text)  # hydra.help.template


def hydra_command(name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """`hydra.main` for configs/NAME.yaml that refuses unknown keys, makes relative paths absolute and prints an error
    itself, once, instead of Hydra.
    """

    def decorate(job: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        @functools.wraps(job)
        def guarded(cfg: DictConfig) -> Any:
            try:
                require_keys(name, dict(OmegaConf.to_container(cfg)))  # pyright: ignore
                _make_paths_absolute(cfg, started_in())
                trim_compiled()
                return job(cfg)
            except BaseException as error:
                remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
                if isinstance(error, Exception) and not isinstance(error, JobFailed):
                    leave(report_error(error), one_line(error))
                raise

        return hydra.main(config_path=CONFIG_DIR, config_name=name, version_base="1.3")(guarded)

    return decorate


def run_command(command: Callable[[], Any]) -> NoReturn:
    """Runs a command and exits with its status: 0, 2 with one line for what the user can fix, 130 after Ctrl-C, or the
    status of a run that cannot continue.

    Any other exception is a programming error and keeps its traceback (status 1).
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting with 1
    logging.getLogger("hydra_plugins.hydra_optuna_sweeper._impl").addFilter(_BestOfSweep())
    require_one_process()
    _find_modules_here()
    try:
        command()
    except JobFailed as error:
        sys.exit(error.status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(Status.INTERRUPTED)
    except Exception as error:
        sys.exit(Status.FAILED if _unread() and isinstance(error, BrokenPipeError) else report_error(error))
    finally:
        if _unread():  # Python flushes once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    sys.exit(Status.OK)


def _unread() -> bool:
    """Whether nobody reads standard output any more: `head` has what it wants."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    pipe = select.poll()
    pipe.register(STDOUT, 0)
    return any(event & select.POLLERR for _, event in pipe.poll(0))


def checked(cfg: DictConfig, check: Callable[[DictConfig], Any]) -> tuple[Path, Any]:
    """Checks the config, then creates the run directory. Returns the directory and the result of `check`.

    `check` raises ConfigError for what the user can fix.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    require_empty(run_dir)
    made = check(cfg)
    try:
        with storing(run_dir):
            _save_config(cfg, run_dir)
    except StorageFailed:
        shutil.rmtree(run_dir / ".hydra", ignore_errors=True)
        raise
    return run_dir, made


def started_in() -> Path:
    """The user's working directory, even with hydra.job.chdir=true: relative paths start there."""
    return Path(HydraConfig.get().runtime.cwd)


def in_multirun() -> bool:
    """Whether this is one of several jobs."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def leave(status: int, reason: str = "see above") -> NoReturn:
    """Ends the command or, in a multirun, this job only: the other jobs still run, and the command ends with the first
    failure's status.
    """
    if in_multirun():
        raise JobFailed(status, reason)
    sys.exit(status)


class _BestOfSweep(logging.Filter):
    """Replaces Optuna's best trial if no trial reached the target: its value is then an infinite time."""

    _parameters = ""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith("Best parameters: "):
            self._parameters = text
            return False
        if text.startswith("Best value: "):
            never = "No trial reached the target: allow more rounds, or choose an easier target"
            record.msg, record.args = never if text.endswith(" inf") else f"{self._parameters}\n{text}", ()
        return True


def require_one_process() -> None:
    """Exits, with one line from the first process, if mpirun or srun has started this command several times."""
    sizes = {"OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK", "PMI_SIZE": "PMI_RANK"}
    if "PMIX_RANK" in os.environ:  # srun: a job script or salloc has no PMIx
        sizes["SLURM_STEP_NUM_TASKS"] = "SLURM_PROCID"
    for size, rank in sizes.items():
        if (count := os.environ.get(size, "1")).isdecimal() and int(count) > 1:
            if os.environ.get(rank, "0") == "0":
                print(
                    f"error: mpirun or srun has started this command {count} times; "
                    "run it directly: it starts its ranks itself",
                    file=sys.stderr,
                    flush=True,
                )
            else:
                time.sleep(FIRST_RANK_S)
            sys.exit(Status.BAD_INPUT)


def _find_modules_here() -> None:
    """Makes modules in the working directory importable, here and on the ranks, as `python -m` does."""
    here = os.getcwd()
    if sys.flags.safe_path or os.pathsep in here:
        return
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    named = [os.path.abspath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([here, *named]))


def _make_paths_absolute(cfg: DictConfig, folder: Path) -> None:
    """Makes settings of data and delay named `path` or `..._path` absolute, relative to `folder`: ranks, and a resumed
    run, may have another working directory.
    """
    for group in ("data", "delay"):
        for parent, name in list(_paths(cfg[group])):
            if "://" not in parent[name]:
                parent[name] = str(folder / Path(parent[name]).expanduser())


def _paths(node: Any) -> Iterator[tuple[Any, Any]]:
    """Each path setting, as its group and its name there."""
    if not OmegaConf.is_config(node) or node._is_none() or node._is_missing():
        return
    for name in list(node.keys()) if OmegaConf.is_dict(node) else range(len(node)):
        inner = node._get_node(name)
        if OmegaConf.is_config(inner):
            yield from _paths(inner)
        elif not re.fullmatch(r"(.*_)?path", str(name)) or OmegaConf.is_missing(node, name):
            continue
        elif isinstance(node[name], str):  # indexing resolves interpolations
            yield node, name


def _save_config(cfg: DictConfig, run_dir: Path) -> None:
    """Writes .hydra/ itself, because Hydra would do so before the checks.

    config.yaml is written last: if it exists, the other files do.
    """
    (run_dir / ".hydra").mkdir()
    OmegaConf.save(HydraConfig.get().overrides.task, run_dir / ".hydra" / "overrides.yaml")
    OmegaConf.save(OmegaConf.create({"hydra": HydraConfig.get()}), run_dir / ".hydra" / "hydra.yaml")
    OmegaConf.save(cfg, run_dir / ".hydra" / "config.yaml", resolve=True)


def remove_if_empty(run_dir: Path) -> None:
    """Removes the run directory and the folders created above it, as far as they are empty."""
    here = started_in()
    folder = run_dir
    while folder == run_dir or here in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # not empty
            return
        folder = folder.parent
