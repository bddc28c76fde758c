"""Families of straggler models draw from the distribution that they name, whoever asks for whichever round."""

from pathlib import Path

import hydra.utils
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import stats

from erasurehead_jax import (
    AbstractDelay,
    Bursts,
    ConfigError,
    Drift,
    Exponential,
    Gamma,
    LoadDependent,
    LogNormal,
    Pareto,
    SlowDowns,
    SlowRacks,
    Sum,
    UnequalWorkers,
    Weibull,
)
from erasurehead_jax.settings import CONFIG_DIR

ONE = LogNormal(1.0, 0.0)  # always one second: what is drawn are the factors
YAMLS = [path for path in sorted(Path(CONFIG_DIR, "delay").glob("*.yaml")) if path.stem != "trace"]
WORKERS = 12


def draws(delay: AbstractDelay, rounds: int = 2_000, workers: int = WORKERS, load: float = 0.1, seed: int = 0):
    """(rounds, workers) seconds."""
    with jax.enable_x64(True):  # as in runs
        sample = jax.jit(jax.vmap(lambda t: delay.sample(jax.random.key(seed), t, workers, load)))
        return np.asarray(sample(jnp.arange(rounds)))


@pytest.mark.parametrize(
    ("delay", "law"),
    [
        (Pareto(0.2, 1.5), stats.pareto(1.5, scale=0.2)),
        (Weibull(0.5, 0.7), stats.weibull_min(0.7, scale=0.5)),
        (Weibull(0.5, 3.0), stats.weibull_min(3.0, scale=0.5)),
        (LogNormal(0.3, 1.2), stats.lognorm(1.2, scale=0.3)),
        (Gamma(0.5, 0.4), stats.gamma(0.4, scale=0.5 / 0.4)),
        (Gamma(0.5, 4.0), stats.gamma(4.0, scale=0.5 / 4.0)),
        (UnequalWorkers(ONE, [2.0] * WORKERS), None),
    ],
)
def test_the_law_of_a_family(delay: AbstractDelay, law):
    seconds = draws(delay)
    if law is None:
        np.testing.assert_allclose(seconds, 2.0)
        return
    assert stats.kstest(seconds.ravel(), law.cdf).pvalue > 0.01
    assert stats.kstest(1.05 * seconds.ravel(), law.cdf).pvalue < 0.01
    assert abs(np.corrcoef(np.log(seconds[1:, 0]), np.log(seconds[:-1, 0]))[0, 1]) < 4 / np.sqrt(len(seconds))
    assert abs(np.corrcoef(np.log(seconds[:, 0]), np.log(seconds[:, 1]))[0, 1]) < 4 / np.sqrt(len(seconds))


def test_slow_downs_come_independently_in_their_share_of_rounds():
    slow = draws(SlowDowns(ONE, 0.2, 7.0)) == 7
    assert abs(slow.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / slow.size)
    after = slow[1:][slow[:-1]].mean()
    assert abs(after - 0.2) < 4 * np.sqrt(0.2 * 0.8 / slow.sum())


@pytest.mark.parametrize(("share", "length"), [(0.1, 20.0), (0.5, 4.0), (0.3, 1.5)])
def test_bursts_are_a_stationary_markov_chain(share: float, length: float):
    """Of given share and mean length; its correlation decays by 1 - 1/(length (1 - share)) a round."""
    slow = draws(Bursts(ONE, share, length, 5.0), rounds=4_000, workers=40) == 5
    keep = 1 - 1 / (length * (1 - share))
    runs = 40 * 4_000 * (1 - keep) / (1 + keep)  # rounds that are worth as much as independent ones
    assert abs(slow.mean() - share) < 4 * np.sqrt(share * (1 - share) / runs)
    starts = slow[1:] & ~slow[:-1]
    lengths = slow[1:].sum() / starts.sum()
    assert lengths == pytest.approx(length, rel=4 / np.sqrt(starts.sum()))
    for lag in (1, 3):
        assert np.corrcoef(slow[lag:].ravel(), slow[:-lag].ravel())[0, 1] == pytest.approx(keep**lag, abs=0.03)
    keys = jax.random.split(jax.random.key(1), 200)
    first = np.asarray(jax.vmap(lambda key: Bursts(ONE, share, length, 5.0).slow(key, 0, 40))(keys))
    assert abs(first.mean() - share) < 4 * np.sqrt(share * (1 - share) / first.size)


def test_unequal_workers_stay_unequal():
    given = draws(UnequalWorkers(ONE, list(range(1, 15))), rounds=3)
    np.testing.assert_allclose(given, np.tile(np.arange(1.0, 13), (3, 1)))
    drawn = draws(UnequalWorkers(ONE, sigma=0.8), rounds=3, workers=4_000)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert stats.kstest(np.log(drawn[0]), stats.norm(0, 0.8).cdf).pvalue > 0.01


