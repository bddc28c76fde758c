"""Reports finished runs outside their directory. Called on rank 0, after the clock has stopped."""

import csv
import fcntl
import importlib.util
import json
import logging
import netrc
import os
import shutil
from abc import abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from erasurehead_jax.errors import require_number
from erasurehead_jax.rundir.files import ARRIVALS, MODEL, history_columns, read_history, replacing, write_json

WANDB_FOLDERS = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")  # kept inside the run directory

log = logging.getLogger(__name__)


class Finished(NamedTuple):
    """A finished run, whose directory is complete."""

    run_dir: Path
    config: dict[str, Any]
    choices: dict[str, str]  # config group -> file
    summary: dict[str, Any]

    @property
    def sweep(self) -> str | None:
        """The multirun that the run belongs to, if any."""
        folder = self.run_dir.parent
        return "/".join(folder.parts[-2:]) if (folder / "multirun.yaml").exists() else None

    @property
    def tags(self) -> list[str]:
        """The names of the chosen config files and policies."""
        groups = ("scheme", "data", "delay", "optimizer", "experiment")
        chosen = [self.choices[group] for group in groups if self.choices.get(group) not in (None, "None", "null")]
        return list(dict.fromkeys([*chosen, self.config["late"], self.config["backend"]]))


class AbstractTracking(eqx.Module):
    """A destination for finished runs."""

    @abstractmethod
    def report(self, run: Finished) -> None:
        """Sends the results; may raise."""


def report(tracking: AbstractTracking, run: Finished) -> None:
    """Reports the run. A failure to do so is only a warning."""
    try:
        tracking.report(run)
    except Exception as error:
        log.warning("%s: the run was not reported (%s: %s)", type(tracking).__name__, type(error).__name__, error)


class NoTracking(AbstractTracking):
    """No reports beyond the run directory."""

    def report(self, run: Finished) -> None:
        del run


class Csv(AbstractTracking):
    """One table, runs.csv beside the run directories, with a row per run; a resumed run replaces its row."""

    file: str = "runs.csv"

    def report(self, run: Finished) -> None:
        path = run.run_dir.parent / self.file
        numbers = {name: value for name, value in run.summary.items() if not isinstance(value, dict | list)}
        row = {"run": run.run_dir.name} | numbers | run.summary["final"]
        # Opened read-only, which suffices for a lock, because it may belong to another user.
        opened = os.open(path.parent / f".{self.file}.lock", os.O_RDONLY | os.O_CREAT, 0o666)
        with os.fdopen(opened) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # jobs of a sweep may end at the same time
            rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
            rows = [*(other for other in rows if other["run"] != row["run"]), row]
            columns = dict.fromkeys(name for each in rows for name in each)
            with replacing(path) as partial, partial.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(columns))
                writer.writeheader()
                writer.writerows(rows)


