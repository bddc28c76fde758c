"""Communication between ranks and launcher: one signal, and messages on the ranks' standard output.

Standard output reaches the launcher through mpirun or srun, from every host, and does not depend on the disk, which may
have failed. Everything else that is printed goes to the log.
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

INTERRUPT = signal.SIGUSR2  # "stop after this round": sent by the launcher on Ctrl-C; mpirun forwards it to every rank
CONNECTED = "all ranks are connected"  # in the log of a job for which ranks were started
MARK = "\x1eerasurehead-jax "
PR_SET_PDEATHSIG = 1  # of prctl(2)
LONGEST = 3000  # characters of a text: a line below 4096 bytes is written atomically


@dataclass(frozen=True)
class Connected:
    """All ranks are connected: from now on a rank may be lost."""


@dataclass(frozen=True)
class Started:
    """All workers are ready, and the first round begins."""


@dataclass(frozen=True)
class Outcome:
    """The job has ended, and its run directory is complete."""

    status: int
    message: str  # empty on success
    hanging: list[int]  # workers that do not end by themselves
    stay: bool  # whether the ranks wait for another job


@dataclass(frozen=True)
class Refused:
    """The job cannot run, for a reason that the user can fix."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """A rank has failed with an error."""

    text: str


Message = Connected | Started | Outcome | Refused | Failed
KINDS = {kind.__name__: kind for kind in (Connected, Started, Outcome, Refused, Failed)}


_channel = 1  # standard output


def keep_channel() -> None:
    """Lets messages reach the launcher although standard output is about to be replaced."""
    global _channel
    _channel = os.dup(1)


def send(message: Message) -> None:
    """Sends a message from a rank to the launcher, in a single write."""
    content = {name: _short(value) for name, value in asdict(message).items()}
    line = f"\n{MARK}{type(message).__name__} {json.dumps(content)}\n"
    os.write(_channel, line.encode())


def receive(line: str) -> Message | None:
    """The message in a line of output, or None."""
    if not line.startswith(MARK):
        return None
    kind, _, content = line.removeprefix(MARK).partition(" ")
    try:
        return KINDS[kind](**json.loads(content))
    except (KeyError, TypeError, ValueError):  # interleaved with another rank's output
        return None


def end_with_parent() -> None:
    """Ends this process when its parent ends; on Linux even while it is stopped."""
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
