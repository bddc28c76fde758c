"""One simulated round of every shipped scheme against a plain event loop, and the decoders' promises."""

import contextlib
import itertools
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jaxtyping
import numpy as np
import pytest
from shipped import names, scheme_of

from erasurehead_jax import (
    AbstractCode,
    AbstractDecode,
    AbstractStop,
    AllOf,
    AnyOf,
    ByCode,
    ByLeastSquares,
    ConfigError,
    Count,
    CyclicRepetition,
    Deadline,
    Decodable,
    DecodeError,
    Exponential,
    FractionalRepetition,
    Scheme,
    Uncoded,
    collect,
)
from erasurehead_jax.job import build_scheme
from erasurehead_jax.scheme import _warn_once
from erasurehead_jax.settings import CONFIG_DIR
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.montecarlo import time_grid
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights

WORKERS = 6


@contextlib.contextmanager
def typing_off() -> Iterator[None]:
    """Disables the run-time type checks that only tests add, so that users' errors are seen as users see them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def with_deadline(stop: AbstractStop, code: AbstractCode | None = None) -> Scheme:
    return Scheme(code or FractionalRepetition(WORKERS, WORKERS, 2), stop, ByCode())


TIMED = {
    "deadline": with_deadline(Deadline(seconds=1.5)),
    "deadline at once": with_deadline(Deadline(seconds=0.0)),
    "decodable or deadline": with_deadline(AnyOf(rules=(Decodable(), Deadline(seconds=1.5)))),
    "two workers and deadline": with_deadline(AllOf(rules=(Count(wait_for=2), Deadline(seconds=1.5)))),
    "two deadlines": with_deadline(
        AnyOf(rules=(AllOf(rules=(Count(wait_for=2), Deadline(seconds=0.5))), Deadline(seconds=2.0))),
        Uncoded(12, WORKERS),
    ),
    "error budget or deadline": with_deadline(AnyOf(rules=(DecodeError(budget=1.0), Deadline(seconds=2.5)))),
}
every_scheme = pytest.mark.parametrize("scheme", [*names(), *TIMED], indirect=True)


@pytest.fixture
def scheme(request: pytest.FixtureRequest) -> Scheme:
    """A shipped scheme, or one of TIMED."""
    return TIMED[request.param] if request.param in TIMED else scheme_of(request.param)


def arrivals(messages: int = WORKERS) -> np.ndarray:
    """Arrival times of several rounds: distinct, tied, simultaneous, and with messages that never arrive."""
    rng = np.random.default_rng(0)
    different, tied = rng.exponential(1, (40, messages)), rng.integers(0, 4, (80, messages)).astype(float)
    lossy = np.where(rng.random((80, messages)) < 0.3, np.inf, tied)
    constant = np.repeat([[0.0], [1.0], [np.inf]], messages, axis=1)
    return np.concatenate([different, tied, lossy, constant])


def event_loop(scheme: Scheme, arrival_s: np.ndarray) -> tuple[np.ndarray, float]:
    """A plain event loop: the rule is evaluated at every arrival and at every instant it names."""
    got = np.zeros(len(arrival_s), bool)
    for now_s in sorted({*arrival_s[np.isfinite(arrival_s)], *map(float, scheme.stop.instants_s)}):
        got[arrival_s == now_s] = True
        if scheme.stop(scheme.code, got, float(now_s)) or got.all():
            return got, now_s
    return got, np.inf


@every_scheme
def test_collect_is_the_event_loop(scheme: Scheme):
    rounds = arrivals(scheme.code.messages)
    got, elapsed_s = jax.jit(jax.vmap(lambda arrival_s: collect(scheme, arrival_s)))(rounds)
    for i, arrival_s in enumerate(rounds):
        expected_got, expected_s = event_loop(scheme, arrival_s)
        np.testing.assert_array_equal(got[i], expected_got, str(arrival_s))
        np.testing.assert_array_equal(elapsed_s[i], expected_s, str(arrival_s))


@every_scheme
def test_vmap_is_a_loop(scheme: Scheme):
    rounds = arrivals(scheme.code.messages)[::8]
    one = jax.jit(lambda arrival_s: collect(scheme, arrival_s))
    got, elapsed_s = jax.vmap(one)(rounds)
    looped = [one(arrival_s) for arrival_s in rounds]
    np.testing.assert_array_equal(got, [mask for mask, _ in looped])
    np.testing.assert_array_equal(elapsed_s, [seconds for _, seconds in looped])


def exact_s(arrival_s: np.ndarray) -> float:
    """The time at which each of three pairs has an answer."""
    return arrival_s.reshape(3, 2).min(1).max()


ELAPSED_S: dict[str, Callable[[np.ndarray], float]] = {
    "uncoded": np.max,
    "ignore_stragglers": lambda arrival_s: np.sort(arrival_s)[2],
    "egc": exact_s,
    "egc_cyclic": lambda arrival_s: np.sort(arrival_s)[4],
    "erasurehead": lambda arrival_s: min(exact_s(arrival_s), np.sort(arrival_s)[2]),
}


@pytest.mark.parametrize("name", ELAPSED_S)
def test_shipped_schemes_take_their_order_statistic(name: str):
    one = jax.jit(lambda arrival_s: collect(scheme_of(name), arrival_s))
    for arrival_s in arrivals()[::4]:
        _, elapsed_s = one(arrival_s)
        assert elapsed_s == ELAPSED_S[name](arrival_s)


@every_scheme
def test_a_round_ends_once_everything_is_in(scheme: Scheme):
    assert scheme.enough(np.ones(scheme.code.messages, bool), 0.0)


def test_a_rule_that_never_holds_collects_everything_that_came():
    got, elapsed_s = collect(scheme_of("uncoded"), np.array([1.0, 2, np.inf, 3, 4, 5]))
    np.testing.assert_array_equal(got, [True, True, False, True, True, True])
    assert elapsed_s == np.inf


def test_messages_of_one_instant_count_together():
    got, elapsed_s = collect(scheme_of("ignore_stragglers"), np.array([1.0, 2, 2, 2, 2, 3]))
    np.testing.assert_array_equal(got, [True] * 5 + [False])
    assert elapsed_s == 2


def test_nobody_answering_before_the_deadline_is_an_empty_round():
    got, elapsed_s = collect(TIMED["deadline"], np.full(WORKERS, 9.0))
    assert not got.any()
    assert elapsed_s == 1.5


CODES = {
    "uncoded 6/6": Uncoded(6, 6),
    "uncoded 12/4": Uncoded(12, 4),
    "fractional 6/6/2": FractionalRepetition(6, 6, 2),
    "fractional 6/9/2": FractionalRepetition(6, 9, 2),
    "fractional 12/6/4": FractionalRepetition(12, 6, 4),
    "cyclic 6/3": CyclicRepetition(6, 6, 3),
}
FRACTIONAL = {name: code for name, code in CODES.items() if not isinstance(code, CyclicRepetition)}
DECODERS = [ByCode, ByLeastSquares]
every_code = pytest.mark.parametrize("code", CODES.values(), ids=CODES)
fractional_codes = pytest.mark.parametrize("code", FRACTIONAL.values(), ids=FRACTIONAL)
every_decoder = pytest.mark.parametrize("decoder", DECODERS)


def all_masks(code: AbstractCode) -> np.ndarray:
    return np.array(list(itertools.product([False, True], repeat=code.messages)))


def shares(code: AbstractCode, decode: AbstractDecode, masks: np.ndarray) -> np.ndarray:
    """w = G a for each mask."""
    return np.asarray(jax.jit(jax.vmap(lambda got: decode(code, got)))(masks)) @ code.G.T


@fractional_codes
@every_decoder
def test_expected_rescaling_is_unbiased(code: AbstractCode, decoder: type[ByCode] | type[ByLeastSquares]):
    masks = all_masks(code)
    for r in range(1, code.workers + 1):
        decode = decoder("expected", r)
        a = np.array([decode(code, got) for got in masks[masks.sum(1) == r]])
        np.testing.assert_allclose(code.G @ a.mean(0), 1, atol=1e-12)


@every_code
@every_decoder
def test_covered_rescaling_averages_to_one(code: AbstractCode, decoder: type[ByCode] | type[ByLeastSquares]):
    masks = all_masks(code)
    w = shares(code, decoder("covered"), masks)
    np.testing.assert_allclose(w[masks.any(1)].mean(1), 1, atol=1e-9)
    np.testing.assert_array_equal(w[~masks.any(1)], 0)


@every_code
def test_no_rescaling_is_the_codes_own_decoder(code: AbstractCode):
    for got in all_masks(code)[::7]:
        np.testing.assert_array_equal(ByCode()(code, got), code.weights(got))


@fractional_codes
def test_fractional_repetition_decodes_optimally(code: AbstractCode):
    masks = all_masks(code)
    np.testing.assert_allclose(shares(code, ByLeastSquares(), masks), shares(code, ByCode(), masks), atol=1e-12)


@every_code
@every_decoder
@pytest.mark.parametrize("rescale", ["expected", "covered"])
def test_numpy_and_traced_masks_decode_alike(
    code: AbstractCode, decoder: type[ByCode] | type[ByLeastSquares], rescale: Any
):
    decode, masks = decoder(rescale, 2), all_masks(code)[::5]
    traced = jax.jit(jax.vmap(lambda got: decode(code, got)))(masks)
    np.testing.assert_allclose(traced, [decode(code, got) for got in masks], atol=1e-9)
    assert not np.asarray(traced)[~masks].any()


@every_decoder
@pytest.mark.parametrize("wait_for", [None, 0, 7])
def test_expected_rescaling_needs_a_number_of_workers(
    decoder: type[ByCode] | type[ByLeastSquares], wait_for: int | None
):
    with pytest.raises(
        ConfigError, match=f"^wait_for={wait_for}: must lie between 1 and workers=6 for rescale=expected"
    ):
        Scheme(Uncoded(6, 6), Decodable(), decoder("expected", wait_for))


def test_a_scheme_refuses_a_rule_that_does_not_fit_its_code():
    with pytest.raises(ConfigError, match=r"^wait_for=7: must lie between 1 and workers=6"):
        Scheme(Uncoded(6, 6), AnyOf(rules=(Decodable(), Count(wait_for=7))), ByCode())


# --- Shipped and new yamls

SEVEN = """
_target_: erasurehead_jax.scheme.Scheme
code: {_target_: erasurehead_jax.codes.CyclicRepetition, blocks: 7, workers: 7, load: 3}
stop: {_target_: erasurehead_jax.stopping.Decodable}
decode: {_target_: erasurehead_jax.decoding.ByCode}
"""
ODD = SEVEN.replace("7, workers: 7, load: 3", "'${blocks}', workers: '${workers}', load: '${load}', odd: true").replace(
    "erasurehead_jax.codes.CyclicRepetition", "test_scheme.OddCyclic"
)


class OddCyclic(CyclicRepetition):
    """A code for odd numbers of workers only."""

    def __init__(self, blocks: int, workers: int, load: int, odd: bool):
        if odd and workers % 2 == 0:
            raise ConfigError(f"workers={workers}: must be odd")
        super().__init__(blocks, workers, load)


def test_a_new_yaml_brings_its_own_sizes_and_a_bad_one_fails_alone(tmp_path: Path):
    config_dir = str(shutil.copytree(CONFIG_DIR, tmp_path / "configs"))
    yamls = {"seven": SEVEN, "odd": ODD, "malformed": "code: [", "impossible": SEVEN.replace("load: 3", "load: 99")}
    for name, text in yamls.items():
        Path(config_dir, "scheme", f"{name}.yaml").write_text(text)
    assert set(names(config_dir)) == {*names(), *yamls}
    assert scheme_of("seven", config_dir).code.workers == scheme_of("odd", config_dir).code.workers == 7
    assert scheme_of("egc", config_dir).code.workers == 6
    with pytest.raises(ConfigError, match=r"load=99: must lie between 1 and blocks=7"):
        scheme_of("impossible", config_dir)
    with pytest.raises(Exception, match="malformed"):
        scheme_of("malformed", config_dir)


@pytest.mark.parametrize("name", ["workers", "blocks"])
def test_a_code_with_other_sizes_than_the_config_is_refused(name: str):
    code = {"_target_": "erasurehead_jax.codes.CyclicRepetition", "blocks": 7, "workers": 7, "load": 3}
    scheme = {
        "_target_": "erasurehead_jax.scheme.Scheme",
        "code": code,
        "stop": {"_target_": "erasurehead_jax.stopping.Decodable"},
        "decode": {"_target_": "erasurehead_jax.decoding.ByCode"},
    }
    sizes = {"workers": 7, "blocks": 7}
    assert build_scheme({"scheme": scheme, **sizes}).code.workers == 7
    with pytest.raises(ConfigError, match=f"^{name}=6: CyclicRepetition has 7 {name}; set {name}=7"):
        build_scheme({"scheme": scheme, **sizes, name: 6})


# --- Codes that break their contract


class Three(AbstractCode):
    """A valid code: three workers with one block each."""

    G: Assignment
    owner: Owner

    def __init__(self, G: Any = None, owner: Any = None):
        self.G = np.eye(3) if G is None else G
        self.owner = np.arange(3) if owner is None else owner

    def decodable(self, got: Got) -> Verdict:
        return got.all()

    def weights(self, got: Got) -> Weights:
        return got.astype(float)


class Lies(Three):
    """`decodable` accepts two of three messages, which are not enough."""

    def decodable(self, got: Got) -> Verdict:
        return got.sum() >= 2


class Boasts(Three):
    """Weights seven times too large."""

    def weights(self, got: Got) -> Weights:
        return 7 * got.astype(float)


class Absent(Three):
    """Weights on messages that have not arrived."""

    def weights(self, got: Got) -> Weights:
        return 1 - 0 * got.astype(float)


class NotANumber(Three):
    """Returns weights that are not numbers."""

    def weights(self, got: Got) -> Weights:
        return got * float("nan")


class PythonIf(Three):
    """`decodable` branches on the mask."""

    def decodable(self, got: Got) -> Verdict:
        return bool(got.all())


class PythonIfInWeights(Three):
    """`weights` branches on the mask."""

    def weights(self, got: Got) -> Weights:
        return got.astype(float) if got.all() else 0.0 * got


class OfBlocks(Three):
    """Returns one weight too many."""

    def weights(self, got: Got) -> Weights:
        return got.astype(float)[np.array([0, 1, 2, 2])]


class ManyVerdicts(Three):
    """Returns one verdict per message."""

    def decodable(self, got: Got) -> Verdict:
        return got


class Clock(AbstractStop):
    """A stopping rule that branches on the clock."""

    def __call__(self, code: AbstractCode, got: Got, elapsed_s: Any) -> Verdict:
        return got.any() if elapsed_s > 1 else got.all()


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"G": np.eye(3)[0]}, r"Three\.G: must be a NumPy array of floats \(blocks, messages\), not .* \(3,\)"),
        ({"G": np.eye(3, dtype=int)}, r"Three\.G: must be a NumPy array of floats .* int64 \(3, 3\)"),
        ({"G": [[1.0]]}, r"Three\.G: must be a NumPy array of floats .* not list"),
        ({"G": np.zeros((3, 0)), "owner": np.zeros(0, int)}, r"Three\.G: must be a NumPy array of floats"),
        ({"G": np.diag([1, np.nan, 1])}, r"Three\.G: must be finite"),
        ({"owner": np.arange(4)}, r"Three\.owner: must be .* integers, one for each of the 3 messages"),
        ({"owner": np.arange(3.0)}, r"Three\.owner: must be .* integers, .* float64 \(3,\)"),
        ({"owner": np.array([-1, 0, 1])}, r"Three\.owner: worker -1 does not exist; workers are numbered from 0"),
        ({"owner": np.array([0, 2, 2])}, r"Three\.owner: worker 1 of 3 sends no message; give a worker without blocks"),
    ],
)
def test_arrays_of_a_code_are_checked_when_it_is_made(arrays: dict[str, Any], rule: str):
    with pytest.raises(ConfigError, match=f"^{rule}"), typing_off():
        Three(**arrays)


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        (PythonIf, r"PythonIf\.decodable: cannot be traced by JAX; use operators and methods only"),
        (PythonIfInWeights, r"PythonIfInWeights\.weights: cannot be traced by JAX"),
        (OfBlocks, r"OfBlocks\.weights: returned float\d\d of shape \(4,\); must return numbers of shape \(3,\)"),
        (ManyVerdicts, r"ManyVerdicts\.decodable: returned bool of shape \(3,\); must return a single bool"),
    ],
)
def test_a_scheme_that_cannot_be_simulated_is_refused_when_it_is_made(code: type[Three], rule: str):
    with pytest.raises(ConfigError, match=f"^{rule}") as refusal, typing_off():
        Scheme(code(), Decodable(), ByCode())
    assert "\n" not in str(refusal.value)


def test_a_rule_that_cannot_be_simulated_is_refused():
    with pytest.raises(ConfigError, match=r"^Clock\.__call__: cannot be traced by JAX"), typing_off():
        Scheme(Three(), Clock(), ByCode())


@pytest.mark.parametrize("code", [Absent, NotANumber])
def test_unsound_weights_are_refused_by_both_backends(code: type[Three]):
    scheme, got = Scheme(code(), Count(3 if code is NotANumber else 1), ByCode()), np.array([True, False, True])
    rule = f"^ByCode of {code.__name__}: returned weights that are not finite, or not zero for messages"
    with pytest.raises(ConfigError, match=rule):
        scheme.weights(got if code is Absent else np.ones(3, bool))
    with pytest.raises(ConfigError, match=rule):
        time_grid([GridPoint({"scheme": "x"}, Point(scheme, Exponential(1.0), "cancel"))], range(2), 3)


@pytest.mark.parametrize("code", [Lies, Boasts])
def test_a_false_claim_is_reported_once_and_not_recorded_as_exact(code: type[Three], caplog: Any):
    scheme, got = Scheme(code(), Decodable(), ByCode()), np.array([True, True, code is Boasts])
    _warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        a = scheme.weights(got)
        scheme.weights(got)
        table = time_grid([GridPoint({"scheme": "x"}, Point(scheme, Exponential(1.0), "cancel"))], range(2), 3).table
    assert scheme.decode_error(a) == (1 if code is Lies else 3 * 36)
    assert table["exact_fraction"].tolist() == [0]
    warning = f"ByCode of {code.__name__}: `decodable` is True for messages whose decode error exceeds 1e-09"
    assert [record.getMessage().startswith(warning) for record in caplog.records] == [True]


@pytest.mark.parametrize("decode", [ByCode(), ByLeastSquares(), ByCode("expected", 4), ByCode("covered")])
def test_codes_that_keep_their_promise_are_not_reported(decode: AbstractDecode, caplog: Any):
    _warn_once.cache_clear()
    for code in CODES.values():
        scheme = Scheme(code, Decodable(), decode)
        for got in all_masks(code)[::5]:
            np.testing.assert_array_equal(scheme.weights(got), decode(code, got))
    assert not caplog.records
