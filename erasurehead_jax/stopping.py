"""Stopping rules: when the master stops waiting for messages. MPI runs and the simulator share them."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.codes import AbstractCode
from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.errors import ConfigError, require_number
from erasurehead_jax.types import Got, Number, Seconds, Verdict


class AbstractStop(eqx.Module):
    """A stopping rule, monotone in `got` and in time: once it holds, it holds for the rest of the round.

    `instants_s` are the times, in seconds from the start of the round, at which the verdict may change without an
    arrival; the master evaluates the rule then. Rules use operators and methods only, so that they accept both a NumPy
    mask and a traced one.
    """

    @property
    def instants_s(self) -> tuple[Number, ...]:
        """Empty unless the rule depends on the clock."""
        return ()

    @abstractmethod
    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Number) -> Verdict:
        """Whether to stop waiting `elapsed_s` seconds into the round, given the messages `got`."""

    def first_s(self, code: AbstractCode, arrival_s: Seconds) -> Float[Array, ""]:
        """The time (s) at which the rule first holds, given the arrival times (s); inf if it never does.

        An arrival time of inf is a message that never arrives. Simultaneous messages count together. Jittable and
        vmappable.
        """
        if not code.costly:
            return first_tried_s(self, code, arrival_s)
        instants_s = jnp.sort(_possible_s(self, arrival_s))
        last = len(instants_s) - 1

        def halve(_, bounds):
            low, high = bounds  # the rule does not hold before `low`, and holds from `high` on
            middle = (low + high) // 2
            holds = holds_at(self, code, arrival_s, instants_s[jnp.minimum(middle, last)])
            return jnp.where(holds, low, middle + 1), jnp.where(holds, middle, high)

        first, _ = jax.lax.fori_loop(0, last.bit_length() + 1, halve, (jnp.array(0), jnp.array(last + 1)))
        return jnp.where(first <= last, instants_s[jnp.minimum(first, last)], jnp.inf)

    def at_most(self, workers: int) -> Number:
        """r, the largest number of workers waited for."""
        return workers

    @property
    def exact(self) -> bool:
        """Whether the rule never holds before the exact gradient can be decoded."""
        return False

    def check(self, workers: int) -> None:
        """Raises ConfigError if the rule's parameters are not valid for this number of workers."""


def holds_at(stop: AbstractStop, code: AbstractCode, arrival_s: Seconds, elapsed_s: Number) -> Verdict:
    """Whether the rule holds `elapsed_s` seconds into a round with these arrival times (s)."""
    return stop(code, (arrival_s <= elapsed_s) & jnp.isfinite(arrival_s), elapsed_s)


def first_tried_s(stop: AbstractStop, code: AbstractCode, arrival_s: Seconds) -> Float[Array, ""]:
    """`AbstractStop.first_s`, by asking the rule at every instant; it need not be monotone in `got`."""
    instants_s = _possible_s(stop, arrival_s)
    holds = jax.vmap(lambda t: holds_at(stop, code, arrival_s, t))(instants_s)
    return jnp.where(holds, instants_s, jnp.inf).min()


def _possible_s(stop: AbstractStop, arrival_s: Seconds) -> Float[Array, " instants"]:
    return jnp.concatenate([arrival_s, jnp.array(stop.instants_s, arrival_s.dtype)])


class Decodable(AbstractStop):
    """Stop as soon as the exact gradient can be decoded."""

    @property
    def exact(self) -> bool:
        """True."""
        return True

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Number) -> Verdict:
        return code.decodable(got)


class Count(AbstractStop):
    """Stop when all messages of `wait_for` workers have arrived."""

    wait_for: Number

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Number) -> Verdict:
        return code.heard(got).sum() >= self.wait_for

    def at_most(self, workers: int) -> Number:
        return self.wait_for

    def check(self, workers: int) -> None:
        if not hasattr(self.wait_for, "dtype") and (
            type(self.wait_for) is not int or not 1 <= self.wait_for <= workers
        ):
            raise ConfigError(f"wait_for={self.wait_for}: must lie between 1 and workers={workers}; set wait_for")


class Deadline(AbstractStop):
    """Stop `seconds` after the start of the round, whatever has arrived."""

    seconds: Number

    @property
    def instants_s(self) -> tuple[Number, ...]:
        """The deadline itself."""
        return (self.seconds,)

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Number) -> Verdict:
        return elapsed_s >= self.seconds

    def check(self, workers: int) -> None:
        require_number("stop.seconds", self.seconds)


class DecodeError(AbstractStop):
    """Stop when the decode error ||w - 1||^2 of the code's own decoder is at most `budget`."""

    budget: Number

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Number) -> Verdict:
        return code.decode_error(code.weights(got)) <= self.budget + ROUNDING

    def first_s(self, code: AbstractCode, arrival_s: Seconds) -> Float[Array, ""]:
        return first_tried_s(
            self, code, arrival_s
        )  # unless decoding is optimal, one more message may increase the error

    def check(self, workers: int) -> None:
        require_number("stop.budget", self.budget)


class AnyOf(AbstractStop):
    """Stop when any of the rules holds."""

    rules: tuple[AbstractStop, ...] = eqx.field(converter=tuple)

    @property
    def instants_s(self) -> tuple[Number, ...]:
        """The instants of all rules."""
        return _instants(self.rules)

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Number) -> Verdict:
        return reduce(or_, (rule(code, got, elapsed_s) for rule in self.rules))

    def first_s(self, code: AbstractCode, arrival_s: Seconds) -> Float[Array, ""]:
        return reduce(jnp.minimum, (rule.first_s(code, arrival_s) for rule in self.rules))  # rules are monotone

    def at_most(self, workers: int) -> Number:
        return min(rule.at_most(workers) for rule in self.rules)

    @property
    def exact(self) -> bool:
        """Whether all rules are."""
        return all(rule.exact for rule in self.rules)

    def check(self, workers: int) -> None:
        _check_all("any_of", self.rules, workers)


class AllOf(AbstractStop):
    """Stop when all of the rules hold."""

    rules: tuple[AbstractStop, ...] = eqx.field(converter=tuple)

    @property
    def instants_s(self) -> tuple[Number, ...]:
        """The instants of all rules."""
        return _instants(self.rules)

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Number) -> Verdict:
        return reduce(and_, (rule(code, got, elapsed_s) for rule in self.rules))

    def first_s(self, code: AbstractCode, arrival_s: Seconds) -> Float[Array, ""]:
        return reduce(jnp.maximum, (rule.first_s(code, arrival_s) for rule in self.rules))  # rules are monotone

    def at_most(self, workers: int) -> Number:
        return max(rule.at_most(workers) for rule in self.rules)

    @property
    def exact(self) -> bool:
        """Whether any rule is."""
        return any(rule.exact for rule in self.rules)

    def check(self, workers: int) -> None:
        _check_all("all_of", self.rules, workers)


def _instants(rules: Sequence[AbstractStop]) -> tuple[Number, ...]:
    return tuple(instant for rule in rules for instant in rule.instants_s)


def _check_all(name: str, rules: Sequence[AbstractStop], workers: int) -> None:
    if not rules:
        raise ConfigError(f"stop={name}: must combine at least one rule")
    for rule in rules:
        rule.check(workers)
