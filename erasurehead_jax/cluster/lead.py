"""Rank 0's part of a run: train on the clock, then evaluate, sum up and report off the clock."""

import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from erasurehead_jax.cluster import transport
from erasurehead_jax.cluster.master import Master
from erasurehead_jax.cluster.rank import INTERRUPT
from erasurehead_jax.job import Job, instantiate, make_optimizer
from erasurehead_jax.recorder import Recorder, RoundRecord, versions

log = logging.getLogger(__name__)


def lead(job: Job, spec: dict[str, Any]) -> None:
    """Trains and writes the run directory.

    `spec` comes from the launcher: the resolved config, the chosen config files (choices), run_dir, launched_s (seconds
    since the epoch) and launcher (host and process id).
    """
    interrupts: list[int] = []
    signal.signal(INTERRUPT, lambda number, _: interrupts.append(number))
    run_dir, config, code = Path(spec["run_dir"]), spec["config"], job.scheme.code
    master = Master(job, make_optimizer(config)())
    startup_s = time.time() - spec["launched_s"]
    log.info("%d workers ready after %.1f s, compiled", code.workers, startup_s)

    recorder = Recorder(job, run_dir)
    try:
        _train(job, master, recorder, lambda: bool(interrupts))
        log.info("%d rounds in %.3f s", len(recorder.history.rows), recorder.clock_s)
        recorder.evaluate()
    finally:
        recorder.close()
    late_answers, sent = master.protocol.late_answers, (master.protocol.round + 1) * code.messages
    more = {
        "backend": "mpi",
        "startup_s": startup_s,
        "late_answers": late_answers,
        "cancelled": sent - recorder.used - late_answers,  # never received
        "lost_workers": [],
        "versions": versions() | {"mpi": transport.mpi_version()},
    }
    summary = recorder.save(spec["choices"]["scheme"], more)
    master.stop()  # only now: a worker that hangs must not cost the run its results
    instantiate("tracking", config).report(run_dir, config, recorder.history.rows, summary)


def _train(job: Job, master: Master, recorder: Recorder, interrupted: Callable[[], bool]) -> None:
    """The training loop. A round is recorded while the workers compute the next one, unless it is to be evaluated."""
    unwritten: list[RoundRecord] = []

    def write() -> None:
        while unwritten:
            recorder.write(unwritten.pop())

    recorder.warm_up()
    master.start_clock()
    for t in range(job.rounds):
        finished = master.round(interrupted, meanwhile=write)
        if finished is None:
            break
        unwritten.append(finished)
        if recorder.due(t):
            master.pause(write)
    write()
