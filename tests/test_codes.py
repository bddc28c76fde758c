"""Every code satisfies the contract of AbstractCode, and each family matches the closed forms of its paper."""

import itertools
import math

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st

from erasurehead_jax import AbstractCode, ConfigError, CyclicRepetition, FractionalRepetition, Uncoded
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.decoding import expected_coverage

# id: (code, n, k, c)
SIZED = {
    "uncoded 6/6": (Uncoded(6, 6), 6, 6, 1),
    "uncoded 12/4": (Uncoded(12, 4), 12, 4, 3),
    "fractional 6/6/2": (FractionalRepetition(6, 6, 2), 6, 6, 2),
    "fractional 9/9/3": (FractionalRepetition(9, 9, 3), 9, 9, 3),
    "fractional 6/12/2": (FractionalRepetition(6, 12, 2), 6, 12, 2),
    "fractional 12/6/4": (FractionalRepetition(12, 6, 4), 12, 6, 4),
    "fractional 30/30/3": (FractionalRepetition(30, 30, 3), 30, 30, 3),
    "cyclic 6/1": (CyclicRepetition(6, 6, 1), 6, 6, 1),
    "cyclic 3/2": (CyclicRepetition(3, 3, 2), 3, 3, 2),
    "cyclic 7/3": (CyclicRepetition(7, 7, 3), 7, 7, 3),
    "cyclic 5/5": (CyclicRepetition(5, 5, 5), 5, 5, 5),
    "cyclic 12/4": (CyclicRepetition(12, 12, 4), 12, 12, 4),
}
CODES = {name: code for name, (code, *_) in SIZED.items()}
ERASABLE = {name: code for name, code in CODES.items() if code.messages <= 12}

every_code = pytest.mark.parametrize("code", CODES.values(), ids=CODES)


def masks_of(code: AbstractCode, count: int = 40) -> np.ndarray:
    """Nothing, everything, and random masks of every density."""
    rng = np.random.default_rng(0)
    random = rng.random((count, code.messages)) < rng.random((count, 1))
    return np.concatenate([np.zeros((1, code.messages), bool), np.ones((1, code.messages), bool), random])


def subsets(k: int, r: int) -> np.ndarray:
    """All masks of k entries of which r are True."""
    chosen = np.array(list(itertools.combinations(range(k), r)), int).reshape(math.comb(k, r), r)
    masks = np.zeros((len(chosen), k), bool)
    np.put_along_axis(masks, chosen, True, axis=1)
    return masks


def random_masks(k: int, r: int, count: int) -> np.ndarray:
    """Uniformly random r-subsets of k workers."""
    return np.random.default_rng(r).random((count, k)).argsort(1) < r


def decode_errors(code: AbstractCode, masks: np.ndarray) -> np.ndarray:
    """||G a - 1||^2 of the code's own decoder for each mask."""
    a = np.asarray(jax.jit(jax.vmap(code.weights))(masks))
    return ((a @ code.G.T - 1) ** 2).sum(1)


def optimal_error(code: AbstractCode, got: np.ndarray) -> float:
    return float(((code.G @ least_squares_weights(code.G, got) - 1) ** 2).sum())


