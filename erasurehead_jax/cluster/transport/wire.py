"""The part shared by both ends: tags, packets and polling. The only mpi4py import."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from enum import IntEnum
from typing import Any

import mpi4py
import numpy as np

mpi4py.rc.initialize = mpi4py.rc.finalize = False  # the fork server imports this, and only its children start MPI

from mpi4py import MPI  # noqa: E402


class Tag(IntEnum):
    """The kinds of MPI messages. Message m of a round has the tag ANSWER + m."""

    MODEL = 1
    HELLO = 2  # a worker is ready; lists the coordinates that it touches
    GOODBYE = 3  # a worker has finished, and all its answers have been received
    RELEASE = 4  # the master's reply to a goodbye
    JOB = 5
    INTRODUCTION = 6
    SIGN = 7  # a heartbeat
    REPORT = 8  # whether a worker can do the job; why not
    ANSWER = 16


class Release(IntEnum):
    """What the ranks do after a job."""

    END = 0
    SHRINK = 1  # remove dead ranks from the communicator, then end
    STAY = 2  # wait for the next job


REHEARSAL, STOP = -1, -2  # in place of a round: a discarded trial round; no more models
HEADER = 16  # bytes: the round (int64) and the injected delay in seconds (float64)
FIRST_NAP_S, LONGEST_NAP_S = 50e-6, 2e-3
MASTER_NAP_S = 100e-6

Broken = MPI.Exception  # on a worker it means that the master is lost, its only peer


class Nap:
    """Sleeps that double from 50 us to 2 ms: fast at first, and idle in a long wait."""

    def __init__(self):
        self._next_s = FIRST_NAP_S

    def __call__(self, at_most_s: float = np.inf) -> None:
        """Sleeps once."""
        time.sleep(max(0.0, min(self._next_s, at_most_s)))
        self._next_s = min(2 * self._next_s, LONGEST_NAP_S)


class Packet:
    """A message buffer: a round, the injected delay and a vector."""

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
        """The injected delay: seconds that the worker sleeps before it computes."""
        return float(self._delay_s[0])

    def label(self, round_: int, delay_s: float = 0.0) -> None:
        """Sets the header."""
        self._round[0] = round_
        self._delay_s[0] = delay_s


def start() -> None:
    """Starts MPI on this rank. Rank 0 has other threads (tracking), but only the main one calls MPI."""
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
    """Collects the introductions of all ranks on rank 0, None for one that has died. Empty on other ranks."""
    if rank() > 0:
        MPI.COMM_WORLD.Send(np.frombuffer(json.dumps(mine).encode(), np.uint8), 0, Tag.INTRODUCTION)
        return []
    introductions: list[dict[str, Any] | None] = [mine, *[None] * (size() - 1)]
    for j, content in from_everybody(Tag.INTRODUCTION, np.dtype(np.uint8), lambda *_: None):
        introductions[j + 1] = json.loads(content.tobytes())
    return introductions


def from_everybody(
    tag: int, dtype: np.dtype, lose: Callable[[int, MPI.Exception], None], absent: Collection[int] = ()
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields one message from every worker, in order of arrival; calls `lose` for a worker that fails to send it.

    Nothing is expected from the workers in `absent`.
    """
    comm, status, nap = MPI.COMM_WORLD, MPI.Status(), Nap()
    silent = set(range(size() - 1)).difference(absent)
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
    """Sends the next job to every worker that waits in `take_job`; an empty one means that there are no more."""
    for j in range(1, size()):
        _send_job(j, job)


def hand_out_without(absent: Collection[int], job: str) -> set[int]:
    """The same to all workers but these. Returns the absent ones, with those that turned out to be dead."""
    missing = set(absent)
    for j in sorted(set(range(size() - 1)) - missing):
        try:
            _send_job(j + 1, job)
        except MPI.Exception as error:
            require_dead(error)
            missing.add(j)
    return missing


def take_job() -> str:
    """Waits for the master's next job; empty if there are no more."""
    length, nap = np.zeros(1, np.int64), Nap()
    coming = MPI.COMM_WORLD.Irecv(length, 0, Tag.JOB)
    while not coming.Test():  # a probe would not notice that the master has died
        nap()
    job = np.empty(length[0], np.uint8)
    MPI.COMM_WORLD.Recv(job, 0, Tag.JOB)
    return job.tobytes().decode()


def _send_job(rank: int, job: str) -> None:
    content = np.frombuffer(job.encode(), np.uint8)
    MPI.COMM_WORLD.Send(np.array([len(content)]), rank, Tag.JOB)
    MPI.COMM_WORLD.Send(content, rank, Tag.JOB)


def report(reason: str) -> None:
    """Tells the master why this worker cannot do the job that it took; empty if it can."""
    MPI.COMM_WORLD.Send(np.frombuffer(reason.encode(), np.uint8), 0, Tag.REPORT)


def reports(absent: Collection[int]) -> tuple[list[str], set[int]]:
    """The reports of all workers but these, and the absent ones, with those that died before their report."""
    missing = set(absent)

    def lose(worker: int, error: MPI.Exception) -> None:
        require_dead(error)
        missing.add(worker)

    messages = from_everybody(Tag.REPORT, np.dtype(np.uint8), lose, absent)
    return [content.tobytes().decode() for _, content in messages], missing


def require_dead(error: MPI.Exception) -> None:
    """Raises any error other than the death of the other process."""
    if error.Get_error_class() != MPI.ERR_PROC_FAILED:
        raise error


def shrink() -> None:
    """Removes dead ranks, with which MPI_Finalize would hang; all others must call it too."""
    MPI.COMM_WORLD.Shrink()


def finalize() -> None:
    """Ends MPI on this rank."""
    MPI.Finalize()