@pytest.mark.parametrize(("racks", "slow"), [(3, 1), (5, 2), (12, 12)])
def test_a_rack_is_slow_as_a_whole(racks: int, slow: int):
    delay = SlowRacks(ONE, racks, slow, 4.0)
    delay.check(WORKERS, 1)
    seconds = draws(delay, rounds=3)
    rack = np.arange(WORKERS) * racks // WORKERS
    for each in range(racks):
        assert len(set(seconds[:, rack == each].ravel())) == 1
    assert len({rack[j] for j in np.flatnonzero(seconds[0] == 4)}) == slow


def test_drift_makes_the_slow_workers_of_one_time_the_fast_ones_of_another():
    seconds = draws(Drift(ONE, 6.0, 50.0), rounds=100)
    assert seconds.min() == pytest.approx(1, rel=0.01) and seconds.max() == pytest.approx(6, rel=0.01)
    np.testing.assert_allclose(seconds[:50], seconds[50:])
    np.testing.assert_allclose(seconds[:25] * seconds[25:50], 6)  # half a period later
    assert np.abs(np.diff(np.log(seconds), axis=0)).max() < np.log(6) * np.pi / 50


def test_sums_and_models_that_grow_with_the_load():
    np.testing.assert_allclose(draws(Sum([ONE, LoadDependent(LogNormal(3.0, 0.0))]), rounds=2, load=0.2), 1.6)
    both = Sum([Exponential(1.0), Exponential(1.0)])  # two independent ones, not the same one twice
    assert stats.kstest(draws(both).ravel(), stats.gamma(2).cdf).pvalue > 0.01
    inner, outer = SlowDowns(ONE, 0.5, 2.0), SlowDowns(SlowDowns(ONE, 0.5, 2.0), 0.5, 3.0)
    seconds = draws(outer)
    assert set(np.unique(draws(inner))) == {1, 2}
    counts = [(seconds == value).sum() for value in (1, 2, 3, 6)]
    assert sum(counts) == seconds.size and stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_yaml_gives_the_same_delays_in_both_precisions(path: Path):
    delay = hydra.utils.instantiate(OmegaConf.to_container(OmegaConf.load(path)), _convert_="all")
    delay.check(WORKERS, 30)
    key = jax.random.key(3)
    for t in (0, 7):
        single = np.asarray(delay.sample(key, t, WORKERS, 0.1))
        with jax.enable_x64(True):
            double = np.asarray(delay.sample(key, t, WORKERS, 0.1))
            traced = np.asarray(jax.jit(lambda t: delay.sample(key, t, WORKERS, 0.1))(t))
        assert single.shape == (WORKERS,) and double.dtype == np.float64 and (double >= 0).all()
        np.testing.assert_allclose(single, double, rtol=1e-5)
        np.testing.assert_allclose(traced, double, rtol=1e-12)
        assert path.stem in ("none", "constant") or not np.array_equal(
            double, np.asarray(delay.sample(key, t + 1, WORKERS, 0.1))
        )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pareto(0.1, 0.0), "delay.index=0.0: must be a finite number, above 0"),
        (lambda: Weibull(-1.0, 1.0), "delay.scale_s=-1.0: must be a finite number, 0 or more"),
        (lambda: LogNormal(0.1, float("nan")), "delay.sigma=nan: must be a finite number"),
        (lambda: Gamma(0.1, 0), "delay.shape=0: must be a finite number, above 0"),
        (lambda: SlowDowns(ONE, 1.5, 2), "delay.share=1.5: must be a finite number, 0 or more and at most 1"),
        (lambda: Bursts(ONE, 1, 20, 2), "delay.share=1: must be below 1; workers that are always slow"),
        (lambda: Bursts(ONE, 0.5, 1.0, 2), "delay.length=1.0: must be at least 1 / (1 - share) = 2 rounds"),
        (lambda: UnequalWorkers(ONE, [1.0], 0.5), "delay.sigma=0.5: must be 0, or factors null"),
        (lambda: UnequalWorkers(ONE, [1.0, -2.0]), "delay.factors=-2.0: must be a finite number, 0 or more"),
        (lambda: UnequalWorkers(ONE, [1.0]).check(2, 1), "delay.factors: has 1 values; must have one for each"),
        (lambda: SlowRacks(ONE, 4, 5, 2).check(8, 1), "delay.slow=5: must be a whole number between 0 and racks=4"),
        (lambda: SlowRacks(ONE, 9, 5, 2).check(8, 1), "delay.racks=9: must be at most workers=8"),
        (lambda: Drift(ONE, 2.0, 0), "delay.period=0: must be a finite number, above 0"),
        (lambda: Sum([]), "delay.parts=[]: must have at least one model"),
    ],
)
def test_refusals(build, message: str):
    with pytest.raises(ConfigError) as refused:
        build()
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
