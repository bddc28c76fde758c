"""Closed forms against enumeration, Monte-Carlo with fixed seeds, and every number of CODES.md."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.integrate import quad
from scipy.stats import kstest

from erasurehead_jax import AbstractCode, CyclicRepetition, FractionalRepetition, Uncoded, theory

DRAWS = 20_000
WITHIN = 4  # standard errors

SMALL = [(4, 4, 2), (6, 6, 2), (6, 6, 3), (4, 8, 2), (6, 9, 2), (8, 4, 4), (5, 5, 1), (3, 3, 3)]  # n, k, c
every_small_size = pytest.mark.parametrize(("n", "k", "c"), SMALL)


def subsets(k: int, r: int) -> np.ndarray:
    """All masks of k entries of which r are True."""
    return np.array([np.isin(np.arange(k), heard) for heard in itertools.combinations(range(k), r)])


def shares(code: AbstractCode, masks: np.ndarray) -> np.ndarray:
    """w = G a of the code's own decoder for each mask."""
    return np.array([code.G @ np.asarray(code.weights(got)) for got in masks])


def within_standard_errors(samples: np.ndarray, mean: float) -> bool:
    return abs(samples.mean() - mean) <= WITHIN * samples.std() / math.sqrt(len(samples))


def exponentials(k: int, mean_s: float, seed: int = 0) -> np.ndarray:
    return mean_s * np.random.default_rng(seed).standard_exponential((DRAWS, k))


def fastest(times_s: np.ndarray, r: int) -> np.ndarray:
    return np.sort(times_s)[:, r - 1]


def covered(times_s: np.ndarray, groups: int) -> np.ndarray:
    """The time at which the last group has its first answer."""
    return times_s.reshape(DRAWS, groups, -1).min(2).max(1)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (theory.p(30, 2, 11), ".393103"),
        (theory.q(30, 2, 11), ".644773"),
        (theory.p(30, 3, 11), ".238670"),
        (theory.q(30, 3, 11), ".431646"),
        (theory.p(30, 3, 15), ".112069"),
        (theory.q(30, 3, 15), ".215709"),
        (theory.exact_probability(15, 2, 20), ".1023"),
        (theory.exact_probability(15, 2, 25), ".6743"),
        (theory.exact_probability(15, 2, 28), ".9655"),
        (theory.exact_probability(10, 3, 15), ".2177"),
        (theory.exact_probability(10, 3, 20), ".7203"),
        (theory.exact_probability(10, 3, 25), ".9754"),
        (theory.workers_until_exact(15, 2), "24.08"),
        (theory.workers_until_exact(10, 3), "18.43"),
        (theory.one_step_error(30, 30, 3, 15), "9.3103"),
        (theory.one_step_error(30, 30, 3, 20), "4.6552"),
        (theory.one_step_error(30, 30, 5, 15), "5.1724"),
        (theory.fractional_repetition_error(30, 30, 3, 15), "3.3621"),
        (theory.fractional_repetition_error(30, 30, 3, 20), ".8867"),
        (theory.fractional_repetition_error(30, 30, 5, 15), ".6322"),
        (theory.bernoulli_one_step_error(30, 3, 15), "18.0"),
        (theory.bernoulli_one_step_error(30, 3, 20), "13.5"),
        (theory.bernoulli_one_step_error(30, 5, 15), "10.0"),
        (theory.block_model_one_step_error(30, 3, 5, 15, 0.5), "14.91"),
        (theory.block_model_one_step_error(30, 3, 5, 15, 0.4), "16.26"),
        (theory.bibd_error(7, 3, 1, 7), "0.000000"),
        (theory.bibd_error(7, 3, 1, 6), ".25"),
        (theory.bibd_error(7, 3, 1, 5), ".571429"),
        (theory.bibd_error(7, 3, 1, 4), "1.000000"),
        (theory.bibd_error(7, 3, 1, 3), "1.6"),
        (theory.bibd_error(7, 3, 1, 2), "2.5"),
        (theory.wait_for_all_s(30, 0.5), "1.9975"),
        (theory.exact_s(15, 2, 0.5), ".8296"),
        (theory.exact_s(10, 3, 0.5), ".4882"),
        (theory.order_statistic_s(30, 11, 0.5), ".2236"),
        (theory.order_statistic_s(30, 15, 0.5), ".3384"),
        (theory.order_statistic_s(30, 20, 0.5), ".5330"),
        (theory.order_statistic_s(30, 27, 0.5), "1.0808"),
        (theory.speed_up_limit(30, 11), "8.93"),
        (theory.egc_round(30, 3, 3), ".3929"),
        (theory.egc_round_as_printed(30, 3, 3), ".3162"),
    ],
)
def test_values_of_the_documents_to_the_digits_given(value: float, printed: str):
    assert isinstance(value, float)
    assert value == pytest.approx(float(printed), abs=0.5001 * 10.0 ** -len(printed.split(".")[1]))


