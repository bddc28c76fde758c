"""Each family of codes against the closed forms and values of its paper, and its decoder against least squares.

Values of random codes are means over codes and masks, within four standard errors.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from test_codes import random_masks, subsets

from erasurehead_jax import AbstractCode, ConfigError, Count, CyclicRepetition, FractionalRepetition, Scheme, theory
from erasurehead_jax.codes import (
    BIBD,
    Bernoulli,
    BlockModel,
    CouponCollector,
    Custom,
    CyclicMDS,
    GraphCode,
    PartialCyclic,
    PartialReplication,
    ReedSolomon,
    RegularGraph,
    StochasticCode,
)
from erasurehead_jax.codes.bibd import DESIGNS, DIFFERENCE_SETS
from erasurehead_jax.codes.graph_code import optimal_shares, optimal_weights
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.codes.regular_graph import random_regular
from erasurehead_jax.decoding import OneStep, Unbiased

ROUNDED = 0.005  # of values given with two decimals


def error(code: AbstractCode, a: np.ndarray) -> float:
    return float(((code.G @ a - 1) ** 2).sum())


def optimal(code: AbstractCode, got: np.ndarray) -> float:
    return error(code, np.asarray(least_squares_weights(code.G, got)))


def own(code: AbstractCode, got: np.ndarray) -> float:
    return error(code, np.asarray(code.weights(got)))


def survivors(k: int, s: int, most: int = 200) -> Iterator[np.ndarray]:
    """All masks with s stragglers, or `most` random ones."""
    yield from ~subsets(k, s) if math.comb(k, s) <= most else random_masks(k, k - s, most)


def agrees(found: np.ndarray, expected: float, rounded: float = ROUNDED) -> bool:
    """Whether the mean lies within four standard errors of the expected value, which has been rounded."""
    return abs(found.mean() - expected) < 4 * found.std() / math.sqrt(len(found)) + rounded


@pytest.mark.parametrize("family", [CyclicRepetition, CyclicMDS, ReedSolomon])
@pytest.mark.parametrize(
    ("n", "load"), [(4, 2), (5, 3), (6, 2), (6, 4), (7, 1), (7, 7), (9, 5), (30, 2), (30, 4), (30, 10)]
)
def test_any_n_minus_s_workers_decode(family: Callable[..., AbstractCode], n: int, load: int):
    code = family(blocks=n, workers=n, load=load)
    np.testing.assert_array_equal(code.holds.sum(0), load)
    np.testing.assert_array_equal(code.copies, load)
    for s in range(load):
        for got in survivors(n, s):
            assert code.decodable(got) and own(code, got) < 1e-12
    assert not code.decodable(np.arange(n) >= load)


def test_worked_cyclic_mds_examples():
    np.testing.assert_allclose(CyclicMDS(4, 4, 2).G[:, 0], [1, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(CyclicMDS(5, 5, 3).G[:, 0], [1, 1.618034, 1, 0, 0], atol=1e-6)


def amplification(code: AbstractCode, s: int) -> tuple[float, float]:
    """Median and maximum of |a| |G| over 300 random sets of stragglers: how much rounding grows."""
    norm = np.linalg.norm(code.G, 2)
    found = [np.linalg.norm(code.weights(got)) * norm for got in random_masks(30, 30 - s, 300)]
    return float(np.median(found)), float(np.max(found))


def test_explicit_coefficients_are_better_conditioned_than_random_ones():
    random, cyclic, reed_solomon = (
        amplification(family(30, 30, 4), 3) for family in (CyclicRepetition, CyclicMDS, ReedSolomon)
    )
    assert random[0] > 8 * cyclic[0] and random[1] > 8 * cyclic[1]
    assert cyclic[0] > reed_solomon[0] and cyclic[1] > 8 * reed_solomon[1]


@pytest.mark.parametrize(("family", "name"), [(CyclicMDS, "cyclic MDS"), (ReedSolomon, "Reed-Solomon")])
def test_complex_coefficients_are_refused_with_the_reason(family: Callable[..., AbstractCode], name: str):
    with pytest.raises(ConfigError, match=rf"^load=3: {name} has real .* use load=2 or 4 with workers=30$"):
        family(blocks=30, workers=30, load=3)


@pytest.mark.parametrize(("c", "r", "expected"), [(3, 15, 4.45), (3, 20, 1.58), (5, 15, 1.50)])
def test_optimal_error_of_cyclic_ones(c: int, r: int, expected: float):
    code = Custom((np.arange(30)[:, None] - np.arange(30)) % 30 < c)
    assert agrees(np.array([optimal(code, got) for got in random_masks(30, r, 3000)]), expected)


@pytest.mark.parametrize(("c", "r", "expected"), [(3, 15, 5.00), (3, 20, 2.06), (5, 15, 2.82)])
def test_optimal_error_of_random_regular_graphs(c: int, r: int, expected: float):
    masks = random_masks(30, r, 3000)
    codes = [RegularGraph(30, 30, c, code_seed=seed) for seed in range(100)]
    errors = np.array([optimal(codes[i % 100], got) for i, got in enumerate(masks)])
    assert agrees(errors, expected, 0.06)  # the given values are estimates, too


@pytest.mark.parametrize(
    ("c", "r", "one_step", "best"), [(3, 15, 18.0, 8.09), (3, 20, 13.5, 5.19), (5, 15, 10.0, 4.68)]
)
def test_bernoulli_errors(c: int, r: int, one_step: float, best: float):
    pairs = [(Bernoulli(30, 30, c, code_seed=i), got) for i, got in enumerate(random_masks(30, r, 3000))]
    assert theory.bernoulli_one_step_error(30, c, r) == pytest.approx(one_step)
    assert agrees(np.array([own(code, got) for code, got in pairs]), one_step, 0)
    assert agrees(np.array([optimal(code, got) for code, got in pairs]), best)


def test_regularised_bernoulli_takes_blocks_from_heavy_workers_only():
    plain, regular = Bernoulli(60, 60, 3), Bernoulli(60, 60, 3, most_blocks=6)
    heavy = plain.holds.sum(0) > 6
    assert heavy.any()
    np.testing.assert_array_equal(regular.holds.sum(0), np.minimum(plain.holds.sum(0), 6))
    np.testing.assert_array_equal(regular.G[:, ~heavy], plain.G[:, ~heavy])
    assert (regular.G <= plain.G).all()


@pytest.mark.parametrize(("inside", "expected"), [(0.5, 14.91), (0.4, 16.26)])
def test_block_model_one_step_error(inside: float, expected: float):
    assert theory.block_model_one_step_error(30, 3, 5, 15, inside) == pytest.approx(expected, abs=ROUNDED)
    pairs = [(BlockModel(30, 30, 3, 5, inside, i), got) for i, got in enumerate(random_masks(30, 15, 4000))]
    assert agrees(np.array([own(code, got) for code, got in pairs]), expected)


def test_block_model_contains_fractional_repetition():
    code = BlockModel(12, 12, 3, group=3, inside=1)
    np.testing.assert_array_equal(code.G, np.kron(np.eye(4), np.ones((3, 3))))


def test_expander_error_bound_holds_for_every_set_of_stragglers():
    code = RegularGraph(12, 12, 3, draws=20)
    for s in range(1, 12):
        worst = max(own(code, got) for got in survivors(12, s, 1000))
        assert worst <= theory.expander_error_bound(12, 3, code.second_eigenvalue, s) + 1e-9
    assert code.second_eigenvalue <= RegularGraph(12, 12, 3).second_eigenvalue


@pytest.mark.parametrize(("blocks", "workers"), [(6, 9), (10, 15), (10, 10), (12, 30), (30, 30), (20, 50)])
def test_graph_decoder_is_least_squares(blocks: int, workers: int):
    code = GraphCode(blocks, workers)
    assert set(code.holds.sum(0)) == {2} and set(code.copies) == {2 * workers // blocks}
    for r in range(workers + 1):
        for got in random_masks(workers, r, 5):
            w, best = code.G @ code.weights(got), code.G @ least_squares_weights(code.G, got)
            np.testing.assert_allclose(w, best, atol=1e-12)
            np.testing.assert_allclose(optimal_shares(code.edges, blocks, got), best, atol=1e-12)
            assert code.decodable(got) == (((best - 1) ** 2).sum() < 1e-9)


def test_worked_graph_example():
    path, both = np.array([[0, 1], [1, 2]]), np.ones(2, bool)
    np.testing.assert_allclose(optimal_weights(path, 3, both), [2 / 3, 2 / 3], atol=1e-15)
    np.testing.assert_allclose(optimal_shares(path, 3, both), [2 / 3, 4 / 3, 2 / 3], atol=1e-15)


def test_graph_decoder_at_a_hundred_thousand_workers():
    blocks, workers = 40_000, 100_000
    edges = random_regular(blocks, 5, [0])
    got = np.random.default_rng(0).random(workers) < 0.4
    a = optimal_weights(edges, blocks, got)
    assert not a[~got].any()
    w = np.bincount(edges.ravel(), np.repeat(a, 2), blocks)
    np.testing.assert_allclose(w, optimal_shares(edges, blocks, got), atol=1e-9)


def designs() -> Iterator[tuple[int, int, int]]:
    yield from ((v, v, load) for v, load, _ in DIFFERENCE_SETS)
    yield from DESIGNS
    yield from ((v, v, (v - 1) // 2) for v in (19, 23, 31, 43))  # quadratic residues


@pytest.mark.parametrize(("blocks", "workers", "load"), list(designs()))
def test_every_two_workers_of_a_design_share_equally_many_blocks(blocks: int, workers: int, load: int):
    code = BIBD(blocks, workers, load)
    meets = code.G.T @ code.G
    np.testing.assert_array_equal(meets, np.where(np.eye(workers) == 1, load, code.shared))
    assert len(set(code.copies)) == 1
    assert (blocks, load, code.shared) in DIFFERENCE_SETS or workers != blocks or load == (workers - 1) // 2
    for r in range(workers + 1):
        for got in random_masks(workers, r, 3):
            expected = blocks - load**2 * r / (load + code.shared * (r - 1))
            assert own(code, got) == pytest.approx(expected, abs=1e-9)
            assert optimal(code, got) == pytest.approx(expected, abs=1e-9)


def test_fano_errors():
    fano = BIBD(7, 7, 3)
    for s, expected in enumerate([0, 0.25, 0.571429, 1, 1.6, 2.5]):
        for got in survivors(7, s):
            assert own(fano, got) == pytest.approx(expected, abs=1e-6)
        assert theory.bibd_error(7, 3, 1, 7 - s) == pytest.approx(expected, abs=1e-6)


def test_stochastic_code_is_unbiased_with_the_variance_of_its_paper():
    copies, k, r = [2, 3, 4, 8, 8, 3], 12, 9
    p = 1 - r / k
    code = StochasticCode(6, k, copies, wait_for=r)
    np.testing.assert_array_equal(code.copies, copies)
    got = np.random.default_rng(1).random((40_000, k)) >= p
    w = np.asarray(jax.vmap(code.weights)(got)) @ code.G.T
    for share, count in zip(w.T, copies, strict=True):
        assert agrees(share, 1, 1e-6)
        assert agrees((share - 1) ** 2, theory.sgc_share_variance(p, count), 1e-6)


def test_stochastic_code_balances_pairs_on_average():
    shared = [StochasticCode(6, 12, 4, 9, seed).holds.astype(int) for seed in range(2000)]
    pairs = np.array([(holds @ holds.T)[0, 1] for holds in shared])
    assert agrees(pairs, 4 * 4 / 12, 0)


@pytest.mark.parametrize(("c", "expected"), [(2, 49.8), (3, 29.3), (5, 14.7), (10, 5.5)])
def test_workers_until_all_coupons(c: int, expected: float):
    found = []
    for seed in range(1500):
        code = CouponCollector(30, 500, c, seed)
        found.append(max(np.flatnonzero(code.drawn == batch)[0] for batch in range(code.batches)) + 1)
    assert agrees(np.array(found), expected, 0.05)


def test_a_coupon_that_nobody_has_drawn_is_never_decoded():
    chance, batches = [], 6
    for seed in range(2000):
        code = CouponCollector(18, 15, 3, seed)
        missing = len(set(code.drawn)) < batches
        assert code.decodable(np.ones(15, bool)) == (not missing)
        chance.append(missing)
    assert np.mean(chance) <= batches * (1 - 1 / batches) ** 15 + 4 * np.std(chance) / math.sqrt(2000)


@pytest.mark.parametrize(
    "code", [PartialReplication(24, 12, 3), PartialCyclic(24, 12, 3), PartialReplication(24, 12, 4)]
)
def test_partial_codes_need_every_first_message_and_some_of_the_second(code: AbstractCode):
    np.testing.assert_array_equal(code.owner, [*range(12), *range(12)])
    assert set(code.holds.sum(0)) == {code.load}
    everything = np.ones(24, bool)
    for first in range(12):
        assert not code.decodable(everything & (np.arange(24) != first))
    coded = code.coded  # pyright: ignore[reportAttributeAccessIssue]
    for got in random_masks(12, 9, 100):
        both = np.concatenate([np.ones(12, bool), got])
        assert code.decodable(both) == coded.decodable(got)
        if code.decodable(both):
            assert own(code, both) < 1e-12


@pytest.mark.parametrize("k", [100, 200])
def test_large_least_squares_problems_are_solved_like_small_ones(k: int):
    graph = RegularGraph(k, k, 4).G
    for G in (graph, Bernoulli(k, k, 3).G, CyclicMDS(k, k, 4).G, np.kron(np.eye(k // 4), np.ones((4, 4)))):
        for r in (70, k // 2 + 30, k):
            (got,) = random_masks(k, r, 1)
            a = np.asarray(least_squares_weights(G, got))
            best = np.linalg.lstsq(G[:, got], np.ones(k), rcond=None)[0]
            np.testing.assert_allclose(G @ a, G[:, got] @ best, atol=1e-10)
            assert not a[~got].any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0\n0,x\n", r"is no matrix: numbers separated by commas, one line a block, no header \(could not convert "),
        (
            "1,0\n0\n",
            r"is no matrix: numbers separated by commas, one line a block, no header \(the number of ",
        ),
        ("1,0\n0,inf\n", r"inf in row 2, column 2; must be finite$"),
    ],
)
def test_a_file_that_is_no_matrix_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "G.csv").write_text(text)
    with pytest.raises(ConfigError, match=rf"^scheme.code.G=.*G.csv: {message}"):
        Custom(tmp_path / "G.csv")


def test_a_matrix_is_read_from_files(tmp_path: Path):
    G = BIBD(7, 7, 3).G
    np.save(tmp_path / "G.npy", G)
    np.savetxt(tmp_path / "G.csv", G, delimiter=",")
    for name in ("G.npy", "G.csv"):
        np.testing.assert_array_equal(Custom(str(tmp_path / name)).G, G)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Custom("G.txt"), r"^scheme.code.G=G.txt: must be a .npy or .csv file"),
        (lambda: Custom("nowhere.npy"), r"^scheme.code.G=nowhere.npy: cannot be read: "),
        (lambda: Custom(np.eye(3), blocks=4), r"^blocks=4: Custom.G has 3 blocks; set blocks=3$"),
        (lambda: Custom(np.eye(3), workers=2), r"^workers=2: Custom.G has 3 workers; set workers=3$"),
        (lambda: Custom(1j * np.eye(3)), r"^Custom.G: complex128 \(3, 3\); must be a matrix of real numbers"),
        (lambda: Custom(np.ones(3)), r"^Custom.G: float64 \(3,\); must be a matrix of real numbers"),
        (lambda: Custom([[1.0, np.nan]]), r"^Custom.G: nan in row 1, column 2; must be finite$"),
        (lambda: Custom(np.eye(3), owner=[0, 2, 2]), r"^Custom.owner: worker 1 of 3 sends no message"),
        (lambda: Bernoulli(6, 6, 7), r"^load=7: must be a finite number, above 0 and at most 6$"),
        (lambda: Bernoulli(6, 6, 2, most_blocks=0), r"^most_blocks=0: must be a whole number, at least 1$"),
        (lambda: BlockModel(6, 5, 2, 2, 0.5), r"^blocks=6: the block model needs as many"),
        (lambda: BlockModel(6, 6, 2, 4, 0.5), r"^group=4: must divide workers=6, as 2 and 3 do "),
        (lambda: BlockModel(6, 6, 2, 3, 0.9), r"^inside=0.9: must lie between 0 and 0.666667 for load=2 and group=3"),
        (lambda: RegularGraph(5, 5, 3), r"^load=3: no graph of 5 vertices has 3 neighbours at each"),
        (lambda: RegularGraph(4, 4, 4), r"^load=4: no graph of 4 vertices"),
        (lambda: GraphCode(7, 9), r"^workers=9: 2 \* workers must be a multiple of blocks=7"),
        (
            lambda: BIBD(8, 8, 3),
            r"^blocks=8, workers=8, load=3: no design of these sizes .* choose one of 3\(2\)",
        ),
        (lambda: StochasticCode(3, 6, [1, 2], 4), r"^copies=\[1, 2\]: must be a whole number between 1 and workers=6"),
        (lambda: StochasticCode(3, 6, 7, 4), r"^copies=7: must be a whole number between 1 and workers=6"),
        (lambda: CouponCollector(6, 6, 0), r"^load=0: must lie between 1 and blocks=6$"),
        (lambda: PartialCyclic(12, 12, 3), r"^blocks=12: must exceed workers \* own = 12, .* blocks=24 "),
        (lambda: PartialCyclic(30, 12, 3), r"^blocks=30: must be workers \* \(own \+ 1\) = 24"),
        (lambda: PartialReplication(24, 12, 1), r"^load=1: must exceed own=1"),
    ],
)
def test_what_no_family_can_build_is_refused(make, message: str):
    with pytest.raises(ConfigError, match=message):
        make()


def test_every_pair_of_survivor_sets_of_five_decodes():
    code = CyclicMDS(5, 5, 3)
    sets = list(itertools.combinations(range(5), 3))
    assert len(sets) == 10
    for some in sets:
        got = np.isin(np.arange(5), some)
        assert own(code, got) < 1e-20


@pytest.mark.parametrize("code", [FractionalRepetition(6, 6, 2), RegularGraph(6, 6, 2), CyclicMDS(7, 7, 3)])
def test_one_step_weights_are_unbiased_for_uniformly_random_answers(code: AbstractCode):
    k, copies = code.workers, code.G.sum() / code.blocks
    for r in range(1, k + 1):
        masks = subsets(k, r)
        w = np.array([code.G @ OneStep()(code, got) for got in masks])
        np.testing.assert_allclose(OneStep()(code, masks[0]), masks[0] * k / (r * copies))
        assert w.mean() == pytest.approx(1)
        if set(np.unique(code.G)) == {0, 1}:
            expected = theory.one_step_error(code.blocks, k, code.load, r)
            assert ((w - 1) ** 2).sum(1).mean() == pytest.approx(expected)


@pytest.mark.parametrize("code", [FractionalRepetition(6, 6, 2), CyclicMDS(7, 7, 3), PartialReplication(12, 6, 3)])
@pytest.mark.parametrize("each", [False, True])
def test_unbiased_weights_for_known_chances_of_straggling(code: AbstractCode, each: bool):
    chances = np.linspace(0.1, 0.6, code.workers) if each else np.full(code.workers, 0.3)
    decode = Unbiased(chances.tolist() if each else 0.3)
    decode.check(code.workers)
    got = (np.random.default_rng(0).random((20_000, code.workers)) >= chances)[:, code.owner]
    w = np.asarray(jax.vmap(lambda mask: decode(code, mask))(got)) @ code.G.T
    for share in w.T:
        assert agrees(share, 1, 1e-6)
    assert not decode(code, got[0])[~got[0]].any()


@pytest.mark.parametrize(
    ("straggling", "message"),
    [
        ([0.1, 0.2], r"^straggling=\[0.1, 0.2\]: must be one probability, or one for each of the 6 workers$"),
        (1.0, r"^straggling=1.0: must be below 1: a worker that never answers has no weight$"),
        (-0.1, r"^straggling=-0.1: must be a finite number, 0 or more$"),
    ],
)
def test_impossible_chances_of_straggling_are_refused(straggling, message: str):
    with pytest.raises(ConfigError, match=message):
        Scheme(FractionalRepetition(6, 6, 2), Count(3), Unbiased(straggling))
