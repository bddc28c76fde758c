"""One simulated round of every shipped scheme against a plain event loop, and the decoders' promises."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

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
    FractionalRepetition,
    Scheme,
    Uncoded,
    collect,
)
from erasurehead_jax.hydra_app import CONFIG_DIR
from erasurehead_jax.job import instantiate

WORKERS = 6


def shipped(name: str) -> Scheme:
    """configs/scheme/{name}.yaml with six workers, load 2 and wait_for 3."""
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        config = compose("train", [f"scheme={name}", f"workers={WORKERS}", "load=2", "wait_for=3"])
    return instantiate("scheme", cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))


def with_deadline(stop: AbstractStop, code: AbstractCode | None = None) -> Scheme:
    return Scheme(code or FractionalRepetition(WORKERS, WORKERS, 2), stop, ByCode())


SHIPPED = {path.stem: shipped(path.stem) for path in sorted(Path(CONFIG_DIR, "scheme").glob("*.yaml"))}
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
SCHEMES = SHIPPED | TIMED
every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


def arrivals() -> np.ndarray:
    """Rounds of six arrivals: all different, tied, at once, and with workers that never answer."""
    rng = np.random.default_rng(0)
    different, tied = rng.exponential(1, (40, WORKERS)), rng.integers(0, 4, (80, WORKERS)).astype(float)
    lossy = np.where(rng.random((80, WORKERS)) < 0.3, np.inf, tied)
    constant = np.repeat([[0.0], [1.0], [np.inf]], WORKERS, axis=1)
    return np.concatenate([different, tied, lossy, constant])


def event_loop(scheme: Scheme, arrival_s: np.ndarray) -> tuple[np.ndarray, float]:
    """The master's day: at every arrival and every instant of the rule, look whether this is enough."""
    got = np.zeros(len(arrival_s), bool)
    for now_s in sorted({*arrival_s[np.isfinite(arrival_s)], *map(float, scheme.stop.instants_s)}):
        got[arrival_s == now_s] = True
        if scheme.stop(scheme.code, got, float(now_s)) or got.all():
            return got, now_s
    return got, np.inf


@every_scheme
def test_collect_is_the_event_loop(scheme: Scheme):
    rounds = arrivals()
    got, elapsed_s = jax.jit(jax.vmap(lambda arrival_s: collect(scheme, arrival_s)))(rounds)
    for i, arrival_s in enumerate(rounds):
        expected_got, expected_s = event_loop(scheme, arrival_s)
        np.testing.assert_array_equal(got[i], expected_got, str(arrival_s))
        np.testing.assert_array_equal(elapsed_s[i], expected_s, str(arrival_s))


@every_scheme
def test_vmap_is_a_loop(scheme: Scheme):
    rounds = arrivals()[::8]
    one = jax.jit(lambda arrival_s: collect(scheme, arrival_s))
    got, elapsed_s = jax.vmap(one)(rounds)
    looped = [one(arrival_s) for arrival_s in rounds]
    np.testing.assert_array_equal(got, [mask for mask, _ in looped])
    np.testing.assert_array_equal(elapsed_s, [seconds for _, seconds in looped])


def exact_s(arrival_s: np.ndarray) -> float:
    """When each of three pairs has answered."""
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
    for arrival_s in arrivals()[::4]:
        _, elapsed_s = collect(SHIPPED[name], arrival_s)
        assert elapsed_s == ELAPSED_S[name](arrival_s)


@every_scheme
def test_a_round_ends_once_everything_is_in(scheme: Scheme):
    assert scheme.enough(np.ones(WORKERS, bool), 0.0)


def test_a_rule_that_never_holds_collects_everything_that_came():
    got, elapsed_s = collect(SHIPPED["uncoded"], np.array([1.0, 2, np.inf, 3, 4, 5]))
    np.testing.assert_array_equal(got, [True, True, False, True, True, True])
    assert elapsed_s == np.inf


def test_messages_of_one_instant_count_together():
    got, elapsed_s = collect(SHIPPED["ignore_stragglers"], np.array([1.0, 2, 2, 2, 2, 3]))
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
    with pytest.raises(ConfigError, match=f"^wait_for={wait_for}: rescale=expected needs it between 1 and workers=6"):
        Scheme(Uncoded(6, 6), Decodable(), decoder("expected", wait_for))


def test_a_scheme_refuses_a_rule_that_does_not_fit_its_code():
    with pytest.raises(ConfigError, match=r"^wait_for=7: must lie between 1 and workers=6"):
        Scheme(Uncoded(6, 6), AnyOf(rules=(Decodable(), Count(wait_for=7))), ByCode())