class Wandb(AbstractTracking):
    """Weights & Biases; offline (in the run directory, for `wandb sync`) unless the user is logged in.

    WANDB_MODE, WANDB_API_KEY and W&B's other variables have their usual meaning. A resumed run continues the same W&B
    run. Without the optional package `wandb`, a warning says how to install it. Waits at most `timeout_s` for the
    network.
    """

    project: str = "erasurehead-jax"
    timeout_s: float = 30.0

    def __check_init__(self):
        require_number("tracking.timeout_s", self.timeout_s, above=0.0)

    def report(self, run: Finished) -> None:
        if not _installed():
            log.warning(
                "tracking=wandb: the package wandb is not installed, so the results are in the run directory only; "
                "run `pip install wandb`, or set tracking=csv or tracking=none"
            )
            return
        folder = run.run_dir / "wandb"
        folder.mkdir(exist_ok=True)
        unset = [name for name in WANDB_FOLDERS if name not in os.environ]
        try:
            os.environ.update(dict.fromkeys(unset, str(folder)))
            self._log_all(run, folder / "reported.json")
        finally:
            for path in _temporary_folders():  # W&B does so at exit, but ranks skip exit handlers
                shutil.rmtree(path, ignore_errors=True)
            for name in unset:  # the next job of this process has its own directory
                del os.environ[name]

    def _log_all(self, run: Finished, reported: Path) -> None:
        import wandb  # late: half a second to import

        for path in _temporary_folders():  # an earlier job of this process has removed them
            path.mkdir(mode=0o700, exist_ok=True)
        before = (
            json.loads(reported.read_text()) if reported.exists() else {"id": None, "rounds": 0}
        )  # exists if resumed
        settings = wandb.Settings(
            console="off",
            silent=True,
            x_disable_stats=True,
            disable_git=True,
            init_timeout=self.timeout_s,
            finish_timeout=self.timeout_s,
        )
        with wandb.init(
            project=self.project,
            dir=run.run_dir,
            config=run.config,
            name=run.run_dir.name,
            group=run.sweep,
            job_type="train",
            tags=run.tags,
            id=before["id"],
            resume="allow" if before["id"] else None,
            mode=None if "WANDB_MODE" in os.environ or _logged_in() else "offline",
            settings=settings,
        ) as session:
            _log(wandb, session, run, before["rounds"])
            write_json(reported, {"id": session.id, "rounds": run.summary["rounds"]})


def _log(wandb: Any, session: Any, run: Finished, first: int) -> None:
    """Logs the rounds from `first` on and the results of the whole run."""
    axis, clock, *others = history_columns("")[:-3]
    session.define_metric(axis)
    session.define_metric(clock, step_metric=axis, summary="none")  # the summary has the total
    for name in others:
        session.define_metric(name, step_metric=axis)
    for name in run.summary["final"]:
        session.define_metric(name, step_metric=clock)
    for row in read_history(run.run_dir):
        if row["round"] >= first:
            session.log(row, step=int(row["round"]))
    session.summary.update(run.summary)
    _log_once(wandb, session, run)


def _log_once(wandb: Any, session: Any, run: Finished) -> None:
    """Logs tables, histogram, figure and files."""
    from erasurehead_jax.report.runs import load_runs  # late: pandas and matplotlib, off the clock
    from erasurehead_jax.report.workers import workers_figure

    found = run.summary["telemetry"]
    with np.load(run.run_dir / ARRIVALS, allow_pickle=False) as file:
        arrival_s = file["arrival_s"][np.isfinite(file["arrival_s"])]
    once = {f"{what}_table": _table(wandb, what, found[f"{what}s"]) for what in ("worker", "block")}
    if len(arrival_s):
        once["arrival_s"] = wandb.Histogram(arrival_s)
    for finished in load_runs([run.run_dir])[0]:
        picture = run.run_dir / "workers.png"
        workers_figure(finished, picture)
        once["stragglers"] = wandb.Image(str(picture))
    session.log(once, step=max(run.summary["rounds"] - 1, 0))
    for name, kind in ((MODEL, "model"), (ARRIVALS, "trace")):
        artifact = wandb.Artifact(f"{session.id}-{kind}", type=kind)
        artifact.add_file(str(run.run_dir / name))
        session.log_artifact(artifact)


def _table(wandb: Any, what: str, columns: dict[str, Any]) -> Any:
    rows = [[i, *row] for i, row in enumerate(zip(*columns.values(), strict=True))]
    return wandb.Table(columns=[what, *columns], data=rows)


def _installed() -> bool:
    """Whether wandb is installed. The folder `wandb` that W&B creates in the working directory does not count."""
    spec = importlib.util.find_spec("wandb")
    return spec is not None and spec.origin is not None


def _temporary_folders() -> list[Path]:
    """The folders that W&B creates on import and uses for every run of the process."""
    from wandb.sdk.artifacts.artifact import Artifact
    from wandb.sdk.data_types import _private

    made = (getattr(_private, "MEDIA_TMP", None), getattr(Artifact, "_TMP_DIR", None))
    return [Path(each.name) for each in made if each is not None]


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