@pytest.mark.parametrize(
    ("value", "simulated"),
    [
        (theory.order_statistic_s(30, 27, 0.5), 1.080),
        (theory.exact_s(10, 3, 0.5), 0.492),
        (theory.erasurehead_s(10, 3, 11, 0.5), 0.224),
        (theory.skip_s(30, 27, 0.5), 1.184),
        (theory.skip_s(30, 11, 0.5), 0.443),
    ],
)
def test_simulated_round_times_of_the_documents_to_one_percent(value: float, simulated: float):
    assert value == pytest.approx(simulated, rel=0.01)


@every_small_size
def test_lemmas_2_and_3_by_enumeration(n: int, k: int, c: int):
    code = FractionalRepetition(n, k, c)
    copies, groups = k * c // n, n // c
    gradients = np.random.default_rng(n).normal(size=(n, 2))  # of the paper's f_i
    exact = gradients.mean(0)
    group_norms2 = (gradients.reshape(groups, c, 2).sum(1) ** 2).sum(1)
    for r in range(k + 1):
        w = shares(code, subsets(k, r))
        p, q = theory.p(k, copies, r), theory.q(k, copies, r)
        assert (w[:, 0] == 0).mean() == pytest.approx(p, abs=1e-13)
        if groups > 1:
            assert ((w[:, 0] == 0) | (w[:, -1] == 0)).mean() == pytest.approx(q, abs=1e-13)
        assert (w == 1).all(1).mean() == pytest.approx(theory.exact_probability(groups, copies, r), abs=1e-13)
        assert ((w - 1) ** 2).sum(1).mean() == pytest.approx(theory.fractional_repetition_error(n, k, copies, r))
        g = w @ gradients / n
        np.testing.assert_allclose(g.mean(0), theory.mean_factor(k, copies, r) * exact, atol=1e-13)
        second = theory.second_moment(k, copies, r, n, exact @ exact, group_norms2)
        assert (g**2).sum(1).mean() == pytest.approx(second, abs=1e-13)
        sigma = np.sqrt((gradients**2).sum(1).max())
        assert second <= theory.second_moment_bound(k, copies, r, exact @ exact, sigma) + 1e-13


def test_lemma_4_is_attained_by_equal_gradients():
    """The paper's (5), which is smaller by a factor of n^2, therefore cannot hold."""
    second = theory.second_moment(30, 3, 11, 30, 4.0, np.full(10, (3 * 2.0) ** 2))
    assert second == pytest.approx(theory.second_moment_bound(30, 3, 11, 4.0, 2.0))


