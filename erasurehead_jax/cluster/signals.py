"""How ranks and launcher communicate beside training: one signal, and messages on the ranks' standard output.

Standard output reaches the launcher through mpirun or srun, from every host, and does not need the disk that may have
just failed. Everything else that is printed goes to the log.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

INTERRUPT = signal.SIGUSR2  # "end after this round": what the launcher makes of Ctrl-C; mpirun passes it to every rank
CONNECTED = "all ranks are connected"  # in the log: ranks were started for this job
MARK = "\x1eerasurehead-jax "
PR_SET_PDEATHSIG = 1  # of prctl(2)
LONGEST = 3000  # characters of a text: a line below 4096 bytes travels in one piece


@dataclass(frozen=True)
class Connected:
    """All ranks have found each other: from here on one may die."""


@dataclass(frozen=True)
class Started:
    """All workers are ready, and the first round begins."""


@dataclass(frozen=True)
class Outcome:
    """The job is over, and its run directory complete."""

    status: int
    message: str  # empty if all is well
    hanging: list[int]  # workers that will never end by themselves
    stay: bool  # the ranks wait for another job


@dataclass(frozen=True)
class Refused:
    """The job cannot run, for a reason that a user can mend."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """A rank ends with an error."""

    text: str


Message = Connected | Started | Outcome | Refused | Failed
KINDS = {kind.__name__: kind for kind in (Connected, Started, Outcome, Refused, Failed)}


def send(message: Message) -> None:
    """From a rank to the launcher, in a single write."""
    content = {name: _short(value) for name, value in asdict(message).items()}
    line = f"\n{MARK}{type(message).__name__} {json.dumps(content)}\n"
    os.write(1, line.encode())


def receive(line: str) -> Message | None:
    """The message in a line of output; None if there is none."""
    if not line.startswith(MARK):
        return None
    kind, _, content = line.removeprefix(MARK).partition(" ")
    try:
        return KINDS[kind](**json.loads(content))
    except (KeyError, TypeError, ValueError):  # torn, by another rank's output
        return None


def end_with_parent() -> None:
    """From now on this process does not outlive its parent; on Linux not even while it is stopped."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _short(value: Any) -> Any:
    return value[-LONGEST:] if isinstance(value, str) else value
