"""Trains a run: with `train` from Python, or for the command of that name."""

import functools
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import jax
import numpy as np
from omegaconf import OmegaConf

from erasurehead_jax.cluster.checkpoint import written
from erasurehead_jax.cluster.launch.command import require_startable
from erasurehead_jax.cluster.launch.environment import importable_here
from erasurehead_jax.cluster.launch.watch import run_ranks
from erasurehead_jax.cluster.parcel import parcel
from erasurehead_jax.codes import AbstractCode
from erasurehead_jax.data import Dataset
from erasurehead_jax.delays import AbstractDelay, NoDelay
from erasurehead_jax.errors import ConfigError, Diverged, Status, Stopped, StorageFailed
from erasurehead_jax.job import Job, JobSpec, Parts, build, settled
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.optimizers import gd
from erasurehead_jax.refusals import override
from erasurehead_jax.results import Run
from erasurehead_jax.rundir.callbacks import Callback, require_evaluations
from erasurehead_jax.rundir.files import CHECKPOINT, owned, require_empty, storing
from erasurehead_jax.rundir.life import Ending
from erasurehead_jax.rundir.metrics import doubts
from erasurehead_jax.rundir.progress import RoundsBar
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.schemes import name_of, sizes_of
from erasurehead_jax.settings.compose import defaults, resolved, with_settings
from erasurehead_jax.settings.describe import described
from erasurehead_jax.tracking import AbstractTracking, NoTracking

OUTPUTS = "outputs"  # in the working directory, as for the command


def train(
    dataset: Dataset,
    objective: AbstractObjective,
    scheme: Scheme,
    *,
    delay: AbstractDelay = NoDelay(),  # noqa: B008 - immutable
    optimizer: Any = functools.partial(gd, step_size=1.0),  # noqa: B008
    rounds: int = 100,
    backend: str = "simulate",
    seed: int = 0,
    tracking: AbstractTracking = NoTracking(),  # noqa: B008
    callbacks: Sequence[Callback] = (),
    run_dir: str | Path | None = None,
    name: str | None = None,
    **settings: Any,
) -> Run:
    """Trains, and leaves a run directory as the command `train` does.

    With `backend="mpi"` it starts the ranks; what was defined in a script or notebook is sent to them. `optimizer` is
    an optax transformation, or a function without arguments that makes one. `callbacks` are called with an
    `Evaluation` after every evaluation, on rank 0. `run_dir` is a new folder below outputs/ unless given. `name` stands
    for the scheme in reports. `settings` are those of the command, such as `late="skip"`, `evaluate_every=10`,
    `batch=0.1` or `cluster={"on_loss": "approximate"}`.

    Returns the run. Raises ConfigError for what does not fit, Stopped (Diverged, StorageFailed) for a run that cannot
    go on and KeyboardInterrupt after Ctrl-C; the rounds before are kept in the run directory.
    """
    _require_parts(dataset, objective, scheme)
    name = name or name_of(scheme)
    made = optimizer if callable(optimizer) else lambda: optimizer
    dataset = jax.tree.map(np.asarray, dataset)  # which ranks map into memory
    parts = Parts(dataset, objective, scheme, delay, made, tracking, tuple(callbacks))
    config = _config(parts, optimizer, settings | {"rounds": rounds, "backend": backend, "seed": seed})
    folder = _new_folder(name) if run_dir is None else Path(run_dir).expanduser().absolute()
    require_empty(folder)
    with jax.enable_x64(config["x64"] is True):
        config = settled(config, parts)
        job = build(config, parts)
        require_ready(job, config)
        _save(config, {"scheme": name}, folder)
        with owned(folder), importable_here():
            ending = carry_out(job, config, {"scheme": name}, folder, parts=parts)
    _raise_for(ending, folder)
    return Run(folder, job.problem.objective)


def _require_parts(dataset: Any, objective: Any, scheme: Any) -> None:
    """Raises ConfigError, with what to write, for an object of another kind: arrays, say, or a model by itself."""
    needed = {
        "dataset": (dataset, Dataset, "array_dataset(X, y) makes one of arrays, table_dataset(...) of a table"),
        "objective": (objective, AbstractObjective, "Model(model=...) makes one of a model"),
        "scheme": (scheme, Scheme, "erasurehead(workers=..., load=..., wait_for=...) makes one"),
    }
    for name, (given, kind, hint) in needed.items():
        if not isinstance(given, kind):
            raise ConfigError(
                f"{name}: is {type(given).__name__}; must be a {kind.__name__.removeprefix('Abstract')}; {hint}"
            )


