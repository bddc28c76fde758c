"""Models fitted to recorded times: parameters, and which model is preferred."""

from typing import Any

import hydra.utils
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from erasurehead_jax import ConfigError
from erasurehead_jax.delays.fits import FAMILIES, Fit, SlowTimes, best_by_family, fit_times

TRUE = {
    "exponential": (0.5,),
    "shifted exponential": (0.2, 0.5),
    "log-normal": (0.3, 0.8),
    "Weibull": (0.7, 0.5),
    "gamma": (2.0, 0.25),
    "Pareto": (0.1, 2.0),
    "slow-downs": (0.1, 0.2, 0.05, 10.0),
}
BY_NAME = {family.name: family for family in FAMILIES}


def draw(name: str, rounds: int, workers: int, seed: int = 0) -> np.ndarray:
    shares = np.random.default_rng(seed).uniform(size=(rounds, workers))
    law = BY_NAME[name].law(*TRUE[name])
    return np.asarray(law.ppf(shares.ravel())).reshape(shares.shape)


def standard_errors(name: str, times: np.ndarray) -> np.ndarray:
    """Of maximum likelihood: from the curvature or, for the end of a law's support, from the smallest of n times."""
    family, true, n = BY_NAME[name], np.array(TRUE[name]), times.size
    if name in ("shifted exponential", "Pareto"):
        scale = true[1] if name == "shifted exponential" else true[0] / true[1]
        return np.array([scale / n, true[1] / np.sqrt(n)])
    total = lambda parameters: family.law(*parameters).logpdf(times.ravel()).sum()
    step, size = 1e-3 * true, len(true)
    hessian = np.empty((size, size))
    for i, j in np.ndindex(size, size):
        e_i, e_j = step * (np.arange(size) == i), step * (np.arange(size) == j)
        corners = [total(true + a * e_i + b * e_j) for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        hessian[i, j] = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * step[i] * step[j])
    return np.sqrt(np.diag(np.linalg.inv(-hessian)))


@pytest.mark.parametrize("name", TRUE)
def test_parameters_are_recovered(name: str):
    times = draw(name, 5_000, 10)
    found = np.array(BY_NAME[name].estimate(times.ravel()))
    error, true = standard_errors(name, times), np.array(TRUE[name])
    assert (np.abs(found - true) <= 3 * error).all(), (found, true, error)
    assert (error < 0.05 * true).all()


@pytest.mark.parametrize("name", TRUE)
def test_the_right_family_is_preferred(name: str):
    """On 100 draws: see below."""
    assert fit_times(draw(name, 200, 10))[0].name == name


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUE)
def test_the_right_family_is_nearly_always_preferred(name: str):
    preferred = [fit_times(draw(name, 200, 10, seed))[0].name for seed in range(40)]
    assert preferred.count(name) >= 38, preferred


@pytest.mark.parametrize("name", TRUE)
def test_a_fit_is_a_model_that_draws_such_times(name: str):
    times = draw(name, 2_000, 5)
    fit = next(fit for fit in fit_times(times) if fit.name == name)
    model = hydra.utils.instantiate(fit.settings(), _convert_="all")
    with jax.enable_x64(True):
        drawn = jax.vmap(lambda t: model.sample(jax.random.key(1), t, 5, 0.1))(jnp.arange(2_000))
    test: Any = stats.ks_2samp(np.asarray(drawn).ravel(), times.ravel())
    assert test.pvalue > 0.01
    assert fit.gap < 0.02


def test_unequal_workers_are_noticed():
    factors = np.array([1.0, 1, 1, 5])
    fits = fit_times(draw("log-normal", 500, 4) * factors)
    best = fits[0]
    assert best.name == "log-normal, unequal workers" and best.factors is not None
    np.testing.assert_allclose(best.factors / best.factors[0], factors, rtol=0.15)
    assert {fit.family.name for fit in best_by_family(fits)} == set(TRUE)
    assert len(best_by_family(fits)) == len(TRUE)
    model = hydra.utils.instantiate(best.settings(), _convert_="all")
    model.check(4, 1)


@pytest.mark.parametrize(
    "times",
    [
        np.ones((1, 1)),
        np.full((6, 3), 0.25),
        np.where(np.arange(20).reshape(5, 4) % 3 == 0, np.nan, 2.0 + np.arange(20).reshape(5, 4)),
        np.where(np.arange(40).reshape(10, 4) % 4 == 3, np.nan, 1.0 + np.arange(40).reshape(10, 4)),  # a dead worker
        np.where(np.arange(40).reshape(10, 4) % 7 == 3, 0.0, 1.0 + np.arange(40).reshape(10, 4)),
    ],
    ids=["one", "constant", "gaps", "a dead worker", "some zeros"],
)
def test_odd_recordings_are_fitted(times: np.ndarray):
    fits = fit_times(times)
    assert all(np.isfinite(fit.parameters).all() for fit in fits)
    hydra.utils.instantiate(fits[0].settings(), _convert_="all").check(times.shape[1], 1)


def test_nothing_can_be_fitted_to_nothing():
    with pytest.raises(ConfigError, match=r"^times: all are 0 or missing"):
        fit_times(np.zeros((6, 3)))


def test_a_mixture_is_found_whatever_its_share():
    """Most times are slow, and times that hardly vary."""
    rng = np.random.default_rng(0)
    for share, factor, sigma in ((0.75, 3.0, 0.2), (0.3, 1.01, 1e-3), (0.02, 30.0, 0.1)):
        law = SlowTimes(0.5, sigma, share, factor)
        found = BY_NAME["slow-downs"].estimate(np.asarray(law.ppf(rng.uniform(size=20_000))))
        assert found == pytest.approx((0.5, sigma, share, factor), rel=0.08)


def test_slow_times_are_a_distribution():
    law = SlowTimes(*TRUE["slow-downs"])
    shares = np.linspace(0.001, 0.999, 50)
    np.testing.assert_allclose(law.cdf(law.ppf(shares)), shares, atol=1e-4)
    at = np.geomspace(0.05, 2.0, 20)
    slope = (law.cdf(at * 1.0001) - law.cdf(at * 0.9999)) / (0.0002 * at)
    np.testing.assert_allclose(np.exp(law.logpdf(at)), slope, rtol=1e-4)


def test_a_fit_has_its_family_s_parameters():
    for fit in fit_times(draw("gamma", 40, 3)):
        assert isinstance(fit, Fit) and len(fit.parameters) == fit.family.parameters
