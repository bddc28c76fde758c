"""Rank 0's part of a run: training, on the clock; evaluation, summary and tracking, off the clock."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erasurehead_jax.cluster import transport
from erasurehead_jax.cluster.checkpoint import Checkpoints, Snapshot, fingerprint, read
from erasurehead_jax.cluster.master import Master
from erasurehead_jax.cluster.protocol import Journal
from erasurehead_jax.cluster.replay import recording
from erasurehead_jax.cluster.signals import INTERRUPT, Outcome, Started, send
from erasurehead_jax.errors import Status, Stopped
from erasurehead_jax.job import Job, JobSpec
from erasurehead_jax.rundir.files import storing
from erasurehead_jax.rundir.life import AbstractBackend, Ending, live
from erasurehead_jax.rundir.recorder import Recorder, RoundRecord
from erasurehead_jax.rundir.versions import versions
from erasurehead_jax.tracking import begin_tracking, report
from erasurehead_jax.update import iterate

STOP_SIGNALS = (INTERRUPT, signal.SIGTERM, signal.SIGUSR1)  # from the launcher, and from a scheduler
GOODBYE_SHARE = 0.5  # of shutdown_s; the rest is for killing workers that hang
KEEPS_A_CHECKPOINT = (Status.OK, Status.TERMINATED, Status.UNDECODABLE)

log = logging.getLogger(__name__)


def lead(job: Job, spec: JobSpec, hosts: Sequence[str]) -> bool:
    """Trains and writes the run directory. Returns whether the ranks wait for another job. `hosts` are the workers'."""
    recorded = job.settings.cluster.record_events
    events = recording(Path(spec.run_dir)) if recorded else contextlib.nullcontext()
    with _stop_requests() as requests, events as journal:
        return _lead(job, spec, hosts, lambda: bool(requests), journal)


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collects the signals that request the end of the run after the current round."""
    requests: list[int] = []
    before = {number: signal.signal(number, lambda number, _: requests.append(number)) for number in STOP_SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lead(
    job: Job, spec: JobSpec, hosts: Sequence[str], stop_requested: Callable[[], bool], journal: Journal | None
) -> bool:
    run_dir, shutdown_s = Path(spec.run_dir), job.settings.cluster.shutdown_s
    master = Master(job, job.optimizer(), hosts, journal)
    with storing(run_dir):
        checkpoints = Checkpoints(run_dir, spec.config)
        recorder = _recorder(job, master, checkpoints, spec)
    tracked = begin_tracking(job, spec, recorder)
    send(Started())
    ready_s = time.time() - spec.launched_s
    log.info("%d workers ready after %.1f s, including compilation", master.rounds.protocol.alive.sum(), ready_s)

    backend = MpiBackend(job, master, checkpoints, hosts, stop_requested)
    ending, summary = live(spec, backend, recorder)
    if summary:
        report(job.tracking(), tracked._replace(summary=summary))
    until_s = max(backend.ended_s + GOODBYE_SHARE * shutdown_s, time.perf_counter() + 0.1 * shutdown_s)
    hanging = master.rounds.staying(until_s)
    stay = spec.more and ending.status == Status.OK and not hanging and master.rounds.complete
    if hanging:  # said first: the launcher kills every rank, this one too, as soon as it knows the outcome
        log.warning("workers %s hang and will be killed", hanging)
    send(Outcome(int(ending.status), ending.message, hanging, stay))
    while hanging:
        time.sleep(1)
    return master.rounds.release_workers(stay)


def _recorder(job: Job, master: Master, checkpoints: Checkpoints, spec: JobSpec) -> Recorder:
    """The record of the run; restores it and the master from the checkpoint, if any."""
    run_dir = Path(spec.run_dir)
    if spec.checkpoint is None:
        return Recorder(job, run_dir, np.asarray(iterate(master.state)), checkpoints.folder)
    snapshot = read(Path(spec.checkpoint), fingerprint(spec.config), master.state)
    master.resume(snapshot)
    return Recorder(job, run_dir, np.asarray(iterate(master.state)), checkpoints.folder, snapshot.progress)


class MpiBackend(AbstractBackend):
    """Rounds on MPI ranks. A round is recorded while the workers compute the next one, unless it is to be evaluated."""

    name = "mpi"

    def __init__(
        self,
        job: Job,
        master: Master,
        checkpoints: Checkpoints,
        hosts: Sequence[str],
        stop_requested: Callable[[], bool],
    ):
        self.hosts, self.ended_s = hosts, 0.0
        self._job, self._master, self._checkpoints, self._stop_requested = job, master, checkpoints, stop_requested
        self._unwritten: list[RoundRecord] = []

    def train(self, recorder: Recorder) -> Ending:
        """Runs until all rounds are completed, a stop is requested or no round can end; then dismisses the workers."""
        try:
            ending = self._rounds(recorder)
            if ending.status in KEEPS_A_CHECKPOINT:
                self._save(recorder)
            with storing(self._checkpoints.folder.parent):
                self._checkpoints.wait()
            return ending
        finally:
            log.info("%d rounds in %.3f s", recorder.history.count, recorder.clock_s)
            self.ended_s = time.perf_counter()
            self._master.rounds.dismiss()
            self._master.rounds.staying(self.ended_s + 0.1 * self._job.settings.cluster.shutdown_s)

    def _rounds(self, recorder: Recorder) -> Ending:
        write = lambda: self._write(recorder)
        recorder.warm_up()
        self._master.rounds.start_clock(recorder.clock_s)
        try:
            for t in range(recorder.history.count, self._job.settings.rounds):
                finished = self._master.round(self._stop_requested, meanwhile=write)
                if finished is None:
                    return Ending(Status.TERMINATED, f"stopped on request after {t} rounds")
                self._unwritten.append(finished)
                if recorder.due(t):
                    self._master.rounds.pause(write)
                if recorder.stopped:
                    return Ending(Status.OK, "")
            write()
        except Stopped as error:
            return Ending(error.status, str(error))
        return Ending(Status.OK, "")

    def _write(self, recorder: Recorder) -> None:
        while self._unwritten:
            recorder.write(self._unwritten.pop())
            if self._checkpoints.due(recorder.history.count):
                self._save(recorder)

    def _save(self, recorder: Recorder) -> None:
        with storing(self._checkpoints.folder.parent):
            self._checkpoints.save(
                Snapshot(recorder.progress, self._master.state, self._master.counters()), recorder.sync
            )

    def facts(self, recorder: Recorder) -> dict[str, Any]:
        """Counts of late, faulty and cancelled answers, and the lost workers."""
        rounds = self._master.rounds
        protocol = rounds.protocol
        late, faulty = protocol.late_answers, protocol.faulty_answers
        return {
            "late_answers": late.sum(),
            "faulty_answers": faulty.sum(),
            "cancelled": rounds.asked - recorder.used - late.sum() - faulty.sum(),  # never received
            "lost_workers": [{"worker": worker, "round": round_} for worker, round_ in protocol.losses],
            "per_worker": {"late": late, "faulty": faulty, "suspected": rounds.silence.suspected},
            "versions": versions() | {"mpi": transport.mpi_version()},
        }
