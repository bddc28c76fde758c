"""Delay models draw from the distribution they name, as a function of the key."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from erasurehead_jax import AbstractDelay, ConfigError, Exponential, NoDelay, ShiftedExponential

WORKERS = 5
MODELS = [NoDelay(), Exponential(0.5), ShiftedExponential(1.0, 3.0)]


def draws(delay: AbstractDelay, load: float, rounds: int = 4_000) -> np.ndarray:
    """(rounds, workers) seconds, as in a run."""
    sample = jax.vmap(lambda t: delay.sample(jax.random.key(0), t, WORKERS, load))
    return np.asarray(sample(jnp.arange(rounds)))


def fits(seconds: np.ndarray, shift_s: float, mean_s: float) -> bool:
    """Kolmogorov and Smirnov do not refuse shift + exponential."""
    return stats.kstest(seconds.ravel(), stats.expon(shift_s, mean_s).cdf).pvalue > 0.01


@pytest.mark.parametrize("mean_s", [0.5, 2.0])
@pytest.mark.parametrize("load", [0.1, 1.0])
def test_exponential_has_its_mean_whatever_the_load(mean_s: float, load: float):
    seconds = draws(Exponential(mean_s), load)
    assert fits(seconds, 0, mean_s)
    assert not fits(seconds, 0, 1.1 * mean_s)


@pytest.mark.parametrize("load", [1 / 30, 0.1, 1.0])
def test_shifted_exponential_scales_with_the_load(load: float):
    seconds = draws(ShiftedExponential(1.0, 3.0), load)
    assert fits(seconds, load, 3 * load)
    assert load <= seconds.min() < 1.001 * load


@pytest.mark.parametrize("worker", range(WORKERS))
def test_each_worker_has_the_distribution(worker: int):
    assert fits(draws(Exponential(0.5), 1.0)[:, worker], 0, 0.5)


def test_workers_of_a_round_are_independent():
    assert fits(draws(Exponential(0.5), 1.0).min(1), 0, 0.5 / WORKERS)


def test_no_delay_is_none():
    np.testing.assert_array_equal(draws(NoDelay(), 1.0, rounds=3), 0)


@pytest.mark.parametrize("delay", MODELS)
def test_delays_are_a_function_of_the_key(delay: AbstractDelay):
    key, other = jax.random.split(jax.random.key(1))
    once = delay.sample(key, 0, WORKERS, 0.1)
    assert once.shape == (WORKERS,)
    np.testing.assert_array_equal(once, delay.sample(key, 0, WORKERS, 0.1))
    assert isinstance(delay, NoDelay) or not np.isin(once, delay.sample(other, 0, WORKERS, 0.1)).any()


@pytest.mark.parametrize("delay", [Exponential(0.0), ShiftedExponential(0.0, 0.0)])
def test_a_mean_of_zero_is_no_delay(delay: AbstractDelay):
    np.testing.assert_array_equal(draws(delay, 1.0, rounds=3), 0)


def test_models_vmap_over_their_numbers():
    key, means = jax.random.key(0), jnp.array([0.5, 1.0, 4.0])
    models = jax.tree.map(lambda _: means, Exponential(1.0))
    seconds = jax.vmap(lambda delay: delay.sample(key, 0, WORKERS, 1.0))(models)
    np.testing.assert_allclose(seconds, means[:, None] * Exponential(1.0).sample(key, 0, WORKERS, 1.0)[None])


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("field", "build"),
    [
        ("mean_s", Exponential),
        ("mean_s", lambda bad: ShiftedExponential(1.0, bad)),
        ("shift_s", lambda bad: ShiftedExponential(bad, 1.0)),
    ],
)
def test_seconds_must_be_finite_and_not_negative(field: str, build, bad: float):
    with pytest.raises(ConfigError, match=rf"^delay\.{field}={bad}: must be a finite number, 0 or more"):
        build(bad)
