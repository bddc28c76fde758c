"""What both ends share: the tags, the packets, the naps. The only mpi4py import."""

import json
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

import mpi4py
import numpy as np

mpi4py.rc.initialize = mpi4py.rc.finalize = False  # a fork server imports this, and only its forks start MPI

from mpi4py import MPI  # noqa: E402


class Tag(IntEnum):
    """What an MPI message is. Message m of a round has the tag ANSWER + m."""

    MODEL = 1
    HELLO = 2  # a worker is ready, and touches these coordinates
    GOODBYE = 3  # a worker has taken the last model, and its answers have been received
    RELEASE = 4  # the master's reply to a goodbye
    JOB = 5
    INTRODUCTION = 6
    SIGN = 7  # of life
    ANSWER = 16


class Release(IntEnum):
    """What ranks do after a job."""

    END = 0
    SHRINK = 1  # end, after the dead have been cut off
    STAY = 2  # wait for the next job


REHEARSAL, STOP = -1, -2  # instead of a round: a model to answer at once, no more models
ALL = -1  # instead of coordinates: every one
HEADER = 16  # bytes: the round (int64) and the seconds to sleep first (float64)
FIRST_NAP_S, LONGEST_NAP_S = 50e-6, 2e-3
MASTER_NAP_S = 100e-6

Broken = MPI.Exception  # on a worker: the master is gone, there is nobody else that it speaks to


class Nap:
    """Sleeps that double from 50 us to 2 ms: quick to react when an answer is near, idle when it is not."""

    def __init__(self):
        self._next_s = FIRST_NAP_S

    def __call__(self, at_most_s: float = np.inf) -> None:
        """Sleeps once."""
        time.sleep(max(0.0, min(self._next_s, at_most_s)))
        self._next_s = min(2 * self._next_s, LONGEST_NAP_S)


class Packet:
    """A buffer that travels: a round, the sleep that the delay model injects, and a vector."""

    def __init__(self, length: int, dtype: np.dtype):
        self.bytes = np.zeros(HEADER + length * dtype.itemsize, np.uint8)
        self._round = self.bytes[:8].view(np.int64)
        self._delay_s = self.bytes[8:HEADER].view(np.float64)
        self.payload = self.bytes[HEADER:].view(dtype)

    @property
    def round(self) -> int:
        """The round this packet belongs to."""
        return int(self._round[0])

    @property
    def delay_s(self) -> float:
        """Seconds that the worker sleeps before it computes."""
        return float(self._delay_s[0])

    def label(self, round_: int, delay_s: float = 0.0) -> None:
        """Sets the header."""
        self._round[0] = round_
        self._delay_s[0] = delay_s


def start() -> None:
    """Starts MPI on this rank. Rank 0 has threads (tracking), but only its main one speaks MPI."""
    MPI.Init_thread(MPI.THREAD_FUNNELED)
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)


def rank() -> int:
    """This process's rank: 0 is the master, worker j is rank j + 1."""
    return MPI.COMM_WORLD.Get_rank()


def size() -> int:
    """The number of ranks."""
    return MPI.COMM_WORLD.Get_size()


def mpi_version() -> str:
    """The MPI library's name and version."""
    return MPI.Get_library_version().split(",")[0].strip("\0 ")


def introduce(mine: dict[str, Any]) -> list[dict[str, Any] | None]:
    """On rank 0 what all ranks say of themselves, None for one that has died; nothing on the others."""
    if rank() > 0:
        MPI.COMM_WORLD.Send(np.frombuffer(json.dumps(mine).encode(), np.uint8), 0, Tag.INTRODUCTION)
        return []
    said: list[dict[str, Any] | None] = [mine, *[None] * (size() - 1)]
    for j, words in from_everybody(Tag.INTRODUCTION, np.dtype(np.uint8), lambda *_: None):
        said[j + 1] = json.loads(words.tobytes())
    return said


def from_everybody(
    tag: int, dtype: np.dtype, lose: Callable[[int, MPI.Exception], None]
) -> Iterator[tuple[int, np.ndarray]]:
    """Waits for one message from every worker, as they come; `lose` is called for one that fails to send it."""
    comm, status, nap = MPI.COMM_WORLD, MPI.Status(), Nap()
    silent = set(range(size() - 1))
    while silent:
        nap()
        for j in sorted(silent):
            try:
                if not comm.Iprobe(j + 1, tag, status):
                    continue
                message = np.empty(status.Get_count(MPI.BYTE) // dtype.itemsize, dtype)
                comm.Recv(message, j + 1, tag)
                yield j, message
            except MPI.Exception as error:
                lose(j, error)
            silent.remove(j)


def hand_out(job: str) -> None:
    """Gives the next job to every worker that waits in `take_job`; an empty one: there are no more."""
    for j in range(1, size()):
        MPI.COMM_WORLD.Send(np.frombuffer(job.encode(), np.uint8), j, Tag.JOB)


def take_job() -> str:
    """Waits for the master's next job; empty if there are no more."""
    comm, status, nap = MPI.COMM_WORLD, MPI.Status(), Nap()
    while not comm.Iprobe(0, Tag.JOB, status):
        nap()
    job = np.empty(status.Get_count(MPI.BYTE), np.uint8)
    comm.Recv(job, 0, Tag.JOB)
    return job.tobytes().decode()


def finalize() -> None:
    """Ends MPI on this rank."""
    MPI.Finalize()
