"""When the master stops waiting. The same rules drive the MPI run and the simulation."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

import equinox as eqx

from erasurehead_jax.codes import AbstractCode
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import Got, Verdict


class AbstractStop(eqx.Module):
    """A rule that is monotone in `got` and in time: once it holds in a round it goes on holding.

    `instants_s` are the seconds of a round at which the verdict may change without an arrival; the master looks at its
    clock then. Rules use operators and methods only, so they take a NumPy mask or a traced one.
    """

    instants_s: eqx.AbstractVar[tuple]

    @abstractmethod
    def __call__(self, code: AbstractCode, got: Got, elapsed_s: float) -> Verdict:
        """Enough, `elapsed_s` seconds into the round, with the messages `got`?"""

    def at_most(self, workers: int) -> int:
        """r, the number of workers waited for at most."""
        return workers

    def check(self, workers: int) -> None:
        """Raises ConfigError if the rule cannot be meant for this many workers."""


class Decodable(AbstractStop):
    """Stop as soon as the exact gradient can be decoded."""

    instants_s: tuple = ()

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: float) -> Verdict:
        return code.decodable(got)


class Count(AbstractStop):
    """Stop when `wait_for` workers have answered in full."""

    wait_for: int
    instants_s: tuple = ()

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: float) -> Verdict:
        return code.heard(got).sum() >= self.wait_for

    def at_most(self, workers: int) -> int:
        return self.wait_for

    def check(self, workers: int) -> None:
        if not 1 <= self.wait_for <= workers:
            raise ConfigError(f"wait_for={self.wait_for}: must lie between 1 and workers={workers}")


class Deadline(AbstractStop):
    """Stop `seconds` after the round began, with whatever has arrived."""

    seconds: float

    @property
    def instants_s(self) -> tuple:
        """The deadline itself."""
        return (self.seconds,)

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: float) -> Verdict:
        return elapsed_s >= self.seconds

    def check(self, workers: int) -> None:
        if not self.seconds >= 0:
            raise ConfigError(f"stop.seconds={self.seconds}: a deadline must be a number of seconds, 0 or more")


class DecodeError(AbstractStop):
    """Stop when the decode error ||w - 1||^2 of the code's own decoder is at most `budget`."""

    budget: float
    instants_s: tuple = ()

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: float) -> Verdict:
        w = code.G @ code.weights(got)
        return ((w - 1) ** 2).sum() <= self.budget

    def check(self, workers: int) -> None:
        if not self.budget >= 0:
            raise ConfigError(f"stop.budget={self.budget}: a decode error budget must be 0 or more")


class AnyOf(AbstractStop):
    """Stop when any of the rules holds."""

    rules: tuple[AbstractStop, ...] = eqx.field(converter=tuple)

    @property
    def instants_s(self) -> tuple:
        """The instants of all rules."""
        return _instants(self.rules)

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: float) -> Verdict:
        return reduce(or_, (rule(code, got, elapsed_s) for rule in self.rules))

    def at_most(self, workers: int) -> int:
        return min(rule.at_most(workers) for rule in self.rules)

    def check(self, workers: int) -> None:
        _check_all("any_of", self.rules, workers)


class AllOf(AbstractStop):
    """Stop when all of the rules hold."""

    rules: tuple[AbstractStop, ...] = eqx.field(converter=tuple)

    @property
    def instants_s(self) -> tuple:
        """The instants of all rules."""
        return _instants(self.rules)

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: float) -> Verdict:
        return reduce(and_, (rule(code, got, elapsed_s) for rule in self.rules))

    def at_most(self, workers: int) -> int:
        return max(rule.at_most(workers) for rule in self.rules)

    def check(self, workers: int) -> None:
        _check_all("all_of", self.rules, workers)


def _instants(rules: Sequence[AbstractStop]) -> tuple:
    return tuple(instant for rule in rules for instant in rule.instants_s)


def _check_all(name: str, rules: Sequence[AbstractStop], workers: int) -> None:
    if not rules:
        raise ConfigError(f"stop={name} of nothing: give at least one rule")
    for rule in rules:
        rule.check(workers)
