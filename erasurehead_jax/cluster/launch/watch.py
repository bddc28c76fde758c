"""Starts the ranks, watches them, reuses them for the next job of a multirun, and cleans up after them."""

import atexit
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from erasurehead_jax.cluster.launch import command
from erasurehead_jax.cluster.launch.environment import environment
from erasurehead_jax.cluster.launch.explain import explain
from erasurehead_jax.cluster.launch.output import Output
from erasurehead_jax.cluster.signals import INTERRUPT, Connected, Failed, Message, Outcome, Refused, Started
from erasurehead_jax.errors import ConfigError, Status
from erasurehead_jax.job import JobSpec
from erasurehead_jax.rundir.files import LOG, NEXT, replacing
from erasurehead_jax.rundir.life import Ending

LOOK_EVERY_S = 0.2
LOOKS = 3  # missing this often, a rank counts as dead: the command line of a starting process may be empty
FOLLOW_S = 3.0  # from the end of the master, or a failure, to the end of mpirun or srun
GRACE_S = 8.0  # from SIGTERM to SIGKILL; prterun needs about 2 s to end its ranks


class Ranks(NamedTuple):
    """The ranks that were started, and the kind of jobs that can reuse them."""

    starter: subprocess.Popen  # mpirun or srun
    output: Output
    kind: tuple[Any, ...]  # program, options, workers
    run_dir: Path  # of the last job, where the ranks look for the next one


_waiting: list[Ranks] = []  # at most one; its ranks have finished a job and wait for another


@dataclass
class Progress:
    """The progress of a job, according to its messages."""

    connected: bool = False
    started: bool = False
    outcome: Outcome | None = None
    failed: Failed | Refused | None = None  # the first

    def take(self, message: Message) -> None:
        """Updates the progress."""
        match message:
            case Connected():
                self.connected = True
            case Started():
                self.started = True
            case Outcome():
                self.outcome = message
            case Failed() | Refused() if self.outcome is None:
                self.failed = self.failed or message

    @property
    def stay(self) -> bool:
        """Whether the ranks wait for another job."""
        return self.outcome is not None and self.outcome.stay


def run_ranks(spec: JobSpec, watch: Callable[[], None]) -> Ending:
    """Runs a job on rank 0 and the workers.

    If `more` jobs may follow, the ranks then wait for the next one. They end with `end_waiting`, with this process, or
    when a job needs different ranks, fails or loses a worker.

    `watch` is called regularly. Ctrl-C, SIGTERM and SIGUSR1 request a stop after the current round. A second signal, or
    SIGHUP, ends the ranks at once.

    Raises ConfigError if the job cannot run for a reason that the user can fix.
    """
    requests: list[int] = []
    cluster, log = spec.config["cluster"], Path(spec.run_dir) / LOG
    kind = (cluster["program"], cluster["options"], spec.config["workers"])
    with handling(requests):
        ranks, progress = _hand_over(spec, kind), Progress(connected=True)
        if ranks:
            ranks.output.follow(log)
            attend(ranks, spec, watch, requests, progress)
        if ranks is None or not (requests or progress.started):  # a rank has died since the last job
            ranks, progress = start(spec, kind, log), Progress()
            attend(ranks, spec, watch, requests, progress)
    watch()
    return _ending(spec, ranks, progress, requests)


def end_waiting() -> None:
    """Ends the ranks that wait for another job."""
    while _waiting:
        ranks = _waiting.pop()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            _leave_job(ranks.run_dir, "")
            ranks.starter.wait(FOLLOW_S)
        _end(ranks)


atexit.register(end_waiting)


def _hand_over(spec: JobSpec, kind: tuple[Any, ...]) -> Ranks | None:
    """Hands the job to the waiting ranks, if they suit it."""
    if _waiting and _waiting[0].kind == kind and spec.more:
        with contextlib.suppress(OSError):  # the directory was removed
            _leave_job(_waiting[0].run_dir, spec.to_json())
            return _waiting.pop()
    end_waiting()
    return None


def _leave_job(run_dir: Path, job: str) -> None:
    """Writes the next job where the ranks look for it; an empty one means that there are no more."""
    with replacing(run_dir / NEXT) as partial:
        partial.write_text(job)


def start(spec: JobSpec, kind: tuple[Any, ...], log: Path) -> Ranks:
    """Starts ranks, whose output goes to this log."""
    starter = subprocess.Popen(
        command.command(spec),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        start_new_session=True,  # Ctrl-C in the terminal reaches only this process, which forwards it
    )
    assert starter.stdout is not None
    return Ranks(starter, Output(starter.stdout, log), kind, Path(spec.run_dir))