@pytest.mark.parametrize(("c", "r"), [(2, 11), (3, 11), (3, 15)])
def test_lemma_2_by_monte_carlo(c: int, r: int):
    rank = exponentials(30, 1.0, seed=c).argsort(1)
    found = np.any(rank.reshape(DRAWS, 30 // c, c) < r, axis=2)
    assert within_standard_errors(~found[:, 0], theory.p(30, c, r))
    assert within_standard_errors(~(found[:, 0] & found[:, 1]), theory.q(30, c, r))
    assert within_standard_errors(found.all(1), theory.exact_probability(30 // c, c, r))


@given(st.data())
def test_p_q_and_their_bounds(data: st.DataObject):
    k = data.draw(st.integers(2, 10_000))
    copies = data.draw(st.integers(1, k // 2))
    r = data.draw(st.integers(0, k))
    p, q, rounding = theory.p(k, copies, r), theory.q(k, copies, r), 1e-10
    assert 0 <= p <= theory.p_bound(k, copies, r) + rounding <= 1 + rounding
    assert p - rounding <= q <= 2 * p
    assert 1 - q <= (1 - p) ** 2 + rounding  # stronger than q >= p: groups compete for the r answers


@pytest.mark.parametrize("copies", [1, 3, 30, 150, 290])
def test_log_gamma_agrees_with_exact_fractions(copies: int):
    for r in (0, 1, 2, 9, 10, 11, 150, 297, 298, 300):
        exact = Fraction(math.comb(300 - copies, r), math.comb(300, r))
        assert theory.p(300, copies, r) == pytest.approx(float(exact), rel=1e-11)


def test_p_of_ten_thousand_workers():
    exact = Fraction(math.comb(9_970, 3_000), math.comb(10_000, 3_000))
    assert theory.p(10_000, 30, 3_000) == pytest.approx(float(exact), rel=1e-10)
    assert theory.p(10_000, 30, 9_971) == 0 < theory.p(10_000, 30, 9_970)


@pytest.mark.parametrize(
    "value",
    [
        lambda r: theory.p(12, 2, r),
        lambda r: theory.q(12, 2, r),
        lambda copies: theory.p(12, copies, 3),
        lambda copies: theory.q(12, copies, 3),
        lambda r: theory.p_bound(12, 2, r),
        lambda r: theory.mean_factor(12, 2, r),
        lambda r: theory.second_moment_bound(12, 2, r, 1.0, 2.0),
        lambda r: theory.exact_probability(6, 2, r),
        lambda r: theory.one_step_error(12, 12, 2, r),
        lambda r: theory.fractional_repetition_error(12, 12, 2, r),
        lambda r: theory.bernoulli_one_step_error(12, 2, r),
        lambda r: theory.block_model_one_step_error(12, 2, 3, r, 0.5),
        lambda r: theory.bibd_error(13, 4, 1, r),
        lambda r: theory.order_statistic_s(12, r, 0.5),
        lambda r: theory.agc_round(12, 2, r, 3.0),
        lambda r: theory.speed_up_limit(12, r),
        lambda t: theory.exact_gap_bound(t, 1.0, 0.5, 2.0),
        lambda t: theory.gap_bound(t, 1.0, 0.5, 2.0, 1.0, 12, 2, 6, "1/beta"),
        lambda t: theory.simple_gap_bound(t, 1.0, 0.5, 2.0, 1.0, 12, 2, 6, "(1-p)/beta"),
        lambda t: theory.count_cdf(t, 12, 4, 3.0),
        lambda t: theory.wait_for_all_cdf(t, 12, 3.0),
        lambda t: theory.exact_cdf(t, 6, 2, 3.0),
        lambda t: theory.erasurehead_cdf(t, 6, 2, 4, 3.0),
        lambda t: theory.skip_cdf(t, 12, 4, 3.0),
    ],
)
def test_arrays_are_taken_entry_by_entry(value: Callable):
    many = np.arange(1, 13).reshape(3, 4)
    one_by_one = [value(int(one)) for one in many.reshape(-1)]
    assert all(isinstance(one, float) for one in one_by_one)
    np.testing.assert_allclose(value(many), np.reshape(one_by_one, (3, 4)), rtol=1e-12)


@pytest.mark.parametrize(
    "code", [FractionalRepetition(6, 6, 2), FractionalRepetition(4, 8, 2), CyclicRepetition(7, 7, 3), Uncoded(8, 4)]
)
def test_one_step_error_by_enumeration(code: AbstractCode):
    n, k, copies = code.blocks, code.workers, int(code.copies[0])
    for r in range(1, k + 1):
        w = k / (r * copies) * subsets(k, r) @ code.holds.T
        assert ((w - 1) ** 2).sum(1).mean() == pytest.approx(theory.one_step_error(n, k, copies, r), abs=1e-12)


@pytest.mark.parametrize(("m", "inside"), [(5, 0.5), (6, 0.1), (10, 0.3)])
def test_block_model_one_step_error_by_monte_carlo(m: int, inside: float):
    k, c, r = 30, 3, 15
    rng = np.random.default_rng(m)
    own = np.arange(k) // m == 0  # block 0's
    holds = rng.random((DRAWS, k)) < np.where(own, inside, (c - m * inside) / (k - m))
    heard = rng.random((DRAWS, k)).argsort(1) < r
    errors = (k / (r * c) * (holds & heard).sum(1) - 1) ** 2
    assert within_standard_errors(k * errors, theory.block_model_one_step_error(k, c, m, r, inside))


def test_block_model_contains_bernoulli_and_fractional_repetition():
    for r in range(1, 31):
        bernoulli = theory.block_model_one_step_error(30, 3, 5, r, 0.1)
        assert bernoulli == pytest.approx(theory.bernoulli_one_step_error(30, 3, r))
        repetition = theory.block_model_one_step_error(30, 3, 3, r, 1)
        assert repetition == pytest.approx(theory.one_step_error(30, 30, 3, r))


def test_fano_plane_error_is_the_same_for_every_pattern():
    G = np.array([[(i - j) % 7 in (0, 1, 3) for j in range(7)] for i in range(7)], float)
    for r in range(1, 8):
        for got in subsets(7, r):
            w = G[:, got] @ np.linalg.pinv(G[:, got]) @ np.ones(7)
            assert ((w - 1) ** 2).sum() == pytest.approx(theory.bibd_error(7, 3, 1, r), abs=1e-12)


def petersen() -> np.ndarray:
    pairs = list(itertools.combinations(range(5), 2))
    return np.array([[not set(a) & set(b) for b in pairs] for a in pairs], float)


def test_expander_bound_holds_for_every_straggler_set_and_needs_the_absolute_eigenvalue():
    adjacency = petersen()
    eigenvalues = np.linalg.eigvalsh(adjacency)
    second = np.sort(np.abs(eigenvalues))[-2]
    worst = {}
    for stragglers in range(1, 6):
        w = 10 / (10 - stragglers) * subsets(10, 10 - stragglers) @ adjacency / 3
        worst[stragglers] = ((w - 1) ** 2).sum(1).max()
        assert worst[stragglers] <= theory.expander_error_bound(10, 3, second, stragglers) + 1e-12
    assert any(worst[s] > theory.expander_error_bound(10, 3, eigenvalues[-2], s) for s in worst)


@pytest.mark.parametrize(("straggling", "copies"), [(0.1, 2), (0.5, 3), (0.9, 4)])
def test_share_variances_by_enumeration_of_copies(straggling: float, copies: int):
    arrived = np.arange(copies + 1)
    chance = [math.comb(copies, i) * (1 - straggling) ** i * straggling ** (copies - i) for i in arrived]
    sgc = arrived / (copies * (1 - straggling))
    best = (arrived > 0) / (1 - straggling**copies)
    for share, variance in (
        (sgc, theory.sgc_share_variance(straggling, copies)),
        (sgc, theory.fixed_share_variance_bound(straggling, copies)),
        (best, theory.unbiased_share_variance_bound(straggling, copies)),
    ):
        assert chance @ share == pytest.approx(1)
        assert chance @ (share - 1) ** 2 == pytest.approx(variance)


@pytest.mark.parametrize("code", [Uncoded(6, 6), FractionalRepetition(6, 6, 2), CyclicRepetition(5, 5, 3)])
def test_adversary_erases_at_least_its_floor_and_exactness_needs_the_load(code: AbstractCode):
    k, copies = code.workers, int(code.copies[0])
    for stragglers in range(k + 1):
        masks = subsets(k, k - stragglers)
        erased = (masks @ code.holds.T == 0).sum(1).max()
        assert erased >= theory.adversarial_erasures(stragglers, copies)
        always_exact = all(code.decodable(got) for got in masks)
        assert always_exact == (code.load >= theory.least_exact_load(stragglers))


@pytest.mark.parametrize("step_size", ["1/beta", "(1-p)/beta"])
@pytest.mark.parametrize("r", [2, 3])
def test_theorems_1_and_2_bound_the_exact_expectation_over_all_straggler_histories(r: int, step_size):
    n, k, c, rounds = 4, 4, 2, 4
    code = FractionalRepetition(n, k, c)
    p = theory.p(k, c, r)
    targets = np.random.default_rng(r).normal(size=(n, 2))
    curvature = np.array([1.0, 3.0])  # f_i(x) = 1/2 sum of curvature (x - targets[i])^2: mu = 1, beta = 3
    w = shares(code, subsets(k, r))
    gamma = (1 if step_size == "1/beta" else 1 - p) / 3

    def gaps(x):
        return (curvature * (x - targets.mean(0)) ** 2).sum(1) / 2

    x, sigma, mean_gaps = np.array([[3.0, -2.0]]), 0.0, []
    for _ in range(rounds + 1):
        mean_gaps.append(gaps(x).mean())
        gradients = curvature * (x[:, None] - targets)
        sigma = max(sigma, np.sqrt((gradients**2).sum(2).max()))
        g = np.einsum("mi,xid->xmd", w, gradients) / n
        x = (x[:, None] - gamma * g / (1 - p)).reshape(-1, 2)
    T = np.arange(rounds + 1)
    bound = theory.gap_bound(T, mean_gaps[0], 1, 3, sigma, k, c, r, step_size)
    assert (np.array(mean_gaps) <= bound).all()
    assert (bound <= theory.simple_gap_bound(T, mean_gaps[0], 1, 3, sigma, k, c, r, step_size)).all()


def test_lemma_1_is_attained_by_a_sphere_and_bounds_an_ellipse():
    x = np.array([3.0, -2.0])
    for t in range(5):
        gap = (np.array([1.0, 4.0]) * x**2).sum() / 2
        assert gap <= theory.exact_gap_bound(t, 12.5, 1, 4) + 1e-12
        x = x - np.array([1.0, 4.0]) * x / 4
    assert theory.exact_gap_bound(1, 12.5, 4, 4) == 0


@given(st.data())
def test_theorem_2_lies_above_theorem_1(data: st.DataObject):
    k = data.draw(st.integers(2, 500))
    copies = data.draw(st.integers(2, k))
    r = data.draw(st.integers(math.ceil(k * math.log(2) / copies), k))
    kappa = data.draw(st.floats(0.01, 1))
    numbers = (np.arange(0, 100, 9), 1.5, kappa, 1.0, 2.0, k, copies, r)
    for step_size in ("1/beta", "(1-p)/beta"):
        assert (theory.gap_bound(*numbers, step_size) <= theory.simple_gap_bound(*numbers, step_size) + 1e-9).all()


def test_worked_examples_of_theorems_1_and_2():
    """k = 4 in two groups: for r = 1, p = 1/2 and q = 1; for r = 2, cr/n = 1."""
    assert theory.gap_bound(2, 8, 1, 2, 1, 4, 2, 1, "1/beta") == pytest.approx(8 / 4 + 1)
    assert theory.gap_bound(2, 8, 1, 2, 1, 4, 2, 1, "(1-p)/beta") == pytest.approx(8 * (3 / 4) ** 2 + 1 / 4)
    e = math.e
    assert theory.simple_gap_bound(2, 8, 1, 2, 1, 4, 2, 2, "1/beta") == pytest.approx(8 / 4 + 3 / e)
    shrunk = 8 * ((1 + 1 / e) / 2) ** 2
    assert theory.simple_gap_bound(2, 8, 1, 2, 1, 4, 2, 2, "(1-p)/beta") == pytest.approx(shrunk + 1 / e)


def test_exact_coding_has_no_noise_floor():
    for step_size in ("1/beta", "(1-p)/beta"):
        bound = theory.gap_bound(7, 2.0, 0.5, 2.0, 9.0, 30, 3, 28, step_size)
        assert bound == pytest.approx(theory.exact_gap_bound(7, 2.0, 0.5, 2.0), rel=1e-12)


@pytest.mark.parametrize(("n", "c"), [(30, 2), (30, 3), (30, 15), (30, 30), (1000, 10)])
def test_theorem_3_covers_lemma_8_except_as_printed(n: int, c: int):
    gap, target, mu, beta = 2.0, 0.5, 0.1, 1.0
    rounds = math.log(gap / target) / -math.log1p(-mu / beta)  # lambda = 1/c in Theorem 3
    common = (n, c, gap, target, mu, beta)
    for bound, round_time in (
        (theory.uncoded_time_bound(*common), theory.uncoded_round(n, c)),
        (theory.egc_time_bound(*common), theory.egc_round(n, c, c)),
    ):
        assert 0 <= bound - rounds * round_time <= rounds * c / n  # log(n) <= H_n <= log(n) + 1, equation (15)
    assert theory.egc_time_bound_as_printed(*common) < rounds * theory.egc_round(n, c, c)


@pytest.mark.parametrize(("c", "r"), [(2, 11), (3, 11), (3, 15), (3, 29)])
def test_theorem_3_of_approximate_coding_reaches_its_target_in_its_time(c: int, r: int):
    n, gap, mu, beta, sigma = 30, 5.0, 0.1, 1.0, 0.5
    target = 3 * c * math.exp(-c * r / n) * sigma**2 / (mu * n)
    kappa = (1 - math.exp(-c * r / n)) * mu / beta
    rounds = math.log(3 * gap / target) / -math.log1p(-kappa)
    reached = theory.simple_gap_bound(math.ceil(rounds), gap, mu, beta, sigma, n, c, r, "(1-p)/beta")
    assert reached <= target * (1 + 1e-12)
    slack = theory.agc_time_bound(n, c, r, gap, target * (1 + 1e-12), mu, beta, sigma) / rounds
    slack -= theory.agc_round(n, c, r, c)
    assert 0 <= slack <= 1.5 * c**2 / n


def test_worked_example_of_theorem_3():
    """n = 4, c = 2, r = 2: cr/n = 1, and 48 is three times the gap over the target."""
    rounds = math.log(48) / -math.log((1 + 1 / math.e) / 2)
    bound = theory.agc_time_bound(4, 2, 2, 8, 0.5, 1, 2, 0.1)
    assert bound == pytest.approx(rounds * (4 * math.log(2) + 4 + 2) / 4)


@pytest.fixture(scope="module")
def shifted() -> np.ndarray:
    """Section 4's times of n = k = 30 workers, c = 3, lambda = 1/3."""
    return 3 / 30 * (1 + exponentials(30, 3.0))


def test_monte_carlo_agrees_with_the_corrected_form_of_lemma_8(shifted: np.ndarray):
    assert within_standard_errors(covered(shifted, 10), theory.egc_round(30, 3, 3))
    assert not within_standard_errors(covered(shifted, 10), theory.egc_round_as_printed(30, 3, 3))


def test_printed_lemma_8_contradicts_itself_without_redundancy():
    assert theory.egc_round(30, 1, 3) == pytest.approx(theory.uncoded_round(30, 3))
    assert theory.egc_round_as_printed(30, 1, 3) == pytest.approx(theory.uncoded_round(30, 3) - 0.1)


def skipped(k: int, r: int, mean_s: float) -> np.ndarray:
    """The third round of each of DRAWS runs under late=skip, without assumptions about residual times."""
    rng = np.random.default_rng(r)
    backlog_s, round_s = np.zeros((DRAWS, k)), np.zeros(DRAWS)
    for _ in range(3):
        done_s = backlog_s + mean_s * rng.standard_exponential((DRAWS, k))
        round_s = fastest(done_s, r)
        began = backlog_s < round_s[:, None]
        backlog_s = np.maximum(np.where(began, done_s, backlog_s) - round_s[:, None], 0)
    return round_s


# rule: (samples of k = 30 sleeps of mean 0.5 s, mean, distribution)
ROUNDS = {
    "wait for all": (
        lambda sleeps: sleeps.max(1),
        theory.wait_for_all_s(30, 0.5),
        lambda t: theory.wait_for_all_cdf(t, 30, 0.5),
    ),
    "the fastest": (
        lambda sleeps: sleeps.min(1),
        theory.minimum_s(30, 0.5),
        lambda t: theory.count_cdf(t, 30, 1, 0.5),
    ),
    "r=11": (
        lambda sleeps: fastest(sleeps, 11),
        theory.order_statistic_s(30, 11, 0.5),
        lambda t: theory.count_cdf(t, 30, 11, 0.5),
    ),
    "exact c=2": (
        lambda sleeps: covered(sleeps, 15),
        theory.exact_s(15, 2, 0.5),
        lambda t: theory.exact_cdf(t, 15, 2, 0.5),
    ),
    "erasurehead c=3 r=11": (
        lambda sleeps: np.minimum(covered(sleeps, 10), fastest(sleeps, 11)),
        theory.erasurehead_s(10, 3, 11, 0.5),
        lambda t: theory.erasurehead_cdf(t, 10, 3, 11, 0.5),
    ),
    "erasurehead c=3 r=20": (
        lambda sleeps: np.minimum(covered(sleeps, 10), fastest(sleeps, 20)),
        theory.erasurehead_s(10, 3, 20, 0.5),
        lambda t: theory.erasurehead_cdf(t, 10, 3, 20, 0.5),
    ),
    "skip r=1": (
        lambda _: skipped(30, 1, 0.5),
        theory.skip_s(30, 1, 0.5),
        lambda t: theory.skip_cdf(t, 30, 1, 0.5),
    ),
    "skip r=11": (
        lambda _: skipped(30, 11, 0.5),
        theory.skip_s(30, 11, 0.5),
        lambda t: theory.skip_cdf(t, 30, 11, 0.5),
    ),
    "skip r=27": (
        lambda _: skipped(30, 27, 0.5),
        theory.skip_s(30, 27, 0.5),
        lambda t: theory.skip_cdf(t, 30, 27, 0.5),
    ),
}


@pytest.mark.parametrize(("sample", "mean_s", "cdf"), ROUNDS.values(), ids=ROUNDS)
def test_round_times_by_monte_carlo(sample: Callable, mean_s: float, cdf: Callable):
    round_s = sample(exponentials(30, 0.5))
    assert within_standard_errors(round_s, mean_s)
    assert kstest(round_s[:4_000], cdf).pvalue > 1e-3
    assert quad(lambda t: 1 - cdf(t), 0, np.inf)[0] == pytest.approx(mean_s, rel=1e-7)
    np.testing.assert_array_equal(cdf(np.array([-1.0, 0.0, 1e3])), [0, 0, 1])


def test_skipping_costs_time_unless_nobody_is_late():
    for r in (1, 11, 29):
        assert theory.skip_s(30, r, 0.5) > theory.order_statistic_s(30, r, 0.5)
    assert theory.skip_s(30, 30, 0.5) == pytest.approx(theory.wait_for_all_s(30, 0.5))


def test_shifted_exponential_rounds_by_monte_carlo(shifted: np.ndarray):
    for round_s, waited_s in (
        (fastest(shifted, 11), theory.order_statistic_s(30, 11, 3)),
        (fastest(shifted, 30), theory.wait_for_all_s(30, 3)),
        (covered(shifted, 10), theory.exact_s(10, 3, 3)),
        (np.minimum(covered(shifted, 10), fastest(shifted, 15)), theory.erasurehead_s(10, 3, 15, 3)),
    ):
        assert within_standard_errors(round_s, theory.shifted_s(0.1, 1, waited_s))
    assert within_standard_errors(fastest(shifted, 11), theory.agc_round(30, 3, 11, 3))


@given(st.integers(1, 12), st.integers(1, 5), st.data())
def test_erasurehead_is_as_fast_as_the_faster_of_its_rules(groups: int, copies: int, data: st.DataObject):
    k = groups * copies
    r = data.draw(st.integers(1, k))
    round_s = theory.erasurehead_s(groups, copies, r, 0.5)
    assert round_s <= theory.order_statistic_s(k, r, 0.5) * (1 + 1e-9)
    assert round_s <= theory.exact_s(groups, copies, 0.5) * (1 + 1e-9)
    assert theory.erasurehead_s(groups, copies, k, 0.5) == pytest.approx(theory.exact_s(groups, copies, 0.5))


@pytest.mark.parametrize(("groups", "copies"), [(1, 3), (4, 1), (3, 2), (2, 4)])
def test_workers_until_exact_by_enumeration(groups: int, copies: int):
    k = groups * copies
    code = FractionalRepetition(groups, k, 1)
    not_yet = [np.mean([not code.decodable(got) for got in subsets(k, r)]) for r in range(k)]
    assert theory.workers_until_exact(groups, copies) == pytest.approx(sum(not_yet))


@pytest.mark.parametrize(
    ("call", "field_and_rule"),
    [
        (lambda: theory.p(30, 3, 31), r"^r=31: must lie between 0 and k=30\b"),
        (lambda: theory.q(30, 3, np.array([5, -1])), r"^r=\[ 5 -1\]: must lie between 0 and k=30\b"),
        (lambda: theory.exact_probability(10, 3, 31), r"^r=31: .* k=30\b"),
        (lambda: theory.one_step_error(30, 30, 3, 0), r"^r=0: must lie between 1 and k=30\b"),
        (lambda: theory.block_model_one_step_error(30, 3, 5, 15, 0.7), r"^inside=0\.7: .*\(here -0\.02\)"),
        (lambda: theory.order_statistic_s(30, 31, 0.5), r"^r=31: .* k=30\b"),
        (lambda: theory.erasurehead_s(10, 3, 31, 0.5), r"^r=31: .* k=30\b"),
        (lambda: theory.skip_s(30, 0, 0.5), r"^r=0: must lie between 1 and k=30\b"),
        (lambda: theory.egc_round(30, 4, 3.0), r"^c=4: must divide n=30$"),
        (lambda: theory.exact_gap_bound(3, 1.0, 2.0, 1.0), r"^mu=2\.0: .* at most beta=1\.0$"),
        (lambda: theory.gap_bound(3, 1.0, 0.5, 1.0, 1.0, 30, 3, 0, "1/beta"), r"^r=0: must lie between 1 and k=30\b"),
        (lambda: theory.simple_gap_bound(3, 1.0, 0.5, 1.0, 1.0, 30, 3, 6, "1/beta"), r"^r=6: .*c >= n ln\(2\)/r"),
        (lambda: theory.agc_time_bound(30, 3, 6, 1.0, 0.5, 0.5, 1.0, 1.0), r"^r=6: .*c >= n ln\(2\)/r"),
        (lambda: theory.agc_time_bound(30, 3, 11, 1.0, 0.1, 0.5, 1.0, 1.0), r"^target=0\.1: .*epsilon_0=0\.199"),
        (lambda: theory.agc_time_bound(30, 3, 30, 1.0, 0.5, 0.5, 1.0, 1.0), r"^r=30: must be below n=30\b"),
        (lambda: theory.uncoded_time_bound(30, 3, 1.0, 0.5, 1.0, 1.0), r"^mu/beta=1: must be below 1\b"),
    ],
)
def test_invalid_sizes_are_refused_by_field_value_and_rule(call: Callable, field_and_rule: str):
    with pytest.raises(ValueError, match=field_and_rule):
        call()
