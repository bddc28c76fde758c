"""Decides which workers the master waits for, and until when: events in, decisions out, no I/O.

    begin -> event* -> Update(got) -> updated -> event* -> Proceed -> begin ...     event: arrived, faulty, lost or tick

Every event carries the time on the clock (seconds, any origin) and returns what the master is to do next.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from erasurehead_jax.errors import require_choice
from erasurehead_jax.sampling import Sampling
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.types import Got, Late, OnLoss

LATE = (Late.CANCEL, Late.SKIP, Late.WAIT)


class Wait(NamedTuple):
    """Wait for an arrival or, if finite, until this instant of the clock."""

    until_s: float


class Update(NamedTuple):
    """The stopping rule holds: decode these messages and take the step."""

    got: Got


class Proceed(NamedTuple):
    """The next round may begin."""


class Fail(NamedTuple):
    """The stopping rule can no longer hold."""

    reason: str


Decision = Wait | Update | Proceed | Fail


class Event(NamedTuple):
    """An event of the protocol: the method's name, its arguments before the time, and the time."""

    name: str
    content: list[Any]
    t: float


Journal = Callable[[Event, Decision], None]  # called with every event and the decision on it


class Protocol:
    """The master's side of Algorithm 1 for any scheme. `round` counts from 0; before the first `begin` it is -1.

    `late` is what the next round waits for: with `cancel` and `skip` nothing (they differ on the worker only), with
    `wait` every answer to this round, as the published code does. `on_loss` is what happens when lost workers or faulty
    answers prevent the stopping rule from ever holding: `stop`, or `approximate`, which ends the round with the
    messages that have arrived once no more can. `sampling` tells which rounds must be exact whatever the scheme's rule.
    Raises ConfigError for other policies.
    """

    def __init__(
        self,
        scheme: Scheme,
        late: str,
        on_loss: str = OnLoss.STOP,
        journal: Journal | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 - immutable
    ):
        require_choice("late", late, LATE)
        require_choice("cluster.on_loss", on_loss, OnLoss)
        self.scheme = scheme  # of the current round
        self._usual, self._sampling = scheme, sampling
        self._exact = scheme.exactly() if sampling.exact_snapshots else scheme
        self.late = late
        self.round = -1
        self.alive = np.ones(scheme.code.workers, bool)
        self.losses: list[tuple[int, int]] = []  # (worker, round)
        self.late_answers = np.zeros(scheme.code.workers, int)  # to a round that had ended; never used
        self.faulty_answers = np.zeros(scheme.code.workers, int)
        self._on_loss, self._journal = on_loss, journal
        self._answered = np.zeros(scheme.code.messages, bool)
        self._erased = np.zeros(scheme.code.messages, bool)
        self._began_s = 0.0
        self._collecting = False
        self._last: Decision = Proceed()

    def restore(
        self,
        rounds: int,
        late_answers: Int[np.ndarray, " k"],
        faulty_answers: Int[np.ndarray, " k"],
        losses: list[tuple[int, int]],
    ) -> None:
        """Continues after `rounds` rounds of an earlier session, with its counters.

        Workers that this session has already lost count as lost in the next round.
        """
        self.round = rounds - 1
        self.late_answers, self.faulty_answers = late_answers, faulty_answers
        self.losses = [*losses, *((worker, rounds) for worker, _ in self.losses)]
        if self._journal:
            counted = [rounds, late_answers.tolist(), faulty_answers.tolist(), [list(loss) for loss in losses]]
            self._journal(Event("restored", counted, 0.0), Proceed())

    def begin(self, t: float) -> Decision:
        """A new model has been sent to the workers."""
        self.round += 1
        self.scheme = self._exact if self._sampling.waits_for_exact(self.round) else self._usual
        self._began_s = t
        self._answered[:] = self._erased[:] = False
        self._collecting, self._last = True, Proceed()
        return self._decide("begin", [], t)

    def arrived(self, answers: Iterable[tuple[int, int]], t: float) -> Decision:
        """These (round, message) pairs have arrived at the same instant; their order does not matter."""
        answers = [(int(round_), int(message)) for round_, message in answers]
        for round_, message in answers:
            if not 0 <= round_ <= self.round:
                self._erase(message)
            elif round_ < self.round:
                self._count_late(message)
            elif not self._answered[message] and not self._erased[message]:
                self._answered[message] = True
                if not self._collecting:
                    self._count_late(message)
        return self._decide("arrived", [answers], t)

    def faulty(self, message: int, t: float) -> Decision:
        """An unusable answer: an erasure of this message in this round, unless a good one has arrived before."""
        self._erase(message)
        return self._decide("faulty", [message], t)

    def lost(self, worker: int, t: float) -> Decision:
        """This worker will not answer any more. Its answers in this round so far still count."""
        if self.alive[worker]:
            self.losses.append((worker, max(self.round, 0)))
        self.alive[worker] = False
        return self._decide("lost", [worker], t)

    def _erase(self, message: int) -> None:
        self._erased[message] |= not self._answered[message]
        self.faulty_answers[self.scheme.code.owner[message]] += 1

    def _count_late(self, message: int) -> None:
        self.late_answers[self.scheme.code.owner[message]] += 1

    def tick(self, t: float) -> Decision:
        """Time has passed without any other event."""
        if isinstance(self._last, Wait) and t < self._last.until_s:
            return self._last  # nothing has changed, and some rules are expensive to evaluate
        return self._decide("tick", [], t)

    def updated(self, t: float) -> Decision:
        """The step has been taken."""
        self._collecting = False
        return self._decide("updated", [], t)

    def _decide(self, name: str, content: list[Any], t: float) -> Decision:
        self._last = self._decision(t)
        if self._journal:
            self._journal(Event(name, content, t), self._last)
        return self._last

    def _decision(self, t: float) -> Decision:
        awaited = self.alive[self.scheme.code.owner] & ~self._answered & ~self._erased
        if not self._collecting:
            return Wait(np.inf) if self.late == Late.WAIT and awaited.any() else Proceed()
        if isinstance(self._last, Update):  # already decided; answers that arrive before the step are late
            return self._last
        instants_s = [float(s) for s in self.scheme.stop.instants_s]
        later = [self._began_s + s for s in instants_s if self._began_s + s > t]
        # An instant that the clock has reached counts as passed, however `t - began_s` is rounded.
        elapsed_s = max([t - self._began_s, *(s for s in instants_s if self._began_s + s <= t)])
        if self.scheme.enough(self._answered, elapsed_s):
            return Update(self._answered.copy())
        if awaited.any() or later:
            return Wait(min(later, default=np.inf))
        if self._on_loss == OnLoss.APPROXIMATE and self._answered.any() and self.scheme.code.approximates:
            return Update(self._answered.copy())
        return Fail(self._reason())

    def _reason(self) -> str:
        heard, lost, faulty = int(self._answered.sum()), np.flatnonzero(~self.alive).tolist(), int(self._erased.sum())
        return (
            f"round {self.round} cannot be completed: {heard} of {len(self._answered)} messages arrived, "
            f"no more can arrive (lost workers: {', '.join(map(str, lost)) or 'none'}; faulty answers: {faulty})"
        )
