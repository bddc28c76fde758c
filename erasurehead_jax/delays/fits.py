"""Straggler models fitted to recorded times by maximum likelihood, and compared on times that the fit has not seen."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from erasurehead_jax.errors import ConfigError

Times = Float[np.ndarray, "rounds workers"]  # nan: no time
Some = Float[np.ndarray, " times"]
Settings = dict[str, Any]  # of a model, as in configs/delay

MOST_TIMES = 10_000  # that are used, in whole rounds at even distances
FOLDS = 5  # stretches of rounds, each held out once
STRAY = 1e-3  # every density has this share of a log-normal that is wider than the times:
SPREAD, WIDTH = 3.0, 1.0  # so many times, and at least with this sigma
STARTS = ((0.5, 0.99), (0.01, 0.5), (0.1, 0.6), (0.25, 0.75))  # quantiles at which a mixture's parts begin
START_TIMES, START_STEPS, STEPS = 2_000, 50, 300
SAME = 1e-5  # relative range of times below which they are the same
PER_PARAMETER = 3.0  # nats of held-out likelihood that a further parameter must earn
TINY = 1e-300  # a share of nothing has a logarithm too
GRID = 4001  # quantiles of a mixture are found between so many


class Family(NamedTuple):
    """A law of times, and its fit."""

    name: str
    estimate: Callable[[Some], tuple[float, ...]]  # by maximum likelihood
    law: Callable[..., Any]  # of scipy, or of the same methods, from the parameters
    settings: Callable[..., Settings]  # of the model in configs/delay, from the parameters
    parameters: int


class SlowTimes:
    """A log-normal, of which a share takes `factor` times as long."""

    def __init__(self, median: float, sigma: float, share: float, factor: float):
        self.parts: tuple[Any, Any] = stats.lognorm(sigma, scale=median), stats.lognorm(sigma, scale=median * factor)
        self.weights = np.clip([1 - share, share], TINY, 1)

    def logpdf(self, times: Some) -> Some:
        """The logarithm of the density."""
        parts = [np.log(weight) + part.logpdf(times) for weight, part in zip(self.weights, self.parts, strict=True)]
        return np.logaddexp(*parts)

    def cdf(self, times: Some) -> Some:
        """The share of times up to these."""
        return np.sum([weight * part.cdf(times) for weight, part in zip(self.weights, self.parts, strict=True)], axis=0)

    def ppf(self, shares: Some) -> Some:
        """The times that these shares are below."""
        ends = self.parts[0].ppf(1e-9), self.parts[1].ppf(1 - 1e-9)
        grid = np.geomspace(*ends, GRID)
        return np.interp(shares, self.cdf(grid), grid)


def _slow_times(times: Some) -> tuple[float, ...]:
    """By expectation maximization, from the best of several starts, which some of the times choose."""
    logs = np.log(times)
    centre, spread = float(logs.mean()), float(logs.std())
    scaled = ((logs - centre) / spread)[:, None]
    some = scaled[:: max(1, len(scaled) // START_TIMES)]
    found = [_mixture(some, np.quantile(some, shares)[:, None], START_STEPS) for shares in STARTS]
    best = _mixture(scaled, max(found, key=lambda each: each.lower_bound_).means_, STEPS)
    means, weights = best.means_[:, 0], best.weights_
    fast, slow = means.argsort()
    sigma = spread * float(np.sqrt(best.covariances_[0, 0]))
    factor = float(np.exp(spread * (means[slow] - means[fast])))
    return float(np.exp(centre + spread * means[fast])), sigma, float(weights[slow]), factor


def _mixture(scaled: Float[np.ndarray, "times 1"], means: Float[np.ndarray, "2 1"], steps: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    apart = means + np.array([[0.0], [1e-3]])  # not the same
    settings: dict[str, Any] = {"covariance_type": "tied", "tol": 1e-7, "reg_covar": 1e-12, "random_state": 0}
    mixture = GaussianMixture(2, max_iter=steps, means_init=apart, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(scaled)


def _with_two(law: Any, times: Some) -> tuple[float, ...]:
    shape, _, scale = law.fit(times, floc=0)
    return float(shape), float(scale)


def _target(name: str, **settings: float) -> Settings:
    return {"_target_": f"erasurehead_jax.delays.{name}", **settings}


def _shifted(shift: float, mean: float) -> Settings:
    return _target("Sum") | {"parts": [_target("Constant", delay_s=shift), _target("Exponential", mean_s=mean)]}


def _slow_downs(median: float, sigma: float, share: float, factor: float) -> Settings:
    inner = {"of": _target("LogNormal", median_s=median, sigma=sigma)}
    return _target("SlowDowns", share=share, factor=factor) | inner


FAMILIES = (
    Family(
        "exponential",
        lambda times: (float(times.mean()),),
        lambda mean: stats.expon(scale=mean),
        lambda mean: _target("Exponential", mean_s=mean),
        1,
    ),
    Family(
        "shifted exponential",
        lambda times: (float(times.min()), float(times.mean() - times.min())),
        lambda shift, mean: stats.expon(shift, mean),
        _shifted,
        2,
    ),
    Family(
        "log-normal",
        lambda times: (float(np.exp(np.log(times).mean())), float(np.log(times).std())),
        lambda median, sigma: stats.lognorm(sigma, scale=median),
        lambda median, sigma: _target("LogNormal", median_s=median, sigma=sigma),
        2,
    ),
    Family(
        "Weibull",
        lambda times: _with_two(stats.weibull_min, times),
        lambda shape, scale: stats.weibull_min(shape, scale=scale),
        lambda shape, scale: _target("Weibull", scale_s=scale, shape=shape),
        2,
    ),
    Family(
        "gamma",
        lambda times: _with_two(stats.gamma, times),
        lambda shape, scale: stats.gamma(shape, scale=scale),
        lambda shape, scale: _target("Gamma", mean_s=shape * scale, shape=shape),
        2,
    ),
    Family(
        "Pareto",
        lambda times: (float(times.min()), float(1 / np.log(times / times.min()).mean())),
        lambda least, index: stats.pareto(index, scale=least),
        lambda least, index: _target("Pareto", least_s=least, index=index),
        2,
    ),
    Family("slow-downs", _slow_times, SlowTimes, _slow_downs, 4),
)


class Fit(NamedTuple):
    """A model of recorded times."""

    family: Family
    parameters: tuple[float, ...]
    factors: Float[np.ndarray, " workers"] | None  # of the workers' times; None: all are alike
    held_out: float  # log-likelihood (nats) of a time that was not used, on average
    score: float  # the same for all times, less what its parameters must earn
    gap: float  # the largest distance between its distribution function and the recorded one

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.family.name if self.factors is None else f"{self.family.name}, unequal workers"

    @property
    def law(self) -> Any:
        """The distribution of times, divided by the workers' factors."""
        return self.family.law(*self.parameters)

    def settings(self) -> Settings:
        """The model as in a file of configs/delay."""
        own = self.family.settings(*self.parameters)
        if self.factors is None:
            return own
        return {"_target_": "erasurehead_jax.delays.UnequalWorkers", "factors": self.factors.tolist(), "of": own}


