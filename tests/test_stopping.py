"""Stopping rules are monotone, the same for NumPy and traced masks, and count workers."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st

from erasurehead_jax import (
    AbstractCode,
    AbstractStop,
    AllOf,
    AnyOf,
    ConfigError,
    Count,
    CyclicRepetition,
    Deadline,
    Decodable,
    DecodeError,
    FractionalRepetition,
    Uncoded,
)
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class TwoMessages(AbstractCode):
    """Three workers, each sending its two blocks in separate messages."""

    G: Assignment
    owner: Owner

    def __init__(self):
        self.G = np.eye(6)
        self.owner = np.arange(6) // 2

    def decodable(self, got: Got) -> Verdict:
        return got.all()

    def weights(self, got: Got) -> Weights:
        return got.astype(float)


CODES = [Uncoded(6, 6), FractionalRepetition(6, 6, 2), CyclicRepetition(6, 6, 3), TwoMessages()]
RULES: list[AbstractStop] = [
    Decodable(),
    Count(wait_for=2),
    Deadline(seconds=0.5),
    DecodeError(budget=1.5),
    AnyOf(rules=(Decodable(), Count(wait_for=3))),
    AnyOf(rules=(Decodable(), Deadline(seconds=0.5))),
    AllOf(rules=(Count(wait_for=2), Deadline(seconds=0.5))),
    AnyOf(rules=(AllOf(rules=(Count(wait_for=2), Deadline(seconds=0.5))), Deadline(seconds=1.0), Decodable())),
]
codes = st.sampled_from(CODES)
rules = st.sampled_from(RULES)
masks = st.lists(st.booleans(), min_size=6, max_size=6).map(np.array)
seconds = st.floats(0, 2)


@given(rules, codes, masks, masks, seconds, seconds)
def test_a_rule_that_holds_goes_on_holding(
    rule: AbstractStop, code: AbstractCode, got: np.ndarray, more: np.ndarray, elapsed_s: float, later_s: float
):
    assert not rule(code, got, elapsed_s) or rule(code, got | more, elapsed_s + later_s)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("code", CODES, ids=lambda code: type(code).__name__)
def test_numpy_and_traced_verdicts_agree(rule: AbstractStop, code: AbstractCode):
    rng = np.random.default_rng(0)
    got, elapsed_s = rng.random((64, 6)) < rng.random((64, 1)), rng.choice([0, 0.25, 0.5, 1, 1.5], 64)
    traced = jax.jit(jax.vmap(lambda g, t: jax.numpy.asarray(rule(code, g, t))))(got, elapsed_s)
    np.testing.assert_array_equal(traced, [rule(code, g, float(t)) for g, t in zip(got, elapsed_s, strict=True)])
    assert np.unique(traced).size == 2


@given(rules, codes)
def test_every_rule_ends_a_complete_round(rule: AbstractStop, code: AbstractCode):
    assert rule(code, np.ones(6, bool), 1.0)


@given(masks, seconds)
def test_any_of_is_or_and_all_of_is_and(got: np.ndarray, elapsed_s: float):
    code, parts = FractionalRepetition(6, 6, 2), (Count(wait_for=2), Deadline(seconds=0.5), Decodable())
    verdicts = [rule(code, got, elapsed_s) for rule in parts]
    assert AnyOf(rules=parts)(code, got, elapsed_s) == any(verdicts)
    assert AllOf(rules=parts)(code, got, elapsed_s) == all(verdicts)


@pytest.mark.parametrize("combined", [AnyOf, AllOf])
def test_the_clock_matters_at_the_deadlines_of_all_parts(combined: type[AnyOf] | type[AllOf]):
    assert combined(
        rules=(Deadline(seconds=0.5), Count(wait_for=2), AnyOf(rules=(Deadline(seconds=1.5),)))
    ).instants_s == (0.5, 1.5)


@given(st.lists(st.integers(0, 5), unique=True))
def test_count_counts_workers_not_messages(arrived: list[int]):
    got = np.isin(np.arange(6), arrived)
    complete = sum(got[2 * worker] and got[2 * worker + 1] for worker in range(3))
    for wait_for in (1, 2, 3):
        assert Count(wait_for=wait_for)(TwoMessages(), got, 0.0) == (complete >= wait_for)


def test_count_ignores_half_an_answer_from_everybody():
    first_halves = np.array([True, False] * 3)
    assert not Count(wait_for=1)(TwoMessages(), first_halves, 0.0)
    assert Count(wait_for=1)(TwoMessages(), first_halves | (np.arange(6) == 1), 0.0)


def test_decode_error_stops_within_its_budget():
    code, got = Uncoded(6, 6), np.arange(6) < 4
    assert DecodeError(budget=2.0)(code, got, 0.0)
    assert not DecodeError(budget=1.9)(code, got, 0.0)


def test_deadline_holds_from_its_second_on():
    code, nothing = Uncoded(6, 6), np.zeros(6, bool)
    assert [bool(Deadline(seconds=0.5)(code, nothing, t)) for t in (0.0, 0.49, 0.5, 0.51)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("rule", "workers"),
    [
        (Count(wait_for=4), 4),
        (Decodable(), 6),
        (AnyOf(rules=(Decodable(), Count(wait_for=4), Count(wait_for=5))), 4),
        (AllOf(rules=(Count(wait_for=4), Count(wait_for=5))), 5),
        (AllOf(rules=(Count(wait_for=4), Decodable())), 6),
    ],
    ids=str,
)
def test_workers_waited_for_at_most(rule: AbstractStop, workers: int):
    assert rule.at_most(6) == workers


@pytest.mark.parametrize(
    ("rule", "field_and_rule"),
    [
        (Count(wait_for=0), "wait_for=0: must lie between 1 and workers=6"),
        (Count(wait_for=7), "wait_for=7: must lie between 1 and workers=6"),
        (Deadline(seconds=-1.0), r"stop\.seconds=-1\.0: must be a finite number, 0 or more"),
        (Deadline(seconds=math.nan), r"stop\.seconds=nan: must be a finite number, 0 or more"),
        (DecodeError(budget=-0.1), r"stop\.budget=-0\.1: must be a finite number, 0 or more"),
        (DecodeError(budget=math.nan), r"stop\.budget=nan: must be a finite number, 0 or more"),
        (AnyOf(rules=()), "stop=any_of: must combine at least one rule"),
        (AllOf(rules=()), "stop=all_of: must combine at least one rule"),
        (AnyOf(rules=(Decodable(), AllOf(rules=(Count(wait_for=9),)))), "wait_for=9: must lie between 1 and workers=6"),
    ],
    ids=str,
)
def test_invalid_rules_are_refused(rule: AbstractStop, field_and_rule: str):
    with pytest.raises(ConfigError, match=f"^{field_and_rule}"):
        rule.check(6)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules_that_fit_are_accepted(rule: AbstractStop):
    rule.check(6)
