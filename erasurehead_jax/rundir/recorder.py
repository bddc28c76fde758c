"""Records the rounds of both backends, evaluates them off the clock, and writes the summary."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from erasurehead_jax.errors import Diverged
from erasurehead_jax.job import Job
from erasurehead_jax.rundir.callbacks import Callback, Evaluation, early_stops
from erasurehead_jax.rundir.files import (
    ARRIVALS,
    ARRIVED,
    ENCODER,
    ITERATES,
    MODEL,
    ROUND_COLUMNS,
    SUMMARY,
    History,
    Progress,
    Vectors,
    metric_columns,
    read_history,
    storing,
    write_arrays,
    write_json,
)
from erasurehead_jax.rundir.metrics import BATCH, block_losses, evaluator, iterates_at_once
from erasurehead_jax.rundir.targets import reached
from erasurehead_jax.rundir.telemetry import telemetry
from erasurehead_jax.rundir.versions import versions
from erasurehead_jax.scheme import collect


class RoundRecord(NamedTuple):
    """A completed round. Its first fields are the first columns of history.csv."""

    round: int
    clock_s: float  # of the training loop, when the next round could begin
    round_s: float
    waited: int  # workers that answered in time
    exact: bool
    decode_error: float  # ||w - 1||^2
    grad_norm: float
    received_bytes: int
    lost: int  # workers lost so far
    faulty: int  # unusable answers: not finite, or of the wrong length or round
    last_host: str  # the host whose answer ended the round, or "-"
    collected_s: float  # until the step, before any draining, as the published code measures
    arrival_s: Float[np.ndarray, " M"]  # seconds into the round, nan if not used
    x: Float[np.ndarray, " d"]  # the iterate after the round


class Recorder:
    """Writes the run directory of one training run, from its first round to its summary.

    A run that may be resumed keeps its iterates and arrivals in `folder`; a resumed record continues from `done`, with
    `x` as the last iterate. Raises ConfigError if the files end before `done`.
    """

    def __init__(
        self,
        job: Job,
        run_dir: Path,
        x: Float[np.ndarray, " d"],
        folder: Path | None = None,
        done: Progress = Progress(0, 0.0, 0.0, 0.0),  # noqa: B008 - immutable
    ):
        self._job, self._run_dir = job, run_dir
        self._evaluator = None
        self._x = x
        self.stopped: str | None = None  # why the run ends before its last round, if by its own rules
        self._since: list[dict[str, Any]] = []  # rows since the last evaluation
        rounds, self.clock_s, self.recorded_s, self.eval_s = done
        self._metric = job.problem.objective.metric
        self.history = History(run_dir, self._metric.name, rounds)
        self._callbacks: list[Callback] = [*early_stops(self._metric, job.settings), *job.callbacks]
        waiting = 0 if job.settings.evaluate_every else rounds - self.history.evaluated
        iterates, arrivals = (folder / ITERATES, folder / ARRIVED) if folder else (None, None)
        self._iterates = Vectors(iterates, len(x), job.problem.dtype, waiting)
        self._arrivals = Vectors(arrivals, job.scheme.code.messages, np.dtype(float), rounds)

    @property
    def progress(self) -> Progress:
        """The progress recorded so far."""
        return Progress(self.history.count, self.clock_s, self.recorded_s, self.eval_s)

    @property
    def used(self) -> int:
        """The number of answers used so far."""
        return sum(int((~np.isnan(batch)).sum()) for batch in self._arrivals.batches(BATCH))

    def sync(self) -> None:
        """Waits until everything recorded is on disk."""
        with storing(self._run_dir):
            for stream in (self.history, self._iterates, self._arrivals):
                stream.sync()

    def due(self, t: int) -> bool:
        """Whether round t is to be evaluated before the next one begins."""
        every = self._job.settings.evaluate_every
        return every is not None and ((t + 1) % every == 0 or t + 1 == self._job.settings.rounds)

    def warm_up(self) -> None:
        """Compiles the evaluation if it runs between rounds."""
        if self._job.settings.evaluate_every:
            self._evaluate([np.zeros((1, len(self._x)), self._job.problem.dtype)], 1)

    def write(self, done: RoundRecord) -> None:
        """Adds a round, with its metrics if due. Raises Diverged if the training loss is not finite."""
        began_s = time.perf_counter()
        metrics = self._evaluate([done.x[None]], 1)[0] if self.due(done.round) else {}
        row = {name: getattr(done, name) for name in ROUND_COLUMNS} | metrics
        with storing(self._run_dir):
            if not self._job.settings.evaluate_every:
                self._iterates.append(done.x)
            self._arrivals.append(done.arrival_s)
            self.history.append(row)
        self.recorded_s += done.collected_s
        self.clock_s, self._x = done.clock_s, done.x
        if not np.isfinite(metrics.get("train_loss", 0.0)):
            raise Diverged(f"the training loss of round {done.round} is not finite")
        self._call_back(row)
        self.eval_s += time.perf_counter() - began_s if metrics else 0.0

    def call(self, callbacks: Iterable[Callback]) -> None:
        """Has these functions called after every evaluation; the run ends when one returns True."""
        self._callbacks += callbacks

    def _call_back(self, row: dict[str, Any]) -> None:
        if not self._callbacks:
            return
        self._since.append(row)
        if "train_loss" in row:
            evaluation = Evaluation(self._since, self._job.problem.objective.params(self._x))
            wishes = [(callback, callback(evaluation)) for callback in self._callbacks]
            ends = [getattr(callback, "reason", "callback") for callback, wish in wishes if wish is True]
            self.stopped, self._since = next(iter(ends), None), []

    def evaluate(self) -> None:
        """Evaluates, in batches, the iterates of all rounds that have not been evaluated yet."""
        began_s = time.perf_counter()
        with storing(self._run_dir):
            if not self._job.settings.evaluate_every:
                size = iterates_at_once(len(self._x))
                self.history.fill(self._evaluate(self._iterates.batches(size), size))
                self._iterates.clear()
            elif self.history.count and "train_loss" not in self.history.last:  # ended early
                self.history.fill(self._evaluate([self._x[None]], 1))
        self.eval_s += time.perf_counter() - began_s

    def save(self, scheme: str, hosts: Sequence[str], more: dict[str, Any]) -> dict[str, Any]:
        """Writes arrivals, model and summary. Returns the summary: the entries of every run, and `more`.

        `hosts` are the workers'. The `per_worker` lists of `more` are added to the telemetry.
        """
        code, more = self._job.scheme.code, dict(more)
        with storing(self._run_dir):
            arrival_s = np.concatenate([np.empty((0, code.messages)), *self._arrivals.batches(BATCH)])
            write_arrays(
                self._run_dir / ARRIVALS,
                arrival_s=arrival_s,
                owner=code.owner,
                workers=np.array(code.workers),
                hosts=np.array(hosts),
            )
            write_arrays(self._run_dir / MODEL, x=self._x)
            if (encoder := self._job.problem.dataset.encoder) is not None:
                encoder.save(self._run_dir / ENCODER)
            found = telemetry(self._job.scheme, arrival_s)
            found["workers"] |= {"host": list(hosts)} | more.pop("per_worker", {})
            found["blocks"]["train_loss"] = block_losses(*self._job.problem[:2], self._x, code.blocks)
            return write_json(self._run_dir / SUMMARY, self._summary(scheme) | more | {"telemetry": found})

    def close(self) -> None:
        """Closes the files."""
        for stream in (self.history, self._iterates, self._arrivals):
            stream.close()

    def _time_to_target(self) -> float | None:
        """Seconds on the clock until the test metric reached the target; None if it never did."""
        name, target = self.history.columns[-1], self._job.settings.target
        if target is None:
            return None
        there = lambda row: name in row and reached(row[name], target, self._metric.more_is_better)
        return next((row["clock_s"] for row in read_history(self._run_dir) if there(row)), None)

    def _evaluate(self, batches, size: int):
        if self._evaluator is None:
            self._evaluator = evaluator(*self._job.problem[:2])
        return self._evaluator(batches, size)

    def _summary(self, scheme: str) -> dict[str, Any]:
        job, code, rounds = self._job, self._job.scheme.code, self.history.count
        settings, dataset = job.settings, job.problem.dataset
        ideal_s = _ideal_s(job, rounds)
        return {
            "scheme": scheme,
            "code": type(code).__name__,
            "workers": code.workers,
            "blocks": code.blocks,
            "load": code.load,
            "wait_for": job.scheme.stop.at_most(code.workers),
            "late": settings.late,
            "placement": settings.placement,
            "data": dataset.name,
            "features": dataset.dim,
            "row_shape": dataset.train.features.row_shape,
            "classes": dataset.classes,
            "train_rows": len(dataset.train),
            "test_rows": len(dataset.test),
            "rounds": rounds,
            "interrupted": rounds < settings.rounds and not self.stopped,
            "stopped": self.stopped,
            "seed": settings.seed,
            "clock_s": self.clock_s,
            "ideal_s": ideal_s,
            "overhead": self.clock_s / ideal_s if ideal_s else None,
            "recorded_s": self.recorded_s,
            "eval_s": self.eval_s,
            "target": settings.target,
            "time_to_target_s": self._time_to_target(),
            "more_is_better": self._metric.more_is_better,
            "final": {name: self.history.last.get(name) for name in metric_columns(self._metric.name)},
            "versions": versions(),
        }


def _ideal_s(job: Job, rounds: int) -> float:
    """The sum over rounds of the time at which the stopping rule could first hold, given the injected delays."""
    if not rounds:
        return 0.0
    delays, owner = job.delays(), job.scheme.code.owner
    with jax.enable_x64(True):  # a rule may decode, which is exact only in float64
        arrival_s = jnp.stack([jnp.asarray(delays(t)[owner]) for t in range(rounds)])
        first_s = lambda scheme: jax.lax.map(lambda s: collect(scheme, s)[1], arrival_s, batch_size=256)
        ideal_s = first_s(job.scheme)
        if job.sampling.exact_snapshots:
            exact = np.array([job.sampling.waits_for_exact(t) for t in range(rounds)])
            ideal_s = jnp.where(exact, first_s(job.scheme.exactly()), ideal_s)
        return float(ideal_s.sum())
