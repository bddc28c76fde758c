"""A worker's side of the transport."""

import time

import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.cluster.transport.wire import (
    MPI,
    STOP,
    Nap,
    Packet,
    Release,
    Tag,
)


class WorkerEnd:
    """A worker's ends: the newest model in, answers out, and a sign of life after `sign_every_s` without either.

    `length` is that of the model's vectors together, and `answers` has the length of each message.
    """

    def __init__(
        self,
        greeting: Int[np.ndarray, " g"],
        length: int,
        answers: dict[int, int],
        dtype: np.dtype,
        sign_every_s: float,
    ):
        self._comm = MPI.COMM_WORLD
        # Three models: the one in use, the newest, and the one being received.
        self._models = [Packet(length, dtype) for _ in range(3)]
        self._used, self._ready, self._incoming = 0, -1, 1
        self._answers = {message: Packet(length, dtype) for message, length in answers.items()}
        self._sends = dict.fromkeys(answers, MPI.REQUEST_NULL)
        self._receive = self._post()
        self._sign_every_s, self._signed_s, self._sign = sign_every_s, time.perf_counter(), MPI.REQUEST_NULL
        hello, nap = self._comm.Isend(greeting.astype(np.int64), 0, Tag.HELLO), Nap()
        while not hello.Test():
            nap()

    def _post(self) -> MPI.Request:
        return self._comm.Irecv(self._models[self._incoming].bytes, 0, Tag.MODEL)

    def newer(self) -> bool:
        """Whether a model newer than the one in use has arrived. Only the newest is kept."""
        self._give_sign()
        if self._receive != MPI.REQUEST_NULL and self._receive.Test():
            self._signed_s = time.perf_counter()  # receiving a model is a sign of life
            self._ready, spare = self._incoming, self._ready
            self._incoming = spare if spare >= 0 else ({0, 1, 2} - {self._used, self._ready}).pop()
            if self._models[self._ready].round != STOP:  # nothing follows STOP
                self._receive = self._post()
        return self._ready >= 0

    def _give_sign(self) -> None:
        """Sends a sign of life when due, unless the last one is still in flight."""
        now_s = time.perf_counter()
        if now_s > self._signed_s + self._sign_every_s and self._sign.Test():
            self._sign = self._comm.Issend(np.empty(0, np.uint8), 0, Tag.SIGN)
            self._signed_s = now_s

    def next_model(self) -> Packet | None:
        """Waits for a model newer than the last one. Returns None if there are no more."""
        nap = Nap()
        while not self.newer():
            nap()
        self._used, self._ready = self._ready, -1
        packet = self._models[self._used]
        return None if packet.round == STOP else packet

    def overtaken(self, cancel: bool) -> bool:
        """Whether to abandon the current work: at the end of the job, or for a newer model if `cancel`."""
        return self.newer() and (cancel or self._models[self._ready].round == STOP)

    def sleep(self, seconds: float, cancel: bool) -> bool:
        """Sleeps for the injected delay. Returns False as soon as it is overtaken."""
        end_s, nap = time.perf_counter() + seconds, Nap()
        while (left_s := end_s - time.perf_counter()) > 0:
            if self.overtaken(cancel):
                return False
            nap(left_s)
        return True

    def answer(self, message: int, round_: int, vector: Float[np.ndarray, " t"]) -> None:
        """Sends a message, once the previous send from its buffer has completed."""
        self._finish(message)
        packet = self._answers[message]
        packet.label(round_)
        packet.payload[:] = vector
        self._sends[message] = self._comm.Issend(packet.bytes, 0, Tag.ANSWER + message)

    def goodbye(self) -> bool:
        """Waits until all sends have completed, says goodbye, and waits for the master's reply. Returns whether another
        job may follow; if not, all ranks finalize.
        """
        for message in self._sends:
            self._finish(message)
        nap = Nap()
        while not self._sign.Test():
            nap()
        self._comm.Send(np.empty(0, np.uint8), 0, Tag.GOODBYE)
        verdict, nap = np.zeros(1, np.uint8), Nap()
        released = self._comm.Irecv(verdict, 0, Tag.RELEASE)
        while not released.Test():
            nap()
        if verdict[0] == Release.SHRINK:
            self._comm.Shrink()  # MPI_Finalize would hang with dead ranks
        return bool(verdict[0] == Release.STAY)

    def _finish(self, message: int) -> None:
        nap = Nap()
        while not self._sends[message].Test():
            self.newer()
            nap()
