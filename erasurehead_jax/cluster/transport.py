"""Messages between master and workers over MPI: the only mpi4py import.

Nothing piles up. A model for a worker waits in a mailbox of one: while the previous send is unfinished, only the newest
model is remembered. Sends are synchronous-mode (`Issend`), so they finish when the receiver has begun to take the
message, however small it is; a buffer is written again only after its send finished, and no send is ever cancelled.
Receives are posted ahead, one a message. Waiting is polling with naps: a blocking MPI wait would burn a core.
"""

import time
from typing import NamedTuple

import mpi4py
import numpy as np
from jaxtyping import Float, Int

mpi4py.rc.thread_level = "funneled"  # rank 0 has threads (tracking), but only its main one speaks MPI

from mpi4py import MPI  # noqa: E402

MODEL, HELLO, GOODBYE, ANSWER = 1, 2, 3, 16  # tags; message m has tag ANSWER + m
REHEARSAL, STOP = -1, -2  # instead of a round: a model to answer at once, no more models
ALL = -1  # instead of coordinates: every one
HEADER = 16  # bytes: the round (int64) and the seconds to sleep first (float64)
FIRST_NAP_S, LONGEST_NAP_S = 50e-6, 2e-3
MASTER_NAP_S = 100e-6
SHUTDOWN_S = 10.0


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


class Answer(NamedTuple):
    """A message that has arrived; its vector stays readable until `release`."""

    round: int
    message: int


class MasterEnd:
    """The master's ends of all channels. `owner[m]` is the worker of message m; worker j is rank j + 1."""

    def __init__(self, owner: Int[np.ndarray, " M"], workers: int, dim: int, dtype: np.dtype):
        self._comm = MPI.COMM_WORLD
        self._owner = owner
        self._workers = workers
        self.coordinates = self._hellos(dim)
        self._outbox = [Packet(len(c), dtype) for c in self.coordinates]
        self._sends = [MPI.REQUEST_NULL] * workers
        self._newest: tuple[int, np.ndarray | None, np.ndarray] = (STOP, None, np.zeros(workers))
        self._outdated = np.zeros(workers, bool)  # the worker's mailbox must be filled again
        self._inbox = [Packet(len(self.coordinates[j]), dtype) for j in owner]
        self._receives = [self._post(m) for m in range(len(owner))]
        self.received_bytes = 0

    def _hellos(self, dim: int) -> list[Int[np.ndarray, " t"]]:
        """Waits until every worker is ready and has said which coordinates it touches."""
        coordinates: list[np.ndarray | None] = [None] * self._workers
        nap, status = Nap(), MPI.Status()
        for _ in range(self._workers):
            while not self._comm.Iprobe(MPI.ANY_SOURCE, HELLO, status):
                nap()
            touched = np.empty(status.Get_count(MPI.INT64_T), np.int64)
            self._comm.Recv(touched, status.Get_source(), HELLO)
            if len(touched) == 1 and touched[0] == ALL:
                touched = np.arange(dim)
            # Workers with the same blocks share one array, and later one gather of the model.
            shared = (c for c in coordinates if c is not None and np.array_equal(c, touched))
            coordinates[status.Get_source() - 1] = next(shared, touched)
        return [c for c in coordinates if c is not None]

    def _post(self, message: int) -> MPI.Request:
        source = int(self._owner[message]) + 1
        return self._comm.Irecv(self._inbox[message].bytes, source, ANSWER + message)

    def send_model(self, round_: int, x: Float[np.ndarray, " d"], delay_s: Float[np.ndarray, " k"]) -> None:
        """Puts a new model into every mailbox. `x` and `delay_s` must not be written to afterwards."""
        self._newest = (round_, x, delay_s)
        self._outdated[:] = True
        self._fill_mailboxes()

    def _fill_mailboxes(self) -> None:
        round_, x, delay_s = self._newest
        gathered: dict[int, np.ndarray] = {}
        for j in np.flatnonzero(self._outdated).tolist():
            if not self._sends[j].Test():
                continue
            packet = self._outbox[j]
            packet.label(round_, delay_s[j])
            if x is None:
                self._sends[j] = self._comm.Issend(packet.bytes[:HEADER], j + 1, MODEL)
            else:
                touched = self.coordinates[j]
                if id(touched) in gathered:
                    packet.payload[:] = gathered[id(touched)]
                else:
                    np.take(x, touched, out=packet.payload, mode="clip")  # "raise" would copy twice
                    gathered[id(touched)] = packet.payload
                self._sends[j] = self._comm.Issend(packet.bytes, j + 1, MODEL)
            self._outdated[j] = False

    def poll(self, until_s: float) -> list[Answer]:
        """The messages that have arrived; naps first if there are none, but not beyond `until_s` of the clock."""
        self._fill_mailboxes()
        done = MPI.Request.Testsome(self._receives) or []
        if not done:
            time.sleep(max(0.0, min(MASTER_NAP_S, until_s - time.perf_counter())))
            done = MPI.Request.Testsome(self._receives) or []
        self.received_bytes += sum(self._inbox[m].bytes.nbytes for m in done)
        return [Answer(self._inbox[m].round, m) for m in done]

    def vector(self, message: int) -> Float[np.ndarray, " t"]:
        """What the message says, on its worker's coordinates."""
        return self._inbox[message].payload

    def release(self, message: int) -> None:
        """The vector has been used or will not be: ready for the worker's next answer."""
        self._receives[message] = self._post(message)

    def stop(self) -> None:
        """Tells every worker to end and drops what still comes, until all have said goodbye.

        Raises TimeoutError if a worker has not done so after SHUTDOWN_S.
        """
        self._newest = (STOP, None, np.zeros(self._workers))
        self._outdated[:] = True
        until_s, nap, status = time.perf_counter() + SHUTDOWN_S, Nap(), MPI.Status()
        staying = set(range(1, self._workers + 1))
        for message in range(len(self._receives)):
            if self._receives[message] == MPI.REQUEST_NULL:  # of a round that was interrupted
                self.release(message)
        while staying:
            for answer in self.poll(np.inf):
                self.release(answer.message)
            if self._comm.Iprobe(MPI.ANY_SOURCE, GOODBYE, status):
                self._comm.Recv(np.empty(0, np.uint8), status.Get_source(), GOODBYE)
                staying.remove(status.Get_source())
            elif time.perf_counter() > until_s:
                raise TimeoutError(f"ranks {sorted(staying)} did not end within {SHUTDOWN_S:g} s")
            else:
                nap()
        MPI.Request.Waitall(self._sends)
        for receive in self._receives:
            receive.Cancel()
            receive.Wait()


