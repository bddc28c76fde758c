"""Starts the ranks, watches them, keeps them for the next job of a multirun, and cleans up after them."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from erasurehead_jax.cluster.launch import command as start
from erasurehead_jax.cluster.signals import CONNECTED, INTERRUPT
from erasurehead_jax.errors import ConfigError, Status
from erasurehead_jax.job import JobSpec
from erasurehead_jax.rundir.files import ERROR, HISTORY, LOG, NEXT, OUTCOME, replacing

LOOK_EVERY_S = 0.2
LOOKS = 3  # until a rank that is not seen is dead: while a process starts, its command line may be empty
FOLLOW_S = 3.0  # from the master's end, or a rank's failure, to that of what started it
GRACE_S = 8.0  # from SIGTERM to SIGKILL; prterun needs about 2 s to end its ranks


class Ranks(NamedTuple):
    """What was started, and for which jobs it will do."""

    starter: subprocess.Popen  # mpirun or srun
    kind: tuple[Any, ...]  # program, options, workers
    run_dir: Path  # of the last job: they look there for the next one


_waiting: list[Ranks] = []  # at most one: they have done their job, and wait for another


def run_ranks(spec: JobSpec, watch: Callable[[], None]) -> tuple[int, str]:
    """Runs rank 0 and the workers through a job; returns the exit status and why it is not 0.

    If `more` jobs may follow, the ranks then wait for the next one. They end with `end_waiting`, with this process, or
    when a job needs other ones, fails or loses a worker.

    `watch` is called now and then. Ctrl-C, SIGTERM and SIGUSR1 ask the master to end after its round; Ctrl-C is raised
    again when the ranks have ended. A second one, or a SIGHUP, ends the ranks at once.

    Raises ConfigError if the ranks have not started for a reason that a user can mend.
    """
    run_dir = Path(spec.run_dir)
    for name in (OUTCOME, ERROR):
        (run_dir / name).unlink(missing_ok=True)
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        if number == signal.SIGHUP or len(asked) > 1:
            sys.exit(128 + number)

    before = _stamp(run_dir / HISTORY)  # of an earlier session, if the run is resumed
    cluster = spec.config["cluster"]
    kind = (cluster["program"], cluster["options"], spec.config["workers"])
    said_before = (run_dir / LOG).stat().st_size if (run_dir / LOG).exists() else 0
    with (run_dir / LOG).open("ab") as log, _handling(ask):
        ranks = _hand_over(spec, kind)
        returned = _attend(ranks, spec, watch, asked, connected=True) if ranks else None
        unused = not asked and not (run_dir / OUTCOME).exists() and _stamp(run_dir / HISTORY) == before
        if ranks is None or unused:  # some rank may have died since its last job
            (run_dir / ERROR).unlink(missing_ok=True)
            ranks = Ranks(_start(spec, log), kind, run_dir)
            returned = _attend(ranks, spec, watch, asked, connected=False)
    watch()
    status, told = _outcome(run_dir, asked, returned)
    said = (run_dir / LOG).read_bytes()[said_before:].decode(errors="replace")
    if status == Status.FAILED and CONNECTED not in said and (reason := start.explain(said)):
        raise ConfigError(f"{reason}; see {run_dir / LOG}")
    if asked and asked[0] == signal.SIGINT:
        raise KeyboardInterrupt
    if asked and status == Status.OK and spec.more:
        return Status.TERMINATED, "asked to end after this run"
    return status, told


def end_waiting() -> None:
    """Lets ranks that wait for another job end."""
    while _waiting:
        ranks = _waiting.pop()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            _leave_job(ranks.run_dir, "")
            ranks.starter.wait(FOLLOW_S)
        _end(ranks.starter)
        (ranks.run_dir / NEXT).unlink(missing_ok=True)


atexit.register(end_waiting)


def _hand_over(spec: JobSpec, kind: tuple[Any, ...]) -> Ranks | None:
    """Gives the job to the ranks that wait for one, if they will do."""
    if _waiting and _waiting[0].kind == kind and spec.more:
        with contextlib.suppress(OSError):  # somebody has removed the directory
            _leave_job(_waiting[0].run_dir, spec.to_json())
            return _waiting.pop()
    end_waiting()
    return None


def _leave_job(run_dir: Path, job: str) -> None:
    """Where the ranks whose last job had this run directory look for the next one; empty: there are no more."""
    with replacing(run_dir / NEXT) as partial:
        partial.write_text(job)


def _start(spec: JobSpec, log: IO[bytes]) -> subprocess.Popen:
    return subprocess.Popen(
        start.command(spec),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=start.environment(),
        start_new_session=True,  # the terminal's Ctrl-C is for this process, which passes it on
    )


def _attend(ranks: Ranks, spec: JobSpec, watch: Callable[[], None], asked: list[int], connected: bool) -> int | None:
    """Until the job is over; the ranks then wait for another, or have ended, with this exit status."""
    run_dir, stay = Path(spec.run_dir), False
    try:
        _wait(ranks.starter, run_dir, watch, asked, spec.config["cluster"]["startup_s"], connected)
        stay = _said(run_dir, "stay")
    finally:
        if stay:
            _waiting.append(ranks._replace(run_dir=run_dir))
        else:
            _end(ranks.starter)
            (ranks.run_dir / NEXT).unlink(missing_ok=True)
    return ranks.starter.returncode


def _outcome(run_dir: Path, asked: list[int], returned: int | None) -> tuple[int, str]:
    outcome, error = run_dir / OUTCOME, run_dir / ERROR
    if outcome.exists():
        found = json.loads(outcome.read_text())
        outcome.unlink()
        return found["status"], found["message"]
    if asked:
        return Status.TERMINATED, "asked to end before the first round"
    told = error.read_text() if error.exists() else f"rank 0, the master, is lost (its starter ended with {returned})"
    return Status.FAILED, f"{told.rstrip()}\nsee {run_dir / LOG}"


def _wait(
    ranks: subprocess.Popen,
    run_dir: Path,
    watch: Callable[[], None],
    asked: list[int],
    startup_s: float,
    connected: bool,
) -> None:
    """Until mpirun or srun has ended, or rank 0 is done or failed and they had a while to follow, if they are to end.

    A rank that dies before MPI_Init is through leaves the others there for ever: that ends the job at once if it was on
    this machine, else after `startup_s`.
    """
    passed_on, over_s, most, fewer, ready_s = False, None, 0, 0, time.monotonic() + startup_s
    log, began = run_dir / LOG, (run_dir / LOG).stat().st_size
    before = _stamp(run_dir / HISTORY)  # of an earlier session, if the run is resumed
    while ranks.poll() is None:
        watch()
        starting = _stamp(run_dir / HISTORY) == before
        if asked and starting:
            return  # nothing to keep
        connected = connected or CONNECTED.encode() in log.read_bytes()[began:]
        here = 0 if connected else _ranks_here(ranks.pid)
        fewer = fewer + 1 if here < most and not connected else 0
        if starting and (fewer >= LOOKS or time.monotonic() > ready_s):
            (run_dir / ERROR).write_text("a rank died, or hangs, while the job was starting\n")
            return
        most = max(most, here)
        if asked and not passed_on:
            ranks.send_signal(INTERRUPT)
            passed_on = True
        if over_s is None and ((run_dir / OUTCOME).exists() or (run_dir / ERROR).exists()):
            over_s = time.monotonic() + (0 if _said(run_dir, "hanging") or _said(run_dir, "stay") else FOLLOW_S)
        if over_s is not None and time.monotonic() > over_s:
            return
        time.sleep(LOOK_EVERY_S)


def _said(run_dir: Path, name: str) -> bool:
    """What the master has left word of: that some worker will never end by itself, or that all wait for another job."""
    outcome = run_dir / OUTCOME
    return outcome.exists() and bool(json.loads(outcome.read_text())[name])


def _ranks_here(pid: int) -> int:
    """How many ranks mpirun has started on this machine; 0 where the system does not tell."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    mpirun = _command_line(str(pid))  # also that of a child that has just been forked, and will be an ssh
    return sum(start.MODULE.encode() in line != mpirun for line in map(_command_line, children))


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _stamp(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Ctrl-C and requests to end go to `handler`, except those that are ignored (as a shell does for `&`)."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _end(ranks: subprocess.Popen) -> None:
    if ranks.poll() is None:
        ranks.terminate()
        try:
            ranks.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(ranks.pid, signal.SIGKILL)
            ranks.wait()
