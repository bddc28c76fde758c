"""Ranks at the service of a script: the workers wait, and do the job of one `with` block after another."""

import contextlib
import logging
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from erasurehead_jax.cluster import transport
from erasurehead_jax.cluster.lead import GOODBYE_SHARE
from erasurehead_jax.cluster.parcel import parcel
from erasurehead_jax.cluster.rounds import Rounds
from erasurehead_jax.cluster.worker import work
from erasurehead_jax.errors import ConfigError, Stopped
from erasurehead_jax.job import Job, JobSpec, Parts, build
from erasurehead_jax.loop.rounds import NOT_FINITE, AbstractRounds, Info, Setup
from erasurehead_jax.loop.sent import SentLoss, sent_dataset

# What a worker may be handed out in place of a job.
BEGIN, END, END_WITHOUT_THE_DEAD = "begin", "", "end without the dead"

log = logging.getLogger(__name__)


def wait_for_jobs(prepare: Callable[[JobSpec], Job]) -> None:
    """A worker's part: works until the script has ended. `prepare` raises ConfigError if a job is not for this host."""
    job: Job | None = None
    while (text := transport.take_job()) not in (END, END_WITHOUT_THE_DEAD):
        if text == BEGIN:
            assert job is not None
            work(job, transport.rank() - 1)
            continue
        job = None  # frees the data of the last one
        spec = JobSpec.from_json(text)
        try:
            require_shared(Path(spec.run_dir))
            job = prepare(spec)
            transport.report("")
        except ConfigError as error:
            transport.report(str(error))
    if text == END_WITHOUT_THE_DEAD:
        transport.shrink()


def require_shared(folder: Path) -> None:
    """Raises ConfigError on a host that cannot see the folder in which a job's objects are."""
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: does not exist on {platform.node()}, where a worker is; set TMPDIR to a folder that all hosts "
            "share"
        )


class Lender:
    """Rank 0's part: has the workers do the jobs of the script's with blocks."""

    def __init__(self, spec: JobSpec, hosts: Sequence[str]):
        self._spec, self._hosts = spec, hosts
        self._absent: set[int] = set()  # workers that are dead or hang
        self._hanging: list[int] = []
        self._kept: list[Rounds] = []  # with buffers that hanging workers may still write to
        self._waiting = True  # whether all other workers wait for a job
        self.asked = False  # whether the script has opened a with block

    @contextlib.contextmanager
    def rounds(self, setup: Setup) -> Iterator[AbstractRounds]:
        """The rounds of a with block. Raises ConfigError if they are not for these workers."""
        self.asked, workers = True, setup.scheme.code.workers
        if workers != len(self._hosts):
            raise ConfigError(
                f"scheme: has {workers} workers, but this script was started with {len(self._hosts)}; use -n {workers}"
            )
        loss = SentLoss(setup.loss.exported(setup.rows), setup.loss.parameters.count)
        parts = Parts(sent_dataset(setup.rows), loss, setup.scheme, setup.delay, _nothing, None, ())
        with interrupts_deferred():
            rounds = self._begin(setup, parts)
        try:
            yield CodedRounds(rounds)
        finally:
            with interrupts_deferred():
                self._end(rounds, setup.config["cluster"]["shutdown_s"])

    def _begin(self, setup: Setup, parts: Parts) -> Rounds:
        job = build(setup.config, parts, data_checked=True)
        spec = self._spec._replace(config=setup.config, parts=True)
        with parcel(Path(spec.run_dir), parts):
            self._hand_out(spec.to_json())
            refusals, self._absent = transport.reports(self._absent)
        for refusal in filter(None, refusals):
            raise ConfigError(refusal)
        self._hand_out(BEGIN)
        self._waiting = False
        rounds = Rounds(job, self._hosts, absent=self._absent)
        start = rounds.rehearse([setup.start] * job.sampling.points)
        if not np.isfinite(start.sum()):
            self._end(rounds, setup.config["cluster"]["shutdown_s"])
            raise ConfigError(NOT_FINITE)
        rounds.start_clock(0.0)
        rounds.halt()
        return rounds

    def _hand_out(self, text: str) -> None:
        self._absent = transport.hand_out_without(self._absent, text)
        if len(self._absent) == len(self._hosts):
            raise Stopped("all workers are lost")

    def _end(self, rounds: Rounds, shutdown_s: float) -> None:
        rounds.dismiss()
        hanging = rounds.staying(time.perf_counter() + GOODBYE_SHARE * shutdown_s)
        if hanging:
            log.warning("workers %s hang; this script goes on without them", hanging)
            self._kept.append(rounds)
            self._hanging += hanging
        self._absent = rounds.keep_workers(hanging)
        self._waiting = True

    @property
    def hanging(self) -> list[int]:
        """Workers that will not end by themselves: all, if the script has left a with block open."""
        return self._hanging if self._waiting else list(range(len(self._hosts)))

    def close(self) -> None:
        """Ends the workers, of which none may hang."""
        absent = transport.hand_out_without(self._absent, END_WITHOUT_THE_DEAD if self._absent else END)
        if absent:
            transport.shrink()


class CodedRounds(AbstractRounds):
    """Rounds on MPI ranks; the clock stands still while the script is busy with something else."""

    def __init__(self, rounds: Rounds):
        self._rounds = rounds

    def gradient(self, x: Float[np.ndarray, " d"]) -> tuple[Float[np.ndarray, " d"], Info]:
        with interrupts_deferred() as interrupted:
            self._rounds.go_on()
            try:
                collected = self._rounds.collect([x], interrupted)
                if collected is None:
                    raise KeyboardInterrupt
                decoded = collected.decoded.copy()
                done = self._rounds.finish(collected, np.nan, x, interrupted)
            finally:
                self._rounds.halt()
        return decoded, Info(*(getattr(done, name) for name in Info._fields))


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[Callable[[], bool]]:
    """Ctrl-C takes effect at the end of the block: it must not cut an MPI call short.

    Yields whether the block should end early. A handler of the script's own may want the round to be completed.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("gradient: is called in another thread; on real ranks only the main thread can")
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield lambda: bool(pressed) and before is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def _nothing() -> None:
    """Instead of an optimizer: a script has its own."""
