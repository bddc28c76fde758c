"""Rank 0's part of a run: train on the clock, then evaluate, sum up and report off the clock."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from erasurehead_jax.cluster import transport
from erasurehead_jax.cluster.checkpoint import Checkpoints, Snapshot, fingerprint, read
from erasurehead_jax.cluster.master import Master
from erasurehead_jax.cluster.signals import INTERRUPT
from erasurehead_jax.errors import Status, Stopped
from erasurehead_jax.job import Job, JobSpec, instantiate, make_optimizer
from erasurehead_jax.rundir.files import OUTCOME, write_json
from erasurehead_jax.rundir.recorder import Recorder, RoundRecord
from erasurehead_jax.rundir.versions import versions
from erasurehead_jax.tracking import AbstractTracking, Finished, report
from erasurehead_jax.update import iterate

ASKS = (INTERRUPT, signal.SIGTERM, signal.SIGUSR1)  # "end after this round": the launcher's, and a scheduler's
GOODBYE_SHARE = 0.5  # of shutdown_s; the rest is for ending a worker that hangs

log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """How the training loop ended: an exit status and, unless all is well, why."""

    status: int
    message: str


def lead(job: Job, spec: JobSpec, hosts: Sequence[str]) -> bool:
    """Trains and writes the run directory. Returns whether the ranks wait for another job.

    `spec` comes from the launcher: the resolved config, the chosen config files (choices), run_dir, the checkpoint to
    go on from (a path, or None), launched_s (seconds since the epoch), launcher (host and process id) and
    more (whether another job may follow). `hosts` are the workers'.
    """
    with _asked() as asked:
        return _lead(job, spec, hosts, lambda: bool(asked))


@contextlib.contextmanager
def _asked() -> Iterator[list[int]]:
    """The requests to end that have come."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in ASKS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lead(job: Job, spec: JobSpec, hosts: Sequence[str], asked: Callable[[], bool]) -> bool:
    run_dir, config = Path(spec.run_dir), spec.config
    master = Master(job, make_optimizer(config)(), hosts)
    checkpoints = Checkpoints(run_dir, config)
    recorder = _recorder(job, master, checkpoints, spec)
    startup_s = time.time() - spec.launched_s
    log.info("%d workers ready after %.1f s, compiled", master.protocol.alive.sum(), startup_s)

    try:
        ending = _train(job, master, recorder, checkpoints, asked)
        until_s = time.perf_counter() + GOODBYE_SHARE * config["cluster"]["shutdown_s"]
        log.info("%d rounds in %.3f s", recorder.history.count, recorder.clock_s)
        master.dismiss()
        master.staying(time.perf_counter() + 0.1 * config["cluster"]["shutdown_s"])
        recorder.evaluate()
        more = {"backend": "mpi", "startup_s": startup_s} | _counts(master, recorder)
        more["versions"] = versions() | {"mpi": transport.mpi_version()}
        summary = recorder.save(spec.choices["scheme"], hosts, more)
    finally:
        recorder.close()
    report(instantiate("tracking", config, AbstractTracking), Finished(run_dir, config, spec.choices, summary))
    hanging = master.staying(max(until_s, time.perf_counter() + 0.1 * config["cluster"]["shutdown_s"]))
    stay = spec.more and ending.status == Status.OK and not hanging and master.complete
    write_json(run_dir / OUTCOME, ending._asdict() | {"hanging": hanging, "stay": stay})
    if not hanging:
        return master.release_workers(stay)
    log.warning("workers %s hang: they are killed", hanging)
    while True:  # nothing more can be done from inside: the launcher ends every rank
        time.sleep(1)


def _recorder(job: Job, master: Master, checkpoints: Checkpoints, spec: JobSpec) -> Recorder:
    """The record of the run, and the master, as the checkpoint has them."""
    run_dir, x = Path(spec.run_dir), np.asarray(iterate(master.state))
    if spec.checkpoint is None:
        return Recorder(job, run_dir, x, checkpoints.folder)
    snapshot = read(Path(spec.checkpoint), fingerprint(spec.config), master.state)
    master.go_on(snapshot)
    return Recorder(job, run_dir, np.asarray(iterate(master.state)), checkpoints.folder, snapshot.progress)


def _train(job: Job, master: Master, recorder: Recorder, checkpoints: Checkpoints, asked: Callable[[], bool]) -> Ending:
    """The training loop. A round is recorded while the workers compute the next one, unless it is to be evaluated."""
    unwritten: list[RoundRecord] = []

    def save() -> None:
        checkpoints.save(Snapshot(recorder.progress, master.state, master.counters()), recorder.sync)

    def write() -> None:
        while unwritten:
            recorder.write(unwritten.pop())
            if checkpoints.due(recorder.history.count):
                save()

    ending = Ending(Status.OK, "")
    recorder.warm_up()
    master.start_clock(recorder.clock_s)
    try:
        for t in range(recorder.history.count, job.settings.rounds):
            finished = master.round(asked, meanwhile=write)
            if finished is None:
                ending = Ending(Status.TERMINATED, f"asked to end after {t} rounds")
                break
            unwritten.append(finished)
            if recorder.due(t):
                master.pause(write)
        write()
    except Stopped as error:
        ending = Ending(error.status, str(error))
    if ending.status in (Status.OK, Status.TERMINATED, Stopped.status):
        save()
    checkpoints.wait()
    return ending


def _counts(master: Master, recorder: Recorder) -> dict[str, Any]:
    """What became of the answers and of the workers."""
    protocol = master.protocol
    late, faulty = protocol.late_answers, protocol.faulty_answers
    return {
        "late_answers": late.sum(),
        "faulty_answers": faulty.sum(),
        "cancelled": master.asked - recorder.used - late.sum() - faulty.sum(),  # never received
        "lost_workers": [{"worker": worker, "round": round_} for worker, round_ in protocol.losses],
        "per_worker": {"late": late, "faulty": faulty, "suspected": master.suspected},
    }
