"""What candidates are compared by: time per unit of progress, and how sure that is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import binom

from erasurehead_jax.stragglers.candidates import Candidate
from erasurehead_jax.stragglers.summary import lag_1

RESAMPLES = 400
CHANCE = 0.01

Rounds = Float[np.ndarray, " rounds"]


class Score(NamedTuple):
    """A candidate, and the time that it takes for the progress of an exact round."""

    candidate: Candidate
    round_s: float
    progress: float  # of a round, relative to an exact one
    resampled_s: Float[np.ndarray, " resamples"]  # time per unit of progress, of resampled rounds
    sure: bool  # whether there are rounds enough for the intervals to mean something

    @property
    def score_s(self) -> float:
        """Time per unit of progress."""
        return self.round_s / self.progress if self.progress > 0 else np.inf

    def gain(self, over: "Score") -> tuple[float, float, float]:
        """How many times as long the other takes per unit of progress: over all rounds, and a 95 % interval.

        The interval is nan if there are too few rounds.
        """
        with np.errstate(invalid="ignore"):
            ratios = over.resampled_s / self.resampled_s
        low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
        gain = over.score_s / self.score_s
        return (gain, float(low), float(high)) if self.sure else (gain, np.nan, np.nan)


def alike_rounds(round_s: Rounds) -> int:
    """The number of rounds in a row that are alike: twice the autocorrelation time of a first-order process."""
    if not np.isfinite(round_s).all() or np.ptp(round_s) == 0:
        return 1
    lag = min(max(lag_1(np.log(np.maximum(round_s, np.finfo(float).tiny))[:, None]), 0.0), 0.99)
    return max(1, round(2 * (1 + lag) / (1 - lag)) - 1)


def resamples(rounds: int, length: int, rng: np.random.Generator) -> Float[np.ndarray, "resamples rounds"]:
    """The weights of rounds in resampled recordings, of stretches of neighbouring rounds: they are not independent."""
    starts = rng.integers(rounds, size=(RESAMPLES, -(-rounds // length)))
    drawn = (starts[:, :, None] + np.arange(length)) % rounds
    weights = np.stack([np.bincount(each.ravel(), minlength=rounds) for each in drawn])
    return weights / weights.sum(1, keepdims=True)


def distinct(found: Sequence[Candidate]) -> list[Candidate]:
    """Without those that end every round as exact coding with the same load and placement does."""
    exact = {(each.load, each.placement is None): each.round_s for each in found if each.scheme == "egc"}
    same = lambda each: np.array_equal(each.round_s, exact.get((each.load, each.placement is None), np.zeros(0)))
    return [each for each in found if each.scheme != "erasurehead" or not same(each)]


def score_of(made: Candidate, overhead_s: float, weights: Float[np.ndarray, "resamples rounds"], sure: bool) -> Score:
    """The candidate's score, also of resampled rounds with these weights."""
    round_s = made.round_s + overhead_s
    means, differ = made.shares.mean(0), _differ(made.shares)
    rarest = int(means.argmin())
    shrunk = lambda means: np.maximum(means.mean(-1) + differ * (means[..., rarest] - means.mean(-1)), 0.0)
    progress = shrunk(weights @ made.shares)
    with np.errstate(divide="ignore", invalid="ignore"):
        means_s = np.where(np.isinf(round_s).any(), np.inf, weights @ np.where(np.isinf(round_s), 0, round_s))
        resampled_s = np.where(progress > 0, means_s / progress, np.inf)
    return Score(made, float(round_s.mean()), float(shrunk(means)), resampled_s, sure)


def _differ(shares: Float[np.ndarray, "rounds n"]) -> float:
    """How much of the differences between the blocks' mean shares is more than chance, between 0 and 1.

    Where any worker may be late, the smallest of many mean shares is small by chance alone, the more so in few rounds.
    It counts in full if it is smaller than that of any of n blocks would be in 99 of 100 recordings.
    """
    rounds, blocks = shares.shape
    own, average = shares.mean(0), float(shares.mean())
    if blocks * binom.cdf(rounds * own.min(), rounds, min(average, 1.0)) < CHANCE:
        return 1.0
    between, chance = float(own.var(ddof=1)) if blocks > 1 else 0.0, float(shares.var(0).mean()) / rounds
    return max(0.0, 1 - chance / between) if between > 0 else 0.0


def cheapest(scores: Sequence[Score], tolerance: float) -> Score:
    """The smallest load that takes hardly longer than the best; then an exact gradient.

    An approximate one must be faster than uncoded beyond chance.
    """
    uncoded = next(each for each in scores if each.candidate.scheme == "uncoded")
    sure = lambda each: each.candidate.exact or each.gain(uncoded)[1] > 1
    scores = [each for each in scores if sure(each)]
    near = [each for each in scores if each.score_s <= scores[0].score_s * (1 + tolerance)]
    cost = lambda each: (each.candidate.load, not each.candidate.exact, each.score_s)
    return min(near, key=cost)
