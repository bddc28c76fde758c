"""A model checker: every order of the protocol's events for up to four workers over three rounds.

Events are arrivals, late, repeated and faulty answers, lost workers and ticks. The environment below keeps its own
record of what was sent, and checks the protocol against it in every reachable state.
"""

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from erasurehead_jax import AllOf, AnyOf, Count, Deadline, Decodable, FractionalRepetition, Scheme, Uncoded
from erasurehead_jax.cluster.protocol import Decision, Fail, Proceed, Protocol, Update, Wait
from erasurehead_jax.decoding import ByCode

ROUNDS = 3
SILENT, ANSWERED, FAULTY = range(3)  # what a worker has done in this round
DEADLINE_S = 2.0


def schemes(k: int) -> dict[str, Scheme]:
    pairs = FractionalRepetition(k, k, 2) if k % 2 == 0 else FractionalRepetition(k, k, 1)
    return {
        "uncoded": Scheme(Uncoded(k, k), Decodable(), ByCode()),
        "ignore": Scheme(Uncoded(k, k), Count(max(1, k - 1)), ByCode("covered")),
        "egc": Scheme(pairs, Decodable(), ByCode()),
        "erasurehead": Scheme(pairs, AnyOf((Decodable(), Count(max(1, k // 2 + 1)))), ByCode()),
        "deadline": Scheme(pairs, AnyOf((Decodable(), Deadline(DEADLINE_S))), ByCode()),
        "both": Scheme(Uncoded(k, k), AllOf((Deadline(1.0), Count(1))), ByCode()),
    }


class Remembered:
    """A scheme with cached verdicts: millions of calls have a few hundred different arguments."""

    def __init__(self, scheme: Scheme):
        code = scheme.code
        self.code = SimpleNamespace(owner=code.owner, workers=code.workers, messages=code.messages)
        self.stop = SimpleNamespace(instants_s=tuple(map(float, scheme.stop.instants_s)))
        self._scheme, self._verdicts = scheme, {}

    def enough(self, got: np.ndarray, elapsed_s: float) -> bool:
        """The scheme's own verdict."""
        key = (got.tobytes(), elapsed_s)
        if key not in self._verdicts:
            self._verdicts[key] = bool(self._scheme.enough(got, elapsed_s))
        return self._verdicts[key]


def remembering(protocol: Protocol) -> Protocol:
    protocol.scheme = Remembered(protocol.scheme)  # pyright: ignore[reportAttributeAccessIssue]
    return protocol


class Books(NamedTuple):
    """The environment's record. Each worker sends one message per round."""

    did: tuple[int, ...]  # in this round
    late: tuple[bool, ...]  # has sent a late answer in this round
    twice: tuple[bool, ...]  # has repeated its answer of this round
    dead: tuple[bool, ...]
    elapsed_s: float
    round: int = -1
    late_count: int = 0
    faulty_count: int = 0


class State(NamedTuple):
    protocol: Protocol
    decision: Decision
    books: Books
    draining: bool

    def key(self):
        """Equal for states with the same future. Counts are left out, because they are compared in every state."""
        p = self.protocol
        marks = (p.round, p._answered.tobytes(), p._erased.tobytes(), p.alive.tobytes(), type(p._last))
        return (*marks, self.draining, self.books[:6])


def clone(protocol: Protocol) -> Protocol:
    new = copy.copy(protocol)
    for name in ("_answered", "_erased", "alive", "late_answers", "faulty_answers", "losses"):
        setattr(new, name, getattr(protocol, name).copy())
    return new


def put(values: tuple, j: int, value) -> tuple:
    return (*values[:j], value, *values[j + 1 :])


def events(state: State, rich: bool) -> Iterator[tuple[str, int]]:
    """What can happen next; late, repeated and faulty answers only if `rich`."""
    books, clock = state.books, bool(state.protocol.scheme.stop.instants_s)
    if clock and books.elapsed_s < DEADLINE_S + 1:
        yield "tick", 0
    for j in range(len(books.did)):
        if books.dead[j]:
            continue
        yield "lost", j
        if books.did[j] == SILENT:
            yield "arrive", j
        if rich:
            if books.did[j] == SILENT:
                yield "faulty", j
                yield "future", j
            if books.did[j] == ANSWERED and not books.twice[j]:
                yield "twice", j
            if state.protocol.round > 0 and books.did[j] == SILENT and not books.late[j]:
                yield "late", j


def after(state: State, event: str, j: int) -> State:
    """The environment's record and the protocol after one event."""
    p, books = clone(state.protocol), state.books
    t = 10.0 * p.round + books.elapsed_s
    if event == "tick":
        books = books._replace(elapsed_s=books.elapsed_s + 1)
        decision = p.tick(t + 1)
    elif event == "lost":
        books = books._replace(dead=put(books.dead, j, True))
        decision = p.lost(j, t)
    elif event == "arrive":
        late = books.late_count + state.draining
        books = books._replace(did=put(books.did, j, ANSWERED), late_count=late)
        decision = p.arrived([(p.round, j)], t)
    elif event == "twice":
        books = books._replace(twice=put(books.twice, j, True))
        decision = p.arrived([(p.round, j)], t)
    elif event == "late":
        books = books._replace(late=put(books.late, j, True), late_count=books.late_count + 1)
        decision = p.arrived([(p.round - 1, j)], t)
    else:
        books = books._replace(did=put(books.did, j, FAULTY), faulty_count=books.faulty_count + 1)
        decision = p.faulty(j, t) if event == "faulty" else p.arrived([(p.round + 1, j)], t)
    return State(p, decision, books, state.draining)


def check(state: State, approximate: bool) -> None:
    """The invariants."""
    p, books, decision = state.protocol, state.books, state.decision
    scheme, t = p.scheme, 10.0 * p.round + books.elapsed_s
    assert p.late_answers.sum() == books.late_count, "late answers miscounted"
    assert p.faulty_answers.sum() == books.faulty_count, "faulty answers miscounted"
    assert sorted(worker for worker, _ in p.losses) == np.flatnonzero(books.dead).tolist(), "losses miscounted"
    arrived = np.array(books.did) == ANSWERED
    possible = (np.array(books.did) == SILENT) & ~np.array(books.dead)
    if state.draining:
        if isinstance(decision, Wait):
            assert p.late == "wait" and possible.any(), "drains what never comes"
        else:
            assert isinstance(decision, Proceed)
            assert p.late != "wait" or not possible.any(), "did not drain"
        return
    enough = bool(scheme.enough(arrived, books.elapsed_s))
    instants = [s for s in scheme.stop.instants_s if s > books.elapsed_s]
    if isinstance(decision, Wait):
        assert not enough, "waits though it has enough"
        assert possible.any() or instants, "deadlock"
        assert decision.until_s == min((10.0 * p.round + s for s in instants), default=np.inf)
    elif isinstance(decision, Update):
        np.testing.assert_array_equal(decision.got, arrived, "counts what did not arrive, or not what did")
        given_up = approximate and arrived.any() and not possible.any() and not instants
        assert enough or given_up, "too early"
    else:
        assert isinstance(decision, Fail), f"{decision} while collecting at {t}"
        assert not enough and not possible.any() and not instants, "gave up too early"
        assert not approximate or not arrived.any(), "gave up with something to go on with"


def begun(protocol: Protocol, books: Books) -> State:
    """The record at the start of the next round, in which only dead workers keep their state."""
    p, k, round_ = clone(protocol), len(books.dead), books.round + 1
    fresh = books._replace(did=(SILENT,) * k, late=(False,) * k, twice=(False,) * k, elapsed_s=0.0, round=round_)
    decision = p.begin(10.0 * round_)
    assert p.round == round_, "a round was lost or repeated"
    return State(p, decision, fresh, False)


def explore(protocol: Protocol, rich: bool, approximate: bool) -> tuple[int, int]:
    """Visits every reachable state; returns their number, and the number of ends of the third round."""
    k = protocol.scheme.code.workers
    protocol = remembering(protocol)
    nothing = Books((SILENT,) * k, (False,) * k, (False,) * k, (False,) * k, 0.0)
    stack, seen, finished = [begun(protocol, nothing)], set(), 0
    while stack:
        state = stack.pop()
        if state.key() in seen:
            continue
        seen.add(state.key())
        check(state, approximate)
        p, decision = state.protocol, state.decision
        if isinstance(decision, Wait):
            stack += [after(state, *event) for event in events(state, rich)]
        elif isinstance(decision, Update):
            p = clone(p)
            stack.append(State(p, p.updated(10.0 * p.round + state.books.elapsed_s), state.books, True))
        elif isinstance(decision, Proceed) and state.books.round + 1 < ROUNDS:
            stack.append(begun(p, state.books))
        elif isinstance(decision, Proceed):
            finished += 1
    return len(seen), finished


@pytest.mark.parametrize("on_loss", ["stop", "approximate"])
@pytest.mark.parametrize("late", ["cancel", "wait"])  # to the protocol, skip is cancel
@pytest.mark.parametrize("name", schemes(2))
@pytest.mark.parametrize("richest", [2, pytest.param(3, marks=pytest.mark.soak)])
def test_every_interleaving(name: str, late: str, on_loss: str, richest: int):
    states = finished = 0
    for k in (1, 2, 3, 4):
        protocol = Protocol(schemes(k)[name], late, on_loss)
        # Late, repeated and faulty answers multiply the states: three workers have 8,000, with a clock 41,000.
        rich = k <= (2 if protocol.scheme.stop.instants_s else richest)
        found = explore(protocol, rich, approximate=on_loss == "approximate")
        states, finished = states + found[0], finished + found[1]
    assert states > 500 and finished > 10


class CountsLateAnswers(Protocol):
    """A faulty protocol that accepts an answer to the last round in this one."""

    def arrived(self, answers, t):
        return super().arrived([(self.round, message) for _, message in answers], t)


class NeverBuries(Protocol):
    """A faulty protocol that waits for dead workers."""

    def lost(self, worker, t):
        self.losses.append((worker, 0))
        return self._decide("lost", [worker], t)


class StepsTwice(Protocol):
    """A faulty protocol that starts a round again."""

    def updated(self, t):
        super().updated(t)
        self.round -= 1
        return Proceed()


class CannotCount(Protocol):
    """A faulty protocol that uses faulty answers."""

    def faulty(self, message, t):
        self.faulty_answers[message] += 1
        self._answered[message] = True
        return self._decide("faulty", [message], t)


class Hasty(Protocol):
    """A faulty protocol that stops at the first answer."""

    def _decision(self, t):
        decision = super()._decision(t)
        waits = self._collecting and isinstance(decision, Wait) and self._answered.any()
        return Update(self._answered.copy()) if waits else decision


@pytest.mark.parametrize("broken", [CountsLateAnswers, NeverBuries, StepsTwice, CannotCount, Hasty])
def test_the_checker_finds(broken: type[Protocol]):
    with pytest.raises(AssertionError):
        explore(broken(schemes(3)["uncoded"], "cancel", "stop"), rich=True, approximate=False)
