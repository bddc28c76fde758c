"""The master's side of the transport, including the detection of dead workers."""

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.cluster.pieces import Coordinates, part_length, read_greeting
from erasurehead_jax.cluster.transport.wire import (
    HEADER,
    MASTER_NAP_S,
    MPI,
    STOP,
    Nap,
    Packet,
    Release,
    Tag,
    from_everybody,
    require_dead,
)


class Answer(NamedTuple):
    """A message that has arrived; its vector is valid until `release`."""

    round: int
    message: int


class Faulty(NamedTuple):
    """An answer of the wrong length has arrived for this message."""

    message: int


class Lost(NamedTuple):
    """This worker is dead."""

    worker: int


class MasterEnd:
    """The master's ends of all channels. `owner[m]` is the worker of message m; worker j is rank j + 1.

    A message has the length of one of `parts` parts of the gradient.
    The workers in `absent` are treated as dead.
    """

    def __init__(
        self,
        owner: Int[np.ndarray, " M"],
        workers: int,
        dim: int,
        dtype: np.dtype,
        points: int = 1,
        absent: Collection[int] = (),
        parts: int = 1,
    ):
        self._comm = MPI.COMM_WORLD
        self._owner = owner
        self._workers = workers
        self._dead = np.isin(np.arange(workers), list(absent))
        self._losses = [Lost(j) for j in sorted(absent)]  # not yet reported
        self._coordinates, self.places = self._hellos(dim, part_length(dim, parts))
        self._outbox = [Packet(points * len(c), dtype) for c in self._coordinates]
        self._sends = [MPI.REQUEST_NULL] * workers
        self._newest: tuple[int, Sequence[np.ndarray], np.ndarray] = (STOP, (), np.zeros(workers))
        self._outdated = np.zeros(workers, bool)  # whether the worker's mailbox must be refilled
        self.sign_s = np.full(workers, time.perf_counter())  # when the worker last received a model or answered
        self._inbox = [Packet(len(each), dtype) for each in self.places]
        self._receives = [MPI.REQUEST_NULL] * len(owner)
        self._statuses = [MPI.Status() for _ in owner]
        self._posted = np.zeros(len(owner), bool)
        for message in range(len(owner)):
            self.release(message)
        self.received_bytes = 0

    def _hellos(self, dim: int, length: int) -> tuple[list[Coordinates], list[Coordinates]]:
        """Waits until every worker is ready and has said what its model and its messages consist of.

        Returns the coordinates of each worker and the places of each message within a part of this `length`. Those of a
        worker that died before are empty.
        """
        none = np.empty(0, np.int64)
        coordinates, found = [none] * self._workers, [none] * len(self._owner)
        absent = np.flatnonzero(self._dead).tolist()
        for j, content in from_everybody(Tag.HELLO, np.dtype(np.int64), self._lose, absent):
            own = np.flatnonzero(self._owner == j).tolist()
            touched, messages = read_greeting(content, dim, length, len(own))
            # Workers with the same blocks share one array, so that the model is gathered once for them.
            shared = (c for c in coordinates if np.array_equal(c, touched))
            coordinates[j] = next(shared, touched)
            for message, each in zip(own, messages, strict=True):
                found[message] = each
        return coordinates, found

    def _lose(self, worker: int, error: MPI.Exception) -> None:
        """Records the loss of a worker. Raises any error other than the death of its process."""
        require_dead(error)
        if not self._dead[worker]:
            self._dead[worker] = True
            self._losses.append(Lost(worker))

    def send_model(
        self, round_: int, points: Sequence[Float[np.ndarray, " d"]], delay_s: Float[np.ndarray, " k"]
    ) -> None:
        """Puts a new model, or as many points as workers need, into every mailbox.

        `points` and `delay_s` must not be modified afterwards.
        """
        self._newest = (round_, points, delay_s)
        self._outdated[:] = True
        self._fill_mailboxes()

    def _fill_mailboxes(self) -> None:
        round_, points, delay_s = self._newest
        gathered: dict[int, np.ndarray] = {}
        for j in np.flatnonzero(self._outdated & ~self._dead).tolist():
            if not self._taken(j):
                continue
            packet = self._outbox[j]
            packet.label(round_, delay_s[j])
            content = packet.bytes
            if not points:
                content = packet.bytes[:HEADER]
            else:
                touched = self._coordinates[j]
                if id(touched) in gathered:
                    packet.payload[:] = gathered[id(touched)]
                else:
                    for x, part in zip(points, packet.payload.reshape(len(points), -1), strict=True):
                        np.take(x, touched, out=part, mode="clip")  # "raise" would copy twice
                    gathered[id(touched)] = packet.payload
            try:
                self._sends[j] = self._comm.Issend(content, j + 1, Tag.MODEL)
            except MPI.Exception as error:
                self._lose(j, error)
            self._outdated[j] = False

    def _taken(self, worker: int) -> bool:
        """Whether the worker has received its last model."""
        if self._sends[worker] == MPI.REQUEST_NULL:
            return True
        try:
            taken = self._sends[worker].Test()
        except MPI.Exception as error:
            self._lose(worker, error)
            return False
        if taken:
            self.sign_s[worker] = time.perf_counter()
        return taken

    def poll(self, until_s: float) -> list[Answer | Faulty | Lost]:
        """New events; if there are none, sleeps briefly first, but not beyond `until_s` of time.perf_counter()."""
        self._fill_mailboxes()
        events = self._receive()
        if not events:
            time.sleep(max(0.0, min(MASTER_NAP_S, until_s - time.perf_counter())))
            events = self._receive()
        return events

    def _receive(self) -> list[Answer | Faulty | Lost]:
        events: list[Answer | Faulty | Lost] = []
        failed = False
        try:
            done = MPI.Request.Testsome(self._receives, self._statuses) or []
        except MPI.Exception as error:
            if error.Get_error_class() not in (MPI.ERR_IN_STATUS, MPI.ERR_PROC_FAILED):
                raise
            failed = True  # some completed with an error; the statuses are in the order of the requests
            done = [m for m in np.flatnonzero(self._posted).tolist() if self._receives[m] == MPI.REQUEST_NULL]
        now_s = time.perf_counter()
        for message, status in zip(done, self._statuses, strict=False):
            worker, packet = int(self._owner[message]), self._inbox[message]
            self._posted[message] = False
            error = status.Get_error() if failed else MPI.SUCCESS
            if error not in (MPI.SUCCESS, MPI.ERR_TRUNCATE):
                self._lose(worker, MPI.Exception(error))
                continue
            self.sign_s[worker] = now_s
            self.received_bytes += packet.bytes.nbytes
            if error == MPI.ERR_TRUNCATE or status.Get_count(MPI.BYTE) != packet.bytes.nbytes:
                self.release(message)
                events.append(Faulty(message))
            else:
                events.append(Answer(packet.round, message))
        events += self._losses
        self._losses.clear()
        return events

    def silence_s(self, listen_after_s: float) -> Float[np.ndarray, " k"]:
        """Seconds since each worker received a model or answered or, if that is long, sent another sign of life."""
        now_s = time.perf_counter()
        for j in np.flatnonzero((now_s - self.sign_s > listen_after_s) & ~self._dead).tolist():
            self._take_sign(j)
        return now_s - self.sign_s

    def _take_sign(self, worker: int) -> None:
        try:
            if self._comm.Iprobe(worker + 1, Tag.SIGN):
                self._comm.Recv(np.empty(0, np.uint8), worker + 1, Tag.SIGN)
                self.sign_s[worker] = time.perf_counter()
        except MPI.Exception as error:
            self._lose(worker, error)

    def vector(self, message: int) -> Float[np.ndarray, " t"]:
        """The content of a message, at its `places`."""
        return self._inbox[message].payload

    def release(self, message: int) -> None:
        """Frees the buffer of a message for the worker's next answer."""
        worker = int(self._owner[message])
        if self._dead[worker] or self._posted[message]:
            return
        try:
            self._receives[message] = self._comm.Irecv(self._inbox[message].bytes, worker + 1, Tag.ANSWER + message)
            self._posted[message] = True
        except MPI.Exception as error:
            self._lose(worker, error)

    def dismiss(self) -> None:
        """Tells every worker that there are no more models. Answers that still arrive are dropped."""
        self._newest = (STOP, (), np.zeros(self._workers))
        self._outdated[:] = True
        self._staying = set(range(self._workers))

    def staying(self, until_s: float) -> list[int]:
        """Waits for the goodbyes of the live workers, at most until this instant. Returns those still missing."""
        nap = Nap()
        while True:
            for event in self.poll(time.perf_counter()):
                if isinstance(event, Answer):
                    self.release(event.message)
            for message in range(len(self._receives)):
                self.release(message)  # also those of an interrupted round
            for j in sorted(self._staying):
                self._take_sign(j)
                try:
                    if self._dead[j]:
                        self._staying.remove(j)
                    elif self._comm.Iprobe(j + 1, Tag.GOODBYE):
                        self._comm.Recv(np.empty(0, np.uint8), j + 1, Tag.GOODBYE)
                        self._staying.remove(j)
                except MPI.Exception as error:
                    self._lose(j, error)
            if not self._staying or time.perf_counter() > until_s:
                return sorted(self._staying)
            nap()

    @property
    def complete(self) -> bool:
        """Whether all workers are alive."""
        return not self._dead.any()

    def release_workers(self, stay: bool) -> bool:
        """After all goodbyes, keeps the workers for the next job if `stay` and all are alive; else lets them, and this
        rank, finalize. Returns whether they stay.
        """
        verdict = Release.SHRINK if not self.complete else Release.STAY if stay else Release.END
        self._release(verdict, ())
        if verdict == Release.SHRINK:
            self._comm.Shrink()
        return verdict == Release.STAY

    def keep_workers(self, hanging: Collection[int]) -> set[int]:
        """After all goodbyes but those of the hanging workers, keeps the others for the next job, even if some are
        dead. Returns those that are hanging or dead.
        """
        self._release(Release.STAY, hanging)
        return {*hanging, *np.flatnonzero(self._dead).tolist()}

    def _release(self, verdict: Release, hanging: Collection[int]) -> None:
        for j in sorted({*np.flatnonzero(~self._dead).tolist()}.difference(hanging)):
            try:
                self._comm.Send(np.array([verdict], np.uint8), j + 1, Tag.RELEASE)
            except MPI.Exception as error:
                self._lose(j, error)
        for message in np.flatnonzero(self._posted).tolist():
            if not self._dead[self._owner[message]]:
                self._receives[message].Cancel()
                self._receives[message].Wait()
