"""Rounds on MPI ranks: send a model, collect answers until the protocol decides, decode (the master of Algorithm 1)."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from erasurehead_jax.cluster.pieces import part_length
from erasurehead_jax.cluster.protocol import Decision, Fail, Journal, Protocol, Update, Wait
from erasurehead_jax.cluster.silence import SilenceWatch
from erasurehead_jax.cluster.transport import REHEARSAL, Answer, Faulty, Lost, MasterEnd
from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.errors import Diverged, Stopped
from erasurehead_jax.job import Job
from erasurehead_jax.rundir.recorder import RoundRecord

ROUNDED = 0.01  # relative error of a gradient that is worth a warning

log = logging.getLogger(__name__)


class Collected(NamedTuple):
    """The answers of a round, decoded."""

    began_s: float
    received_bytes: int  # before the round
    got: Bool[np.ndarray, " M"]
    decode_error: float
    decoded: Float[np.ndarray, " d"]  # the sum of gradients; valid until the next round


class Rounds:
    """Collects the gradients of a job's workers, round by round, on a clock that can be paused.

    The workers in `absent` are lost from the start.
    """

    def __init__(self, job: Job, hosts: Sequence[str], journal: Journal | None = None, absent: Collection[int] = ()):
        self._code, self._hosts = job.scheme.code, hosts
        problem, cluster = job.problem, job.settings.cluster
        self.protocol = Protocol(job.scheme, job.settings.late, cluster.on_loss, journal, job.sampling)
        dim, parts = problem.parameters, self._code.parts
        self._parts = np.zeros((parts, part_length(dim, parts)), problem.dtype)
        self._decoded = self._parts.reshape(-1)[:dim]
        self._delays = job.delays()
        self._delays(0)
        points = job.sampling.points
        self._end = MasterEnd(self._code.owner, self._code.workers, dim, problem.dtype, points, absent, parts)
        self._arrival_s = np.full(self._code.messages, np.nan)
        self._faulty = 0  # faulty answers in this round
        self._norm = np.linalg.norm(self._code.coefficients.reshape(-1, self._code.messages), 2)
        self._warned = False
        self.asked = 0  # answers requested so far
        self.silence = SilenceWatch(hosts, cluster.heartbeat_s, cluster.lost_s, self._end.silence_s)
        self._origin_s = self._halted_s = time.perf_counter()

    def rehearse(self, points: Sequence[Float[np.ndarray, " d"]]) -> Float[np.ndarray, " d"]:
        """Runs one round and discards it, to open connections and touch memory. Returns the decoded sum."""
        self._end.send_model(REHEARSAL, points, np.zeros(self._code.workers))
        awaited = np.ones(self._code.messages, bool)
        while (awaited & self.protocol.alive[self._code.owner]).any():
            for event in self._end.poll(np.inf):
                if isinstance(event, Lost):
                    self._lost(event.worker)
                else:
                    awaited[event.message] = False
        decoded = self._decode(np.ones((self._code.messages, self._code.parts)))
        for message in range(self._code.messages):
            self._end.release(message)
        return decoded

    def start_clock(self, clock_s: float) -> None:
        """Starts the clock at `clock_s`."""
        self._origin_s = time.perf_counter() - clock_s

    def pause(self, work: Callable[[], None]) -> None:
        """Calls `work` with the clock stopped."""
        self.halt()
        work()
        self.go_on()

    def halt(self) -> None:
        """Stops the clock."""
        self._halted_s = time.perf_counter()

    def go_on(self) -> None:
        """Starts the clock again where it was stopped. Workers that nobody listened to meanwhile were not silent."""
        away_s = time.perf_counter() - self._halted_s
        self._origin_s += away_s
        self._end.sign_s += away_s

    def clock(self) -> float:
        """Seconds spent in the training loop so far."""
        return time.perf_counter() - self._origin_s

    def collect(
        self,
        points: Sequence[Float[np.ndarray, " d"]],
        interrupted: Callable[[], bool] = lambda: False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Collected | None:
        """Sends the points of the next round, collects its answers and decodes them; None if it was interrupted before.

        `meanwhile` is called, on the clock, while the workers compute. Raises Stopped if the round can never end.
        """
        began_s, received_bytes = self.clock(), self._end.received_bytes
        self._arrival_s[:], self._faulty = np.nan, 0
        self.asked += int(self.protocol.alive[self._code.owner].sum())
        round_ = self.protocol.round + 1
        delay_s = self._delays(round_)
        ends = np.isinf(delay_s)  # a recorded worker ends here
        self._end.send_model(round_, points, np.where(ends, 0.0, delay_s))
        meanwhile()
        decision = self.protocol.begin(began_s)
        for worker in np.flatnonzero(ends & self.protocol.alive).tolist():
            decision = self._lost(worker)
        decision = self._until_not_waiting(decision, began_s, interrupted)
        if not isinstance(decision, Update):
            self._release_answers()
            if isinstance(decision, Fail):
                raise self._failure(decision)
            return None
        got = np.asarray(decision.got)
        a = self.protocol.scheme.weights(got)
        self._warn_of_rounding(a)
        return Collected(began_s, received_bytes, got, self.protocol.scheme.decode_error(a), self._decode(a))

    def _warn_of_rounding(self, a: Float[np.ndarray, "M *parts"]) -> None:
        """Warns once if decoding may turn the rounding errors of the answers into errors of the gradient."""
        grows = np.linalg.norm(a) * self._norm / np.sqrt(self._code.blocks)  # if the blocks' gradients are alike
        if not self._warned and grows * np.finfo(self._parts.dtype).eps > ROUNDED:
            log.warning(
                "decoding multiplies rounding errors of %s answers by up to %.0e: gradients are inaccurate; "
                "use x64=true, or another code",
                self._parts.dtype,
                grows,
            )
            self._warned = True

    def finish(
        self,
        collected: Collected,
        grad_norm: float,
        x: Float[np.ndarray, " d"],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> RoundRecord:
        """Ends a round after its step, once the next one may begin. `x` is the iterate after it."""
        began_s, got = collected.began_s, collected.got
        arrival_s = np.where(got, self._arrival_s, np.nan)
        collected_s = self.clock() - began_s
        self._until_not_waiting(self.protocol.updated(self.clock()), began_s, interrupted)
        self._release_answers()
        return RoundRecord(
            round=self.protocol.round,
            clock_s=self.clock(),
            round_s=self.clock() - began_s,
            collected_s=collected_s,
            waited=int(self._code.heard(got).sum()),
            exact=collected.decode_error < ROUNDING,
            decode_error=collected.decode_error,
            grad_norm=grad_norm,
            received_bytes=self._end.received_bytes - collected.received_bytes,
            lost=int((~self.protocol.alive).sum()),
            faulty=self._faulty,
            last_host=self._last_host(arrival_s),
            arrival_s=arrival_s,
            x=x,
        )

    def _release_answers(self) -> None:
        for message in np.flatnonzero(~np.isnan(self._arrival_s)):
            self._end.release(int(message))

    def _last_host(self, arrival_s: Float[np.ndarray, " M"]) -> str:
        if np.isnan(arrival_s).all():
            return "-"
        return self._hosts[int(self._code.owner[np.nanargmax(arrival_s)])]

    def dismiss(self) -> None:
        """Tells the workers that there are no more rounds."""
        self._end.dismiss()

    def staying(self, until_s: float) -> list[int]:
        """The live workers that have not said goodbye by `until_s` (of time.perf_counter())."""
        return self._end.staying(until_s)

    @property
    def complete(self) -> bool:
        """Whether all workers are alive."""
        return self._end.complete

    def release_workers(self, stay: bool) -> bool:
        """After all goodbyes, keeps the workers for another job if `stay` and all are alive, else lets them end.

        Returns whether they stay.
        """
        return self._end.release_workers(stay)

    def keep_workers(self, hanging: Collection[int]) -> set[int]:
        """After all goodbyes but those of the hanging workers, keeps the others for another job.

        Returns the workers that no job can count on any more: the hanging, and the dead.
        """
        return self._end.keep_workers(hanging)

    def _until_not_waiting(self, decision: Decision, began_s: float, interrupted: Callable[[], bool]) -> Decision:
        while isinstance(decision, Wait) and not interrupted():
            events = self._end.poll(decision.until_s + self._origin_s)
            now_s = self.clock()
            events += [Lost(j) for j in self.silence.look(self.protocol.alive, self._awaited)]
            if not events:
                decision = self.protocol.tick(now_s)
                continue
            answers = [event for event in events if isinstance(event, Answer) and self._usable(event, now_s)]
            for answer in answers:
                if answer.round == self.protocol.round:
                    self._arrival_s[answer.message] = now_s - began_s
                else:  # late, or of no round
                    self._end.release(answer.message)
            decision = self.protocol.arrived(answers, now_s)
            for event in events:
                if isinstance(event, Faulty) and self.protocol.alive[self._code.owner[event.message]]:
                    decision = self._erase(event.message, now_s, "wrong length")
                elif isinstance(event, Lost) and self.protocol.alive[event.worker]:
                    decision = self._lost(event.worker)
        return decision

    def _usable(self, answer: Answer, now_s: float) -> bool:
        owner = self._code.owner[answer.message]
        alive = self.protocol.alive[owner]  # else it was declared lost for its silence
        if alive and not 0 <= answer.round <= self.protocol.round:
            self._erase(answer.message, now_s, f"labelled with round {answer.round}")
        elif alive and answer.round == self.protocol.round and not np.isfinite(self._end.vector(answer.message).sum()):
            self._erase(answer.message, now_s, "contains nan or inf")
        elif alive:
            return True
        self._end.release(answer.message)
        return False

    def _erase(self, message: int, now_s: float, reason: str) -> Decision:
        worker = int(self._code.owner[message])
        if not self.protocol.faulty_answers[worker]:
            log.warning("faulty answer from worker %d in round %d: %s", worker, self.protocol.round, reason)
        self._faulty += 1
        return self.protocol.faulty(message, now_s)

    def _lost(self, worker: int) -> Decision:
        log.warning("worker %d on %s is lost in round %d", worker, self._hosts[worker], max(self.protocol.round, 0))
        return self.protocol.lost(worker, self.clock())

    def _failure(self, decision: Fail) -> Stopped:
        heard = np.isfinite(self._arrival_s).any()
        if self._faulty and not heard:
            return Diverged(f"no answer in round {self.protocol.round} is finite; use a smaller step size")
        return Stopped(decision.reason)

    def _awaited(self) -> Bool[np.ndarray, " k"]:
        return self.protocol.alive & ~self._code.heard(~np.isnan(self._arrival_s))

    def _decode(self, a: Float[np.ndarray, "M *parts"]) -> Float[np.ndarray, " d"]:
        """The decoded sum of gradients, summed in the order of the messages, independently of the order of arrival."""
        self._parts[:] = 0
        a = a.astype(self._parts.dtype).reshape(len(a), -1)
        for message in np.flatnonzero(a.any(1)).tolist():
            places, vector = self._end.places[message], self._end.vector(message)
            for part, weight in zip(self._parts, a[message], strict=True):
                part[places] += weight * vector
        return self._decoded