def _config(parts: Parts, optimizer: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The config of the command `train` with these settings, and descriptions of the objects."""
    chosen = settings.get("cluster")
    if isinstance(chosen, str):  # the name of a group
        settings = {name: value for name, value in settings.items() if name != "cluster"}
        config = defaults([f"cluster={chosen}"])
    else:
        config = defaults()
    config = with_settings(config, settings | sizes_of(parts.scheme)) | {
        "data": described(parts.dataset),
        "objective": described(parts.objective),
        "scheme": described(parts.scheme),
        "delay": described(parts.delay),
        "optimizer": described(optimizer),
        "tracking": described(parts.tracking),
        "callbacks": [described(each) for each in parts.callbacks],
    }
    return resolved(config)


def _new_folder(name: str) -> Path:
    """A folder that does not exist yet, named as the command would."""
    first = Path(OUTPUTS).absolute() / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    numbered = chain([""], (f"-{i}" for i in count(2)))
    folders = (first.with_name(f"{first.name}-{name}{ending}") for ending in numbered)
    return next(folder for folder in folders if not folder.exists())


def _save(config: dict[str, Any], choices: dict[str, str], folder: Path) -> None:
    with storing(folder):
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        OmegaConf.save({"hydra": {"runtime": {"choices": choices}}}, folder / ".hydra" / "hydra.yaml")
        OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")


def _raise_for(ending: Ending, folder: Path) -> None:
    """Raises what corresponds to the ending, unless all went well."""
    message = f"{ending.message}; erasurehead_jax.load({str(folder)!r}) has the rounds before"
    match ending.status:
        case Status.OK:
            return
        case Status.INTERRUPTED | Status.TERMINATED:
            raise KeyboardInterrupt(message)
        case Status.DIVERGED:
            raise Diverged(message)
        case Status.STORAGE:
            raise StorageFailed(ending.message)
        case Status.UNDECODABLE:
            raise Stopped(message)
        case _:
            raise RuntimeError(ending.message)


def require_ready(job: Job, config: dict[str, Any]) -> None:
    """Raises ConfigError for what would stop the run at its start or end. Warns of a metric that cannot be computed."""
    job.optimizer()
    if not isinstance(tracking := job.tracking(), AbstractTracking):
        raise ConfigError(f"tracking: must be an instance of AbstractTracking, not of {type(tracking).__name__}")
    require_evaluations(job.settings, len(job.callbacks))
    _ = job.problem.parameters  # fails if the objective cannot be initialised
    for doubt in [*doubts(*job.problem[:2]), *_unheld(job.scheme.code)]:
        sys.stderr.write(f"warning: {doubt}\n")
    if config["backend"] == "mpi":
        require_startable(config)
    else:
        from erasurehead_jax.simulation.run import make_point

        make_point(job)


def _unheld(code: AbstractCode) -> list[str]:
    """That some rows are never used, in one line."""
    if not len(blocks := np.flatnonzero(code.copies == 0)):
        return []
    which = f"block {blocks[0]}" if len(blocks) == 1 else f"blocks {', '.join(map(str, blocks))}"
    return [f"{type(code).__name__}: no worker holds {which}, whose rows are never used"]


def carry_out(
    job: Job,
    config: dict[str, Any],
    choices: dict[str, str],
    run_dir: Path,
    checkpoint: Path | None = None,
    parts: Parts | None = None,
    more: bool = False,
) -> Ending:
    """Trains in a run directory that this process owns, with a progress bar.

    `parts` are the objects that ranks cannot build from the config, and `more` says whether the ranks may be needed for
    another run. Raises ConfigError for what the user can fix.
    """
    spec = JobSpec(
        config=config,
        choices=choices,
        run_dir=str(run_dir),
        checkpoint=checkpoint and str(checkpoint),
        parts=parts is not None,
        launched_s=time.time(),
        launcher=(platform.node(), os.getpid()),
        more=more,
    )
    simulated = config["backend"] == "simulate"
    starting = "compiling" if simulated else f"starting {config['workers']} workers"
    with ExitStack() as stack:
        bar = stack.enter_context(
            RoundsBar(run_dir, config["rounds"], job.scheme.code.owner, choices["scheme"], starting)
        )
        if simulated:
            from erasurehead_jax.simulation.run import run_simulated  # late: slow to import, and the ranks would wait

            return run_simulated(job, spec, bar.update)
        if parts is not None:
            stack.enter_context(parcel(run_dir, parts))
        return run_ranks(spec, bar.update)


def continue_hint(run_dir: Path) -> str:
    """How to continue a run that ended early; empty without a checkpoint."""
    checkpoints = written(run_dir / CHECKPOINT)
    return f"; continue from {checkpoints[0].name} with {override('resume', run_dir)}" if checkpoints else ""
