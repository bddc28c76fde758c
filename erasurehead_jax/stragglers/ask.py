"""Advice for a command line: on recorded rounds alone or, with data, by simulated training."""

from pathlib import Path
from typing import Any, cast

import equinox as eqx
import hydra
import jax
import numpy as np
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from erasurehead_jax.caches import keep_compiled
from erasurehead_jax.delays import Trace
from erasurehead_jax.delays.recording import read_recording
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import build_data, build_sampling, make_optimizer
from erasurehead_jax.placement import placed
from erasurehead_jax.rundir.metrics import why_no_metric
from erasurehead_jax.schemes import named_scheme
from erasurehead_jax.settings import CONFIG_DIR, WhatIfSettings, check_values, nearest, require_keys
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.stragglers.advice import Advice, advise
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.study import Study, progress_bar

TIMES = ("workers", "compute_s", "overhead_s", "seed")
TRAINING = ("data", "objective", "optimizer", "rounds", "seeds", "targets", "l2", "batch", "evaluate_every", "x64")
TRAINED = 6  # candidates that are trained, beside uncoded and ignoring stragglers


def ask(path: str, settings: list[str], out: str | None, console: Console) -> None:
    """Prints advice on a recording, and writes it into a folder. Raises ConfigError for what cannot be used."""
    keep_compiled()
    config = _config(settings)
    recording = read_recording(path, "advise")
    for note in [f"{path}: {len(recording.times_s)} rounds of {len(recording.workers)} workers", *recording.notes]:
        console.print(note, highlight=False, soft_wrap=True)
    given = any(each.startswith("workers=") for each in settings)
    workers = config["workers"] if given else None
    found = advise(recording, workers, config["compute_s"], config["overhead_s"], config["seed"])
    console.print(found.terminal_table())
    folder = Path(out) if out is not None else Path("outputs") / f"advice-{Path(path).name.split('.')[0]}"
    found.save(folder)
    for line in found.lines():
        console.print(line, highlight=False, soft_wrap=True)
    if any(each.startswith("data=") for each in settings):
        _train(found, config, folder, console)
    console.print(f"all candidates: {folder / 'advice.csv'}", highlight=False, soft_wrap=True)


def _config(settings: list[str]) -> dict[str, Any]:
    """The config of the what-if with these overrides. Raises ConfigError for one that has no effect here."""
    with_data = any(each.startswith("data=") for each in settings)
    used = (*TIMES, *TRAINING) if with_data else TIMES
    for each in settings:
        name = each.lstrip("+~").split("=")[0].split(".")[0]
        if "=" not in each or name not in used:
            hint = "" if with_data or name not in TRAINING else "needs data=...; "
            raise ConfigError(f"{each}: has no effect on the advice; {hint}{nearest(name, used)}")
    try:
        with hydra.initialize_config_dir(CONFIG_DIR, version_base="1.3"):
            composed = OmegaConf.to_container(hydra.compose("whatif", settings), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(settings)}: {str(error).splitlines()[0]}") from error
    config = cast(dict[str, Any], composed)
    require_keys("whatif", config)
    check_values(WhatIfSettings, config)
    return config


def _train(found: Advice, config: dict[str, Any], folder: Path, console: Console) -> None:
    """Trains the best candidates on the data, with resampled rounds of the same workers, and says which is first."""
    jax.config.update("jax_enable_x64", config["x64"])
    objective, dataset = build_data(config)
    if problem := why_no_metric(objective, dataset):
        raise ConfigError(f"{problem}, and without it no time to a target can be measured")
    replay = Trace(found.recording.path, resample="rounds" if found.workers <= len(found.recording.workers) else True)
    computed_s = config["compute_s"] * (found.recording.load or 1 / found.workers)  # is part of the recorded times
    delay = eqx.tree_at(lambda replay: replay.times_s, replay, np.maximum(replay.times_s - np.float32(computed_s), 0))
    rows = len(dataset.train)
    l2 = 1 / rows if config["l2"] is None else config["l2"]
    sampling = build_sampling(config | {"blocks": found.workers}, rows)
    costs = config["compute_s"], config["overhead_s"], make_optimizer(config), l2, sampling
    names = [found.taken, found.of("uncoded"), found.of("ignore_stragglers"), *found.scores]
    chosen = list({score.candidate.name: score.candidate for score in names}.values())[: TRAINED + 3]
    points = []
    for made in chosen:
        scheme = named_scheme(made.scheme, found.workers, made.load, made.wait_for)
        scheme = scheme if made.placement is None else placed(scheme, made.placement)
        labels = {"scheme": made.scheme, "load": made.load, "wait_for": made.wait_for, "late": "cancel"}
        labels["placement"] = "given" if made.placement is None else "balanced"
        points.append(GridPoint(labels, Point(scheme, delay, "cancel", *costs)))
    seeds = list(range(config["seed"], config["seed"] + config["seeds"]))
    targets = config["targets"]
    aims = None if targets is None else [float(each) for each in (targets if isinstance(targets, list) else [targets])]
    study = Study(points, seeds, config["rounds"], config["evaluate_every"], None, aims, dataset, objective, [])
    with progress_bar(len(points) * len(seeds)) as bar:
        trained = study.run(bar)
    trained.save(folder)
    console.print(f"By time to the target on {dataset.name}, with {len(seeds)} seeds:", highlight=False)
    for line in trained.lines():
        console.print(line, highlight=False, soft_wrap=isinstance(line, str))