def attend(
    ranks: Ranks,
    spec: JobSpec,
    watch: Callable[[], None],
    requests: list[int],
    progress: Progress,
    pass_on: Callable[[int], None] | None = None,
) -> None:
    """Waits until the job has ended; its ranks then wait for another one, or are ended.

    The first signal in `requests` is passed on once the job has started: to the ranks, unless `pass_on` does so.
    """
    pass_on = pass_on or (lambda _: ranks.starter.send_signal(INTERRUPT))
    try:
        _wait(ranks, watch, requests, spec.config["cluster"]["startup_s"], progress, pass_on)
    finally:
        if progress.stay:
            _waiting.append(ranks._replace(run_dir=Path(spec.run_dir)))
        else:
            _end(ranks)
            while message := ranks.output.next_message(0.0):
                progress.take(message)


def _wait(
    ranks: Ranks,
    watch: Callable[[], None],
    requests: list[int],
    startup_s: float | int,
    progress: Progress,
    pass_on: Callable[[int], None],
) -> None:
    """Waits until mpirun or srun has ended or, once a rank has reported an outcome or a failure, for FOLLOW_S more.

    A rank that dies before MPI_Init completes leaves the others there for ever: this ends the job at once if the rank
    was on this machine, else after `startup_s`.
    """
    passed_on, over_s, most, fewer, ready_s = False, None, 0, 0, time.monotonic() + startup_s
    while ranks.starter.poll() is None:
        if message := ranks.output.next_message(LOOK_EVERY_S):
            progress.take(message)
        watch()
        if requests and not progress.started:
            return  # there is nothing to save
        here = 0 if progress.connected else _ranks_here(ranks.starter.pid)
        fewer = fewer + 1 if here < most and not progress.connected else 0
        most = max(most, here)
        if not progress.started and (fewer >= LOOKS or time.monotonic() > ready_s):
            progress.take(Failed("a rank died or hung while the job was starting"))
            return
        if requests and not passed_on:
            pass_on(requests[0])
            passed_on = True
        if over_s is None and (progress.outcome or progress.failed):
            at_once = progress.outcome and (progress.outcome.hanging or progress.outcome.stay)
            over_s = time.monotonic() + (0 if at_once else FOLLOW_S)
        if over_s is not None and time.monotonic() > over_s:
            return


def _ending(spec: JobSpec, ranks: Ranks, progress: Progress, requests: list[int]) -> Ending:
    interrupted = bool(requests) and requests[0] == signal.SIGINT
    if progress.outcome is None and not requests and (reason := refusal(ranks, progress)):
        raise ConfigError(f"{reason}; see {Path(spec.run_dir) / LOG}")
    if interrupted:
        return Ending(Status.INTERRUPTED, "interrupted")
    if progress.outcome:
        status, message = Status(progress.outcome.status), progress.outcome.message
        stops = bool(requests) and status == Status.OK and spec.more
        return Ending(Status.TERMINATED, "stopped on request after this run") if stops else Ending(status, message)
    if requests:
        return Ending(Status.TERMINATED, "stopped on request before the first round")
    if isinstance(progress.failed, Failed):
        text = progress.failed.text.rstrip()
    else:
        text = (
            f"the master (rank 0) is lost ({spec.config['cluster']['program']} exited with {ranks.starter.returncode})"
        )
    return Ending(Status.FAILED, f"{text}\nsee {Path(spec.run_dir) / LOG}")


def refusal(ranks: Ranks, progress: Progress) -> str | None:
    """Why a job without an outcome could not run, if the user can fix that."""
    if isinstance(progress.failed, Refused):
        return progress.failed.reason
    return None if progress.connected else explain(ranks.output.text)


def _ranks_here(pid: int) -> int:
    """The number of ranks that mpirun has started on this machine; 0 where /proc does not show it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    mpirun = _command_line(str(pid))  # a child just forked for ssh has it too
    return sum(command.STUB.encode() in line != mpirun for line in map(_command_line, children))


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextlib.contextmanager
def handling(requests: list[int]) -> Iterator[None]:
    """Collects Ctrl-C and requests to stop, except signals that are ignored (as a shell does for `&`).

    Only the main thread of a process can: elsewhere the run goes on to its end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def collect(number: int, _: object) -> None:
        requests.append(number)
        if number == signal.SIGHUP or len(requests) > 1:
            raise SystemExit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, collect)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _end(ranks: Ranks) -> None:
    starter = ranks.starter
    if starter.poll() is None:
        starter.terminate()
        try:
            starter.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(starter.pid, signal.SIGKILL)
            starter.wait()
    ranks.output.close(FOLLOW_S)
    with contextlib.suppress(OSError):
        (ranks.run_dir / NEXT).unlink(missing_ok=True)