@pytest.mark.parametrize(("code", "n", "k", "c"), SIZED.values(), ids=SIZED)
def test_sizes_loads_and_copies(code: AbstractCode, n: int, k: int, c: int):
    assert (code.blocks, code.workers, code.messages, code.load) == (n, k, k, c)
    np.testing.assert_array_equal(code.holds.sum(0), np.full(k, c))
    np.testing.assert_array_equal(code.copies, np.full(n, k * c // n))


@every_code
def test_weights_decode_exactly_whenever_decodable(code: AbstractCode):
    decodable = [got for got in masks_of(code) if code.decodable(got)]
    assert decodable
    for got in decodable:
        np.testing.assert_allclose(code.G @ code.weights(got), 1, atol=1e-9)


@every_code
def test_missing_messages_have_no_weight(code: AbstractCode):
    for got in masks_of(code):
        assert not np.asarray(code.weights(got))[~got].any()


@every_code
def test_decodable_says_whether_any_weights_decode(code: AbstractCode):
    for got in masks_of(code):
        assert bool(code.decodable(got)) == (optimal_error(code, got) < 1e-12)


@every_code
def test_traced_mask_decodes_like_numpy_mask(code: AbstractCode):
    masks = masks_of(code)
    decodable, weights = jax.jit(jax.vmap(lambda got: (code.decodable(got), code.weights(got))))(masks)
    np.testing.assert_array_equal(decodable, [code.decodable(got) for got in masks])
    np.testing.assert_allclose(weights, [code.weights(got) for got in masks], atol=1e-8)


@pytest.mark.parametrize("code", ERASABLE.values(), ids=ERASABLE)
def test_every_set_of_fewer_erasures_than_copies_is_decodable(code: AbstractCode):
    copies = int(code.copies.min())
    for erased in range(copies):
        masks = ~subsets(code.workers, erased)
        assert np.asarray(jax.vmap(code.decodable)(masks)).all()
        np.testing.assert_allclose(decode_errors(code, masks), 0, atol=1e-16)
    assert not all(code.decodable(~lost) for lost in subsets(code.workers, copies))


@given(st.data())
def test_one_more_message_never_increases_the_optimal_error(data: st.DataObject):
    code = data.draw(st.sampled_from(list(ERASABLE.values())))
    got = np.array(data.draw(st.lists(st.booleans(), min_size=code.messages, max_size=code.messages)))
    more = got.copy()
    more[data.draw(st.integers(0, code.messages - 1))] = True
    assert optimal_error(code, more) <= optimal_error(code, got) + 1e-9


@pytest.mark.parametrize("code", [FractionalRepetition(6, 6, 2), FractionalRepetition(6, 12, 2), Uncoded(12, 4)])
def test_fractional_error_is_n_times_p(code: AbstractCode):
    n, k, copies = code.blocks, code.workers, int(code.copies[0])
    for r in range(k + 1):
        p = math.comb(k - copies, r) / math.comb(k, r)
        assert decode_errors(code, subsets(k, r)).mean() == pytest.approx(n * p, abs=1e-12)
        assert expected_coverage(code, r) == pytest.approx(1 - p, abs=1e-12)


@pytest.mark.parametrize(("c", "r", "error"), [(3, 15, 3.3621), (3, 20, 0.8867), (5, 15, 0.6322)])
def test_fractional_error_of_thirty_workers(c: int, r: int, error: float):
    code = FractionalRepetition(30, 30, c)
    assert 30 * (1 - expected_coverage(code, r)) == pytest.approx(error, abs=5e-5)
    errors = decode_errors(code, random_masks(30, r, 20_000))
    assert abs(errors.mean() - error) < 4 * errors.std() / math.sqrt(len(errors))


@pytest.mark.parametrize(
    ("c", "r", "chance"),
    [(2, 20, 0.1023), (2, 25, 0.6743), (2, 28, 0.9655), (3, 15, 0.2177), (3, 20, 0.7203), (3, 25, 0.9754)],
)
def test_chance_that_fractional_repetition_decodes(c: int, r: int, chance: float):
    masks = random_masks(30, r, 20_000)
    exact = np.asarray(jax.jit(jax.vmap(FractionalRepetition(30, 30, c).decodable))(masks))
    assert abs(exact.mean() - chance) < 4 * math.sqrt(chance * (1 - chance) / len(masks))


@pytest.mark.parametrize(("c", "workers"), [(2, 24.08), (3, 18.43)])
def test_workers_until_fractional_repetition_decodes(c: int, workers: float):
    rank = np.random.default_rng(c).random((4_000, 30)).argsort(1)
    heard = rank[:, None, :] < np.arange(31)[None, :, None]
    needed = np.asarray(jax.jit(jax.vmap(jax.vmap(FractionalRepetition(30, 30, c).decodable)))(heard)).argmax(1)
    assert abs(needed.mean() - workers) < 4 * needed.std() / math.sqrt(len(needed)) + 0.005


@pytest.mark.parametrize(
    "code", [Uncoded(6, 6), FractionalRepetition(6, 6, 2), FractionalRepetition(6, 6, 3), CyclicRepetition(7, 7, 3)]
)
def test_one_step_error_of_a_biregular_support(code: AbstractCode):
    k, c, support = code.workers, code.load, code.holds.astype(float)
    for r in range(1, k + 1):
        w = k / (r * c) * subsets(k, r) @ support.T
        expected = k * (k - r) * (k - c) / ((k - 1) * r * c)
        assert ((w - 1) ** 2).sum(1).mean() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "load"), [(3, 2), (7, 3), (12, 4), (5, 5)])
