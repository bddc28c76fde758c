"""Reports runs outside their directory. Called on rank 0, while the clock stands still or after it has stopped."""

import csv
import fcntl
import importlib.util
import json
import logging
import netrc
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from erasurehead_jax.errors import require_number
from erasurehead_jax.job import Job, JobSpec
from erasurehead_jax.rundir.callbacks import Callback, Evaluation
from erasurehead_jax.rundir.files import (
    ARRIVALS,
    MODEL,
    ROUND_COLUMNS,
    measured_columns,
    read_history,
    replacing,
    write_json,
)
from erasurehead_jax.rundir.recorder import Recorder

WANDB_FOLDERS = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR")  # kept inside the run directory

log = logging.getLogger(__name__)


class Tracked(NamedTuple):
    """A run. Its directory is complete once there is a summary."""

    run_dir: Path
    config: dict[str, Any]
    choices: dict[str, str]  # config group -> file
    summary: dict[str, Any] = {}  # noqa: RUF012 - never changed

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
    """A destination for runs."""

    def begin(self, run: Tracked) -> bool:
        """Called before the first round of a run that is evaluated as it goes; returns whether to call `log`."""
        del run
        return False

    def log(self, run: Tracked) -> None:
        """Called after every evaluation, with the clock stopped: history.csv has new rows."""

    @abstractmethod
    def report(self, run: Tracked) -> None:
        """Sends the results of a finished run; may raise."""


def report(tracking: AbstractTracking, run: Tracked) -> None:
    """Reports a finished run. A failure to do so is only a warning."""
    _attempt(tracking, tracking.report, run)


def begin_tracking(job: Job, spec: JobSpec, recorder: Recorder) -> Tracked:
    """Has the run tracked live if it is evaluated as it goes."""
    run = Tracked(Path(spec.run_dir), spec.config, spec.choices)
    if job.settings.evaluate_every:
        recorder.call(_live(job.tracking(), run))
    return run


def _live(tracking: AbstractTracking, run: Tracked) -> list[Callback]:
    """What is to be called after every evaluation."""

    def log_rows(evaluation: Evaluation) -> None:
        del evaluation  # W&B needs all rounds since its last row, also after an attempt that failed
        _attempt(tracking, tracking.log, run)

    return [log_rows] if _attempt(tracking, tracking.begin, run) else []


def _attempt(tracking: AbstractTracking, method: Callable[[Tracked], Any], run: Tracked) -> Any:
    try:
        return method(run)
    except Exception as error:
        log.warning("%s: the run was not reported (%s: %s)", type(tracking).__name__, type(error).__name__, error)


class NoTracking(AbstractTracking):
    """No reports beyond the run directory."""

    def report(self, run: Tracked) -> None:
        del run


class Csv(AbstractTracking):
    """One table, runs.csv beside the run directories, with a row per run; a resumed run replaces its row."""

    file: str = "runs.csv"

    def report(self, run: Tracked) -> None:
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

    With evaluations during training (evaluate_every) it is live: rounds appear after each one.

    WANDB_MODE, WANDB_API_KEY and W&B's other variables have their usual meaning. A resumed run continues the same W&B
    run. Without the optional package `wandb`, a warning says how to install it. Waits at most `timeout_s` for the
    network.
    """

    project: str = "erasurehead-jax"
    timeout_s: float = 30.0

    def __check_init__(self):
        require_number("tracking.timeout_s", self.timeout_s, above=0.0)

    def begin(self, run: Tracked) -> bool:
        if not _installed():
            return False  # `report` says so
        _sessions[run.run_dir] = self._open(run)
        return True

    def log(self, run: Tracked) -> None:
        _log_rows(_sessions[run.run_dir], run)

    def report(self, run: Tracked) -> None:
        if not _installed():
            log.warning(
                "tracking=wandb: the package wandb is not installed, so the results are in the run directory only; "
                "run `pip install wandb`, or set tracking=csv or tracking=none"
            )
            return
        try:
            import wandb  # late: half a second to import

            session = _sessions.pop(run.run_dir, None) or self._open(run)
            _log_rows(session, run)
            session.summary.update(run.summary)
            _log_once(wandb, session, run)
            session.finish()
        finally:
            for path in _temporary_folders():  # W&B does so at exit, but ranks skip exit handlers
                shutil.rmtree(path, ignore_errors=True)
            for name in WANDB_FOLDERS:  # the next job of this process has its own directory
                if os.environ.get(name) == str(run.run_dir / "wandb"):
                    del os.environ[name]

    def _open(self, run: Tracked) -> Any:
        """Opens a session for this run, beside any that a script has of its own."""
        folder = run.run_dir / "wandb"
        folder.mkdir(exist_ok=True)
        for name in WANDB_FOLDERS:
            os.environ.setdefault(name, str(folder))
        import wandb

        for path in _temporary_folders():  # an earlier job of this process has removed them
            path.mkdir(mode=0o700, exist_ok=True)
        settings = wandb.Settings(
            console="off",
            silent=True,
            x_disable_stats=True,
            disable_git=True,
            init_timeout=self.timeout_s,
            finish_timeout=self.timeout_s,
        )
        before = _reported(run)
        session = wandb.init(
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
            reinit="create_new",
            settings=settings,
        )
        axis, clock, *others = ROUND_COLUMNS
        session.define_metric(axis)
        session.define_metric(clock, step_metric=axis, summary="none")  # the summary has the total
        for name in others:
            session.define_metric(name, step_metric=axis)
        for name in measured_columns(run.run_dir):
            session.define_metric(name, step_metric=clock)
        return session


_sessions: dict[Path, Any] = {}  # of the runs that are live, by their directory


def _reported(run: Tracked) -> dict[str, Any]:
    """The W&B id of the run and the rounds that W&B has: of an earlier session, if the run is resumed, or so far."""
    path = run.run_dir / "wandb" / "reported.json"
    return json.loads(path.read_text()) if path.exists() else {"id": None, "rounds": 0}


def _log_rows(session: Any, run: Tracked) -> None:
    """Logs the rounds that W&B does not have."""
    known = _reported(run)["rounds"]
    rows = [row for row in read_history(run.run_dir) if row["round"] >= known]
    for row in rows:
        session.log(row, step=int(row["round"]))
    write_json(run.run_dir / "wandb" / "reported.json", {"id": session.id, "rounds": known + len(rows)})


def _log_once(wandb: Any, session: Any, run: Tracked) -> None:
    """Logs tables, histogram, figure and files."""
    from erasurehead_jax.reports.runs import load_runs  # late: pandas and matplotlib, off the clock
    from erasurehead_jax.reports.workers import workers_figure

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
