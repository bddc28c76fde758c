"""The master's loop: hand out the model, collect until the protocol says enough, decode, step (Algorithm 1)."""

import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from jaxtyping import Float

from erasurehead_jax.cluster.protocol import Decision, Fail, Protocol, Update, Wait
from erasurehead_jax.cluster.transport import REHEARSAL, MasterEnd
from erasurehead_jax.job import Job
from erasurehead_jax.recorder import EXACT, RoundRecord
from erasurehead_jax.rounds import apply_gradient, iterate, start
from erasurehead_jax.seeds import run_keys


class Failed(RuntimeError):
    """The stopping rule can no longer hold."""


class Master:
    """Runs the rounds of a job on its workers, one after another, on a clock that can be paused."""

    def __init__(self, job: Job, optimizer: optax.GradientTransformation):
        code = job.scheme.code
        self._scheme = job.scheme
        self.protocol = Protocol(job.scheme, job.late)
        x = job.objective.init(run_keys(job.seed)[0], job.dataset).astype(job.dtype)
        self.state = start(optimizer, x)
        self._decoded = np.zeros(len(x), job.dtype)
        step = lambda state, decoded: apply_gradient(optimizer, job.l2, len(job.dataset.train), state, decoded)
        self._step = jax.jit(step).lower(self.state, self._decoded).compile()
        self._delays = job.delays()
        self._delays(0)
        self._end = MasterEnd(code.owner, code.workers, len(x), job.dtype)
        self._arrival_s = np.full(code.messages, np.nan)
        self._origin_s = time.perf_counter()
        self._rehearse()

    def _rehearse(self) -> None:
        """One answer from everybody to the starting point, thrown away: opens connections and touches memory."""
        code = self._scheme.code
        self._end.send_model(REHEARSAL, np.asarray(self.state.x), np.zeros(code.workers))
        answered = 0
        while answered < code.messages:
            answered += len(self._end.poll(np.inf))
        self._step(self.state, self._decode(np.ones(code.messages)))
        for message in range(code.messages):
            self._end.release(message)

    def start_clock(self) -> None:
        """The clock shows 0 from here on."""
        self._origin_s = time.perf_counter()

    def pause(self, work: Callable[[], None]) -> None:
        """Does `work` with the clock stopped."""
        began_s = time.perf_counter()
        work()
        self._origin_s += time.perf_counter() - began_s

    def clock(self) -> float:
        """Seconds of the training loop so far."""
        return time.perf_counter() - self._origin_s

    def round(self, interrupted: Callable[[], bool], meanwhile: Callable[[], None]) -> RoundRecord | None:
        """One round; None if it was interrupted before its step. Raises Failed if it can never end.

        `meanwhile` is done, on the clock, while the workers compute.
        """
        began_s, received_bytes = self.clock(), self._end.received_bytes
        self._arrival_s[:] = np.nan
        round_ = self.protocol.round + 1
        self._end.send_model(round_, np.asarray(self.state.x), self._delays(round_))
        meanwhile()
        decision = self._until_not_waiting(self.protocol.begin(began_s), began_s, interrupted)
        if isinstance(decision, Fail):
            raise Failed(decision.reason)
        if not isinstance(decision, Update):
            return None
        got = decision.got
        a = np.asarray(self._scheme.decode(self._scheme.code, got))
        self.state, grad_norm = self._step(self.state, self._decode(a))
        grad_norm = float(grad_norm)  # waits for the step
        arrival_s = np.where(got, self._arrival_s, np.nan)
        collected_s = self.clock() - began_s
        self._until_not_waiting(self.protocol.updated(self.clock()), began_s, interrupted)
        for message in np.flatnonzero(~np.isnan(self._arrival_s)):
            self._end.release(int(message))
        w = self._scheme.code.G @ a
        decode_error = float(((w - 1) ** 2).sum())
        return RoundRecord(
            round=self.protocol.round,
            clock_s=self.clock(),
            round_s=self.clock() - began_s,
            collected_s=collected_s,
            waited=int(self._scheme.code.heard(got).sum()),
            exact=decode_error < EXACT,
            decode_error=decode_error,
            grad_norm=grad_norm,
            received_bytes=self._end.received_bytes - received_bytes,
            arrival_s=arrival_s,
            x=np.asarray(iterate(self.state)),
        )

    def stop(self) -> None:
        """Ends the workers."""
        self._end.stop()

    def _until_not_waiting(self, decision: Decision, began_s: float, interrupted: Callable[[], bool]) -> Decision:
        while isinstance(decision, Wait) and not interrupted():
            answers = self._end.poll(decision.until_s + self._origin_s)
            now_s = self.clock()
            for answer in answers:
                if answer.round == self.protocol.round:
                    self._arrival_s[answer.message] = now_s - began_s
                else:  # too late to be used
                    self._end.release(answer.message)
            decision = self.protocol.arrived(answers, now_s) if answers else self.protocol.tick(now_s)
        return decision

    def _decode(self, a: Float[np.ndarray, " M"]) -> Float[np.ndarray, " d"]:
        """The decoded sum of gradients, added up in the order of the messages whatever their order of arrival."""
        self._decoded[:] = 0
        for message in np.flatnonzero(a).tolist():
            touched = self._end.coordinates[self._scheme.code.owner[message]]
            self._decoded[touched] += a[message].astype(self._decoded.dtype) * self._end.vector(message)
        return self._decoded