def test_cyclic_columns_have_cyclic_support_and_span_n_minus_s_dimensions(n: int, load: int):
    code = CyclicRepetition(n, n, load)
    behind = (np.arange(n)[:, None] - np.arange(n)) % n
    np.testing.assert_array_equal(code.holds, behind < load)
    np.testing.assert_array_equal(code.G.diagonal(), 1)
    assert np.linalg.matrix_rank(code.G) == n - load + 1


@given(st.integers(0, 2**32 - 1))
def test_any_two_of_three_cyclic_workers_decode(code_seed: int):
    code = CyclicRepetition(3, 3, 2, code_seed)
    for got in subsets(3, 2):
        np.testing.assert_allclose(code.G @ code.weights(got), 1, atol=1e-6)


def test_worked_cyclic_example():
    G = np.array([[0.5, 1, 0], [0, 1, -1], [0.5, 0, 1]]).T
    for got in subsets(3, 2):
        np.testing.assert_allclose(G @ least_squares_weights(G, got), 1, atol=1e-12)


def test_cyclic_coefficients_are_a_function_of_the_seed():
    same, other = CyclicRepetition(7, 7, 3, 1), CyclicRepetition(7, 7, 3, 2)
    np.testing.assert_array_equal(same.G, CyclicRepetition(7, 7, 3, 1).G)
    assert not np.allclose(same.G, other.G)


@pytest.mark.parametrize(
    ("family", "sizes", "field_and_rule"),
    [
        (Uncoded, {"blocks": 7, "workers": 3}, r"^workers=3: must divide blocks=7\b"),
        (Uncoded, {"blocks": 3, "workers": 6}, r"^workers=6: must divide blocks=3\b"),
        (Uncoded, {"blocks": 3, "workers": 0}, r"^workers=0: must divide blocks=3\b"),
        (
            FractionalRepetition,
            {"blocks": 7, "workers": 6, "load": 2},
            r"^load=2: must divide blocks=7, as 1 and 7 do",
        ),
        (FractionalRepetition, {"blocks": 6, "workers": 6, "load": 0}, r"^load=0: must divide blocks=6\b"),
        (FractionalRepetition, {"blocks": 6, "workers": 7, "load": 2}, r"^workers=7: must be a multiple of .*=3\b"),
        (CyclicRepetition, {"blocks": 5, "workers": 6, "load": 2}, r"^blocks=5: .* as many blocks as workers \(6\)"),
        (CyclicRepetition, {"blocks": 5, "workers": 5, "load": 6}, r"^load=6: must lie between 1 and blocks=5\b"),
        (CyclicRepetition, {"blocks": 5, "workers": 5, "load": 0}, r"^load=0: must lie between 1 and blocks=5\b"),
    ],
)
def test_bad_sizes_are_refused_by_field_value_and_rule(family, sizes: dict[str, int], field_and_rule: str):
    with pytest.raises(ConfigError, match=field_and_rule):
        family(**sizes)
