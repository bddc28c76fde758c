"""Rank 0's part of a run: train on the clock, then evaluate, sum up and report off the clock."""

import logging
import platform
import signal
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasurehead_jax.cluster import transport
from erasurehead_jax.cluster.master import Master, Round
from erasurehead_jax.cluster.protocol import Protocol
from erasurehead_jax.cluster.rank import INTERRUPT
from erasurehead_jax.job import Job, instantiate
from erasurehead_jax.metrics import BATCH, evaluator
from erasurehead_jax.record import ARRIVALS, MODEL, SUMMARY, History, Iterates, write_arrays, write_json
from erasurehead_jax.rounds import iterate
from erasurehead_jax.scheme import collect

log = logging.getLogger(__name__)


def lead(job: Job, spec: dict[str, Any]) -> None:
    """Trains and writes the run directory.

    `spec` comes from the launcher: the resolved config, the chosen config files (choices), run_dir, launched_s (seconds
    since the epoch) and launcher (host and process id).
    """
    interrupts: list[int] = []
    signal.signal(INTERRUPT, lambda number, _: interrupts.append(number))
    run_dir, config = Path(spec["run_dir"]), spec["config"]
    master = Master(job, instantiate("optimizer", config))
    startup_s = time.time() - spec["launched_s"]
    log.info("%d workers ready after %.1f s, compiled", job.scheme.code.workers, startup_s)

    run = _Run(job, run_dir, master)
    try:
        run.train(lambda: bool(interrupts))
        log.info("%d rounds in %.3f s", len(run.history.rows), run.clock_s)
        run.evaluate()
    finally:
        run.close()
    code, rounds = job.scheme.code, len(run.history.rows)
    summary = _summary(job, spec["choices"], run, master.protocol) | {
        "startup_s": startup_s,
        "interrupted": rounds < job.rounds,
        "versions": _versions(),
    }
    write_arrays(run_dir / ARRIVALS, arrival_s=run.arrivals(), owner=code.owner, workers=np.array(code.workers))
    write_arrays(run_dir / MODEL, x=np.asarray(iterate(master.state)))
    write_json(run_dir / SUMMARY, summary)
    master.stop()  # only now: a worker that hangs must not cost the run its results
    instantiate("tracking", config).report(run_dir, config, run.history.rows, summary)


class _Run:
    """The rounds of a run and what is recorded of them."""

    def __init__(self, job: Job, run_dir: Path, master: Master):
        self._job, self._master = job, master
        self._evaluator = None
        self._arrivals: list[np.ndarray] = []
        self._unwritten: Round | None = None
        self._iterates = Iterates(run_dir, job.dataset.dim, job.dtype)
        self.history = History(run_dir, job.objective.metric)
        self.clock_s = 0.0
        self.recorded_s = 0.0
        self.eval_s = 0.0
        self.used = 0

    def train(self, interrupted) -> None:
        """The training loop. A round is recorded while the workers compute the next one."""
        every = self._job.evaluate_every
        if every:
            self._evaluate([np.asarray(iterate(self._master.state))[None]])  # compile
        self._master.start_clock()
        for t in range(self._job.rounds):
            finished = self._master.round(interrupted, meanwhile=self._write)
            if finished is None:
                break
            self._unwritten = finished
            if every and ((t + 1) % every == 0 or t + 1 == self._job.rounds):
                self.eval_s += self._master.pause(lambda: self._write(evaluate=True))
        self._write()

    def evaluate(self) -> None:
        """Evaluates every iterate, in batches, unless that was done on the way."""
        began_s = time.perf_counter()
        if not self._job.evaluate_every:
            self.history.fill(self._evaluate(self._iterates.batches(BATCH)))
        elif self.history.rows and "train_loss" not in self.history.rows[-1]:  # interrupted
            last = self._evaluate([np.asarray(iterate(self._master.state))[None]])
            self.history.fill([{} for _ in self.history.rows[:-1]] + last)
        self.eval_s += time.perf_counter() - began_s

    def arrivals(self) -> np.ndarray:
        """Seconds (rounds, M); nan = never used."""
        return np.array(self._arrivals).reshape(-1, self._job.scheme.code.messages)

    def close(self) -> None:
        """Closes the files."""
        self.history.close()
        self._iterates.close()

    def _write(self, evaluate: bool = False) -> None:
        done, self._unwritten = self._unwritten, None
        if done is None:
            return
        metrics = self._evaluate([done.x[None]])[0] if evaluate else {}
        if not self._job.evaluate_every:
            self._iterates.append(done.x)
        self._arrivals.append(done.arrival_s)
        self.clock_s = done.clock_s
        self.recorded_s += done.collected_s
        self.used += int((~np.isnan(done.arrival_s)).sum())
        self.history.append({name: getattr(done, name) for name in self.history.columns[:8]} | metrics)

    def _evaluate(self, batches):
        if self._evaluator is None:
            self._evaluator = evaluator(self._job.objective, self._job.dataset)
        return self._evaluator(batches)


def _summary(job: Job, choices: dict[str, str], run: _Run, protocol: Protocol) -> dict[str, Any]:
    code, rounds = job.scheme.code, len(run.history.rows)
    ideal_s = _ideal_s(job, rounds)
    final = run.history.rows[-1] if rounds else {}
    sent = (protocol.round + 1) * code.messages
    return {
        "scheme": choices["scheme"],
        "code": type(code).__name__,
        "workers": code.workers,
        "blocks": code.blocks,
        "load": code.load,
        "wait_for": job.scheme.stop.at_most(code.workers),
        "late": job.late,
        "data": job.dataset.name,
        "features": job.dataset.dim,
        "train_rows": len(job.dataset.train),
        "test_rows": len(job.dataset.test),
        "rounds": rounds,
        "seed": job.seed,
        "clock_s": run.clock_s,
        "ideal_s": ideal_s,
        "overhead": run.clock_s / ideal_s if ideal_s else None,
        "recorded_s": run.recorded_s,
        "eval_s": run.eval_s,
        "late_answers": protocol.late_answers,
        "cancelled": sent - run.used - protocol.late_answers,  # never received
        "lost_workers": [],
        "final": {name: final.get(name) for name in run.history.columns[-3:]},
    }


def _ideal_s(job: Job, rounds: int) -> float:
    """The sum over rounds of the time at which the stopping rule could first hold, given the injected delays."""
    if not rounds:
        return 0.0
    delays, owner = job.delays(), job.scheme.code.owner
    arrival_s = jnp.stack([jnp.asarray(delays(t)[owner]) for t in range(rounds)])
    return float(jax.lax.map(lambda s: collect(job.scheme, s)[1], arrival_s, batch_size=256).sum())


def _versions() -> dict[str, str]:
    packages = ("erasurehead-jax", "jax", "jaxlib", "equinox", "optax", "numpy", "mpi4py", "hydra-core", "wandb")
    return {name: version(name) for name in packages} | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "mpi": transport.mpi_version(),
    }
