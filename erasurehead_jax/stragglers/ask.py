"""Advice for a command line: on recorded rounds alone or, with data, by simulated training."""

from pathlib import Path
from typing import Any, cast

import hydra
import jax
import numpy as np
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from erasurehead_jax.caches import keep_compiled
from erasurehead_jax.delays.recording import read_recording
from erasurehead_jax.delays.trace import Trace
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import build_data, build_sampling, make_optimizer
from erasurehead_jax.placement import placed
from erasurehead_jax.rundir.metrics import why_no_metric
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.schemes import named_scheme
from erasurehead_jax.settings import CONFIG_DIR, WhatIfSettings, check_values, nearest, require_keys
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.stragglers.advice import Advice, advise
from erasurehead_jax.stragglers.candidates import Candidate
from erasurehead_jax.stragglers.report import PLAIN, size, stem, writing
from erasurehead_jax.stragglers.rounds import complete_times
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.study import Study, Trained, progress_bar

TIMES = ("workers", "compute_s", "overhead_s", "seed")
TRAINING = ("data", "objective", "optimizer", "rounds", "seeds", "targets", "l2", "batch", "evaluate_every", "x64")
TRAINED = 6  # candidates that are trained, beside uncoded and ignoring stragglers


def ask(path: str, settings: list[str], unit: str | None, out: str | None, console: Console) -> None:
    """Prints advice on a recording, and writes it into a folder. Raises ConfigError for what cannot be used."""
    keep_compiled()
    config, with_data = _config(settings), any(each.startswith("data=") for each in settings)
    recording = read_recording(path, unit=unit)
    for note in [f"{path}: {size(recording)}", *recording.notes]:
        console.print(note, **PLAIN)
    workers = config["workers"] if any(each.startswith("workers=") for each in settings) else None
    found = advise(recording, workers, config["compute_s"], config["overhead_s"], config["seed"])
    study = _study(found, config) if with_data else None
    console.print(found.terminal_table())
    folder = Path(out) if out is not None else Path("outputs") / f"advice-{stem(path)}"
    with writing(folder):
        found.save(folder)
    for line in found.lines():
        console.print(line, **PLAIN)
    commands = [found.command] if study is None else _train(found, study, folder, console)
    for command in commands:
        console.print(command, **PLAIN)
    console.print(f"all candidates: {folder / 'advice.csv'}", **PLAIN)


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


def _study(found: Advice, config: dict[str, Any]) -> Study:
    """The best candidates, to be trained on the data with resampled rounds of the same workers."""
    jax.config.update("jax_enable_x64", config["x64"])
    objective, dataset = build_data(config)
    if problem := why_no_metric(objective, dataset):
        raise ConfigError(f"{problem}, and without it no time to a target can be measured")
    times_s = complete_times(found.recording)
    if not np.isfinite(times_s).all():
        raise ConfigError(f"{found.recording.path}: has answers that never come; ask for advice on them without data")
    computed_s = config["compute_s"] * found.recording.held  # is part of the recorded times
    resample = "rounds" if found.workers <= times_s.shape[1] else True
    delay = Trace(np.maximum(times_s - computed_s, 0), resample)
    rows = len(dataset.train)
    l2 = 1 / rows if config["l2"] is None else config["l2"]
    sampling = build_sampling(config | {"blocks": found.workers}, rows)
    costs = config["compute_s"], config["overhead_s"], make_optimizer(config), l2, sampling
    points = [
        GridPoint(_labels(made), Point(_scheme(made, found.workers), delay, "cancel", *costs))
        for made in _chosen(found)
    ]
    seeds = list(range(config["seed"], config["seed"] + config["seeds"]))
    targets = config["targets"]
    aims = None if targets is None else [float(each) for each in (targets if isinstance(targets, list) else [targets])]
    return Study(points, seeds, config["rounds"], config["evaluate_every"], None, aims, dataset, objective, [])


def _chosen(found: Advice) -> list[Candidate]:
    """The candidate to take, uncoded, ignoring stragglers and the best others."""
    scores = [found.taken, found.of("uncoded"), found.of("ignore_stragglers"), *found.scores]
    return list({score.candidate.name: score.candidate for score in scores}.values())[: TRAINED + 3]


def _labels(made: Candidate) -> dict[str, Any]:
    labels = {"scheme": made.scheme, "load": made.load, "wait_for": made.wait_for, "late": "cancel"}
    return labels | {"placement": "given" if made.placement is None else "balanced"}


def _scheme(made: Candidate, workers: int) -> Scheme:
    scheme = named_scheme(made.scheme, workers, made.load, made.wait_for)
    return scheme if made.placement is None else placed(scheme, made.placement)


def _train(found: Advice, study: Study, folder: Path, console: Console) -> list[str]:
    """Trains, says which candidate is first, and returns the command of the best for each target."""
    with progress_bar(len(study.points) * len(study.seeds)) as bar:
        trained = study.run(bar)
    trained.save(folder)
    assert study.dataset is not None and isinstance(trained, Trained)
    console.print(f"By time to the target on {study.dataset.name}, which decides:", highlight=False)
    for line in trained.lines():
        console.print(line, highlight=False, soft_wrap=isinstance(line, str))
    best = {each.best for each in trained.recommendations}
    chosen = zip(study.points, _chosen(found), strict=True)
    return [found.command_for(made) for point, made in chosen if point.name() in best]
