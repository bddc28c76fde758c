"""Who is waited for, and until when: events in, decisions out, no I/O. The only place that decides.

    begin -> (arrived | lost | tick)* -> Update(got) -> updated -> (arrived | lost | tick)* -> Proceed -> begin ...

Every event carries the clock (seconds, any origin) and returns what the master does next.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.types import Got

LATE = ("cancel", "skip", "wait")  # what becomes of work that missed its round


class Wait(NamedTuple):
    """Nothing to do before an arrival or, if finite, this instant of the clock."""

    until_s: float


class Update(NamedTuple):
    """Enough: decode these messages and step."""

    got: Got


class Proceed(NamedTuple):
    """The next round may begin."""


class Fail(NamedTuple):
    """The stopping rule can never hold again."""

    reason: str


Decision = Wait | Update | Proceed | Fail


class Protocol:
    """The master's side of Algorithm 1 for any scheme. `round` counts from 0; before the first `begin` it is -1.

    `late` is what the next round waits for: with `cancel` and `skip` nothing (they differ on the worker only), with
    `wait` every answer to this round, as the published code does. Raises ConfigError for another policy.
    """

    def __init__(self, scheme: Scheme, late: str):
        if late not in LATE:
            raise ConfigError(f"late={late}: must be one of {', '.join(LATE)}")
        self.scheme = scheme
        self.late = late
        self.round = -1
        self.late_answers = 0  # answers to a round that had ended, never used
        self._alive = np.ones(scheme.code.workers, bool)
        self._answered = np.zeros(scheme.code.messages, bool)
        self._began_s = 0.0
        self._collecting = False
        self._last: Decision = Proceed()

    def begin(self, t: float) -> Decision:
        """A new model has just been handed out."""
        self.round += 1
        self._began_s = t
        self._answered[:] = False
        self._collecting = True
        return self._decide(t)

    def arrived(self, answers: Iterable[tuple[int, int]], t: float) -> Decision:
        """These (round, message) pairs came in at one instant; they count together, whatever their order."""
        for round_, message in answers:
            if round_ != self.round:
                self.late_answers += 1
            elif not self._answered[message]:
                self._answered[message] = True
                self.late_answers += not self._collecting
        return self._decide(t)

    def lost(self, worker: int, t: float) -> Decision:
        """This worker will never answer again."""
        self._alive[worker] = False
        return self._decide(t)

    def tick(self, t: float) -> Decision:
        """Time has passed."""
        if isinstance(self._last, Wait) and t < self._last.until_s:
            return self._last  # nothing can have changed, and some rules are not cheap to ask
        return self._decide(t)

    def updated(self, t: float) -> Decision:
        """The step has been taken."""
        self._collecting = False
        return self._decide(t)

    def _decide(self, t: float) -> Decision:
        self._last = self._decision(t)
        return self._last

    def _decision(self, t: float) -> Decision:
        awaited = self._alive[self.scheme.code.owner] & ~self._answered
        if not self._collecting:
            return Wait(np.inf) if self.late == "wait" and awaited.any() else Proceed()
        if self.scheme.enough(self._answered, t - self._began_s):
            return Update(self._answered.copy())
        instants_s = [self._began_s + float(s) for s in self.scheme.stop.instants_s]
        later = [instant_s for instant_s in instants_s if instant_s > t]
        if not awaited.any() and not later:
            heard, lost = int(self._answered.sum()), int((~self._alive).sum())
            return Fail(f"round {self.round}: {heard} messages arrived, {lost} workers are lost, and no more can come")
        return Wait(min(later, default=np.inf))