class WorkerEnd:
    """A worker's ends: the newest model in, answers out."""

    def __init__(self, touched: Int[np.ndarray, " t"] | None, dim: int, messages: list[int], dtype: np.dtype):
        self._comm = MPI.COMM_WORLD
        length = dim if touched is None else len(touched)
        # Three models: the one in use, the newest, and the one being received.
        self._models = [Packet(length, dtype) for _ in range(3)]
        self._used, self._ready, self._incoming = 0, -1, 1
        self._answers = {m: Packet(length, dtype) for m in messages}
        self._sends = dict.fromkeys(messages, MPI.REQUEST_NULL)
        self._receive = self._post()
        hello, nap = self._comm.Isend(np.array([ALL] if touched is None else touched, np.int64), 0, HELLO), Nap()
        while not hello.Test():
            nap()

    def _post(self) -> MPI.Request:
        return self._comm.Irecv(self._models[self._incoming].bytes, 0, MODEL)

    def newer(self) -> bool:
        """Has a model arrived that is newer than the one in use? Only the newest is kept."""
        if self._receive != MPI.REQUEST_NULL and self._receive.Test():
            self._ready, spare = self._incoming, self._ready
            self._incoming = spare if spare >= 0 else ({0, 1, 2} - {self._used, self._ready}).pop()
            if self._models[self._ready].round != STOP:  # after STOP nothing more comes
                self._receive = self._post()
        return self._ready >= 0

    def next_model(self) -> Packet | None:
        """Waits for a model newer than the last; None when there are no more."""
        nap = Nap()
        while not self.newer():
            nap()
        self._used, self._ready = self._ready, -1
        packet = self._models[self._used]
        return None if packet.round == STOP else packet

    def overtaken(self, cancel: bool) -> bool:
        """Is the work in hand to be abandoned? At the end of the job always, for a newer model if `cancel`."""
        return self.newer() and (cancel or self._models[self._ready].round == STOP)

    def sleep(self, seconds: float, cancel: bool) -> bool:
        """Sleeps unless overtaken; returns False at once if it is."""
        end_s, nap = time.perf_counter() + seconds, Nap()
        while (left_s := end_s - time.perf_counter()) > 0:
            if self.overtaken(cancel):
                return False
            nap(left_s)
        return True

    def answer(self, message: int, round_: int, vector: Float[np.ndarray, " t"]) -> None:
        """Sends a message, once the worker's previous one has left its buffer."""
        self._finish(message)
        packet = self._answers[message]
        packet.label(round_)
        packet.payload[:] = vector
        self._sends[message] = self._comm.Issend(packet.bytes, 0, ANSWER + message)

    def goodbye(self) -> None:
        """Waits until everything sent has been taken and tells the master."""
        for message in self._sends:
            self._finish(message)
        self._comm.Send(np.empty(0, np.uint8), 0, GOODBYE)

    def _finish(self, message: int) -> None:
        nap = Nap()
        while not self._sends[message].Test():
            self.newer()
            nap()


def rank() -> int:
    """This process's rank: 0 is the master, worker j is rank j + 1."""
    return MPI.COMM_WORLD.Get_rank()


def size() -> int:
    """The number of ranks."""
    return MPI.COMM_WORLD.Get_size()


def abort() -> None:
    """Ends every rank of the job at once."""
    MPI.COMM_WORLD.Abort(1)


def mpi_version() -> str:
    """The MPI library's name and version."""
    return MPI.Get_library_version().split(",")[0].strip("\0 ")