def fit_times(times_s: Times) -> list[Fit]:
    """Every family fitted to all times alike, and to times divided by each worker's median; the preferred one first.

    One is preferred over another if the likelihood of held-out stretches of rounds is larger by `PER_PARAMETER` nats
    for each parameter that it has more. A time of zero counts as the smallest one above it. Raises ConfigError if no
    time is above zero.
    """
    times = _some_rounds(times_s)
    if not (times > 0).any():
        raise ConfigError("times: all are 0 or missing; there is nothing to fit")
    times = np.maximum(times[np.isfinite(times).any(1)], times[times > 0].min())
    times = times.T if len(times) == 1 else times  # with one round, workers are held out
    found = [fit for unequal in (False, True) for fit in _fits(times, unequal)]
    return sorted(found, key=lambda fit: -fit.score)


def _fits(times: Times, unequal: bool) -> list[Fit]:
    if unequal and (times.shape[1] == 1 or len(times) < 2):
        return []
    folds = [part for part in np.array_split(np.arange(len(times)), FOLDS) if len(part)] if len(times) > 1 else []
    likely = {family.name: 0.0 for family in FAMILIES}
    failed: set[str] = set()
    for fold in folds:
        rest = np.delete(times, fold, axis=0)
        factors = _factors(rest) if unequal else np.ones(times.shape[1])
        seen, new = _known(rest / factors), _known(times[fold] / factors)
        scale = np.log(np.broadcast_to(factors, (len(fold), times.shape[1]))[np.isfinite(times[fold])]).sum()
        stray = np.log(STRAY) + _wide(seen).logpdf(new)
        for family in FAMILIES:
            try:
                density = np.log(1 - STRAY) + _law(family, seen).logpdf(new)
            except (ValueError, FloatingPointError, stats.FitError):
                failed.add(family.name)
                continue
            likely[family.name] += float(np.logaddexp(density, stray).sum() - scale)
    factors, count = (_factors(times) if unequal else None), int(np.isfinite(times).sum())
    all_times = _known(times if factors is None else times / factors)
    made = []
    for family in FAMILIES:
        if family.name in failed:
            continue
        parameters = _estimate(family, all_times)
        score = likely[family.name] - PER_PARAMETER * (family.parameters + unequal)
        gap = float(stats.kstest(all_times, family.law(*parameters).cdf).statistic)
        made.append(Fit(family, parameters, factors, likely[family.name] / count, score, gap))
    return made


def _some_rounds(times_s: Times) -> Float[np.ndarray, "some workers"]:
    rounds = max(FOLDS, MOST_TIMES // times_s.shape[1])
    if rounds >= len(times_s):
        return np.asarray(times_s, float)
    return np.asarray(times_s, float)[np.linspace(0, len(times_s) - 1, rounds).round().astype(int)]


def _factors(times: Times) -> Float[np.ndarray, " workers"]:
    """The workers' medians, relative to their geometric mean; 1 for a worker without times."""
    medians = np.array([np.median(known) if len(known := _known(column)) else np.nan for column in times.T])
    factors = medians / np.exp(np.nanmean(np.log(medians)))
    return np.where(np.isfinite(factors), factors, 1.0)


def _known(times: np.ndarray) -> Some:
    return times[np.isfinite(times)]


def _law(family: Family, times: Some) -> Any:
    return family.law(*_estimate(family, times))


def _estimate(family: Family, times: Some) -> tuple[float, ...]:
    """The family's parameters; times that are all the same are spread a little."""
    if np.ptp(times) <= SAME * times.max():
        times = (
            times * np.linspace(1 - SAME, 1 + SAME, len(times)) if len(times) > 1 else times[0] * np.array([1, 1.001])
        )
    return family.estimate(times)


def _wide(times: Some) -> Any:
    logs = np.log(times)
    return stats.lognorm(max(SPREAD * float(logs.std()), WIDTH), scale=np.exp(logs.mean()))


def best_by_family(found: Sequence[Fit]) -> list[Fit]:
    """The better fit of each family, in order."""
    seen: set[str] = set()
    return [fit for fit in found if not (fit.family.name in seen or seen.add(fit.family.name))]
