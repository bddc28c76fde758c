"""What to do about recorded stragglers: the best scheme for these workers, by how much, how sure, and at what cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.table import Table
from scipy.stats import binom

from erasurehead_jax.delays.recording import INCOMPLETE, NORMALISED, Recording
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.files import replacing
from erasurehead_jax.stragglers.candidates import Candidate, candidates
from erasurehead_jax.stragglers.summary import ABSENT, FEW, lag_1

MOST_ROUNDS = 300  # recorded rounds that are used, evenly spaced
RESAMPLES = 400
INDEPENDENT = 5  # stretches that a recording must have for intervals to mean something
CHANCE = 0.01
FREE, PAID = 0.2, 0.02  # how much longer a smaller load may take to be preferred, without and with a cost of computing
SHOWN = 12  # candidates in the table on the terminal

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


class Advice(NamedTuple):
    """Every candidate, the best first, and the one to take."""

    recording: Recording
    workers: int
    compute_s: float
    rounds: int  # that were used
    scores: list[Score]
    taken: Score

    @property
    def command(self) -> str:
        """The one command that does it."""
        return self.command_for(self.taken.candidate)

    def command_for(self, made: Candidate) -> str:
        """The command that trains with a candidate."""
        settings, order = made.settings, made.placement
        if order is not None:
            settings = [*settings, f"placement=[{','.join(map(str, order))}]"]
        return f"python -m erasurehead_jax.train {' '.join(settings)}"

    @property
    def table(self) -> pd.DataFrame:
        """One row a candidate, the best first."""
        uncoded = self.of("uncoded")
        rows = []
        for score in self.scores:
            made = score.candidate
            rows.append(
                {"scheme": made.scheme, "load": made.load, "wait_for": made.wait_for}
                | {"placement": "given" if made.placement is None else "balanced", "exact": made.exact}
                | {"round_s": score.round_s, "progress": score.progress, "score_s": score.score_s}
                | dict(zip(("gain", "gain_low", "gain_high"), score.gain(uncoded), strict=True))
            )
        return pd.DataFrame(rows)

    def of(self, scheme: str) -> Score:
        """The best candidate of a scheme."""
        return next(score for score in self.scores if score.candidate.scheme == scheme)

    def lines(self) -> list[str]:
        """The advice in words."""
        said = [
            "Ranked without data, by time per unit of progress: the mean time of a round, over the share of rounds "
            "that have the rarest block in their gradient (1 - p in the paper's Theorem 2, where workers are alike). "
            "With data=... schemes are compared by their time to a target.",
            *self._verdict(),
        ]
        if self.rounds < FEW:
            said.append(f"Rounds are few ({self.rounds}), and rare stragglers are not among them.")
        said += self._costs()
        if self.workers > (recorded := len(self.recording.workers)):
            said.append(
                f"Of {self.workers} workers, {recorded} have the recorded times, and the others the same ones in other "
                "rounds. Placements are sought for recorded workers only."
            )
        return said

    def _verdict(self) -> list[str]:
        """What to take, and its gain over uncoded and over ignoring stragglers."""
        taken, made, uncoded = self.taken, self.taken.candidate, self.of("uncoded")
        if np.isinf(taken.score_s):
            return ["No scheme works: in some rounds the workers that answer do not have all blocks between them."]
        if made.scheme == "uncoded":
            return [f"Take uncoded: no scheme is much faster. A round takes {self._s(taken.round_s)}."]
        progress = "exactly" if made.exact else f"with {taken.progress:.0%} of the progress of an exact one"
        head = f"Take {made.name}: {self._s(taken.round_s)} a round, {progress}."
        if np.isinf(uncoded.round_s):
            return [head, "Uncoded waits for ever, because a worker ceases to answer.", self._ignoring()]
        gain = _gain(taken, uncoded, "Uncoded")
        return [head, f"Uncoded rounds take {self._s(uncoded.round_s)}. {gain}", self._ignoring()]

    def _costs(self) -> list[str]:
        """What the advice costs in computing and memory, and what a larger load would gain."""
        taken, made, best = self.taken, self.taken.candidate, self.scores[0]
        said = []
        if made.load > 1:
            said.append(
                f"It costs {made.load} times the computing and the memory for data on each worker{self._margin()}."
            )
        if best.candidate.name != made.name:
            dear = "its larger load" if best.candidate.load > made.load else "an approximate gradient"
            share = best.score_s / taken.score_s
            said.append(f"The fastest, {best.candidate.name}, takes {share:.0%} of that time: a small gain for {dear}.")
        return said

    def _margin(self) -> str:
        """What further computing may take before a smaller load is better, if its cost is not known."""
        load, taken = self.taken.candidate.load, self.taken
        smaller = next((score for score in self.scores if score.candidate.load < load), self.of("uncoded"))
        if self.compute_s or np.isinf(smaller.score_s):
            return ""
        blocks, left_s = load - smaller.candidate.load, smaller.score_s * taken.progress - taken.round_s
        further = "the further block takes" if blocks == 1 else f"the {blocks} further blocks take"
        return (
            f", and beats {smaller.candidate.name} ({self._s(smaller.score_s)}) as long as {further} a worker less "
            f"than {self._s(left_s)} (set compute_s if you know)"
        )

    def _s(self, seconds: float) -> str:
        return f"{seconds:.3g}{'' if self.recording.unit == NORMALISED else ' s'}"

    def _ignoring(self) -> str:
        ignoring = self.of("ignore_stragglers")
        if ignoring is self.taken:
            return "That is ignoring stragglers: no code is needed."
        if np.isinf(ignoring.score_s):
            never = int((ignoring.candidate.shares.mean(0) == 0).sum())
            return (
                f"Ignoring stragglers never uses the rows of {max(never, 1)} or more workers: at "
                f"r={ignoring.candidate.wait_for} a round takes {self._s(ignoring.round_s)}, and learns nothing there."
            )
        return _gain(self.taken, ignoring, f"Ignoring stragglers (r={ignoring.candidate.wait_for})")

    def terminal_table(self) -> Table:
        """The best candidates, uncoded and ignoring stragglers, for the terminal."""
        names = [score.candidate.name for score in self.scores[:SHOWN]]
        needed = [self.taken, self.of("uncoded"), self.of("ignore_stragglers")]
        shown = [s for s in self.scores if s.candidate.name in [*names, *(each.candidate.name for each in needed)]]
        table = Table(title="time per unit of progress", title_justify="left")
        for heading in ("scheme", "round", "progress", "time per progress", "uncoded takes", "95 % interval"):
            table.add_column(heading, justify="left" if heading == "scheme" else "right")
        for score in shown:
            gain, low, high = score.gain(self.of("uncoded"))
            mark = "* " if score is self.taken else "  "
            cells = f"{score.round_s:.4g}", f"{score.progress:.2f}", f"{score.score_s:.4g}"
            table.add_row(
                mark + score.candidate.name, *cells, f"{gain:.3g} x", f"{low:.3g} to {high:.3g}" if score.sure else "-"
            )
        return table

    def save(self, folder: Path) -> None:
        """Writes the table and the advice."""
        with replacing(folder / "advice.csv") as unfinished:
            self.table.to_csv(unfinished, index=False)
        (folder / "advice.txt").write_text("\n".join([*self.lines(), self.command]) + "\n")


def advise(
    recording: Recording,
    workers: int | None = None,
    compute_s: float = 0.0,
    overhead_s: float = 0.0,
    seed: int = 0,
) -> Advice:
    """Compares schemes on recorded rounds. `workers` may be fewer than were recorded, the first ones, or more.

    A worker that holds more of the data than in the recording takes its share of `compute_s` longer; `overhead_s` is
    added to every round. A missing time is that of the same worker in the nearest round that has one; but a worker
    whose times end never answers again. Raises ConfigError for fewer than two workers, if a worker has no time at all,
    and for a run that did not wait for all.
    """
    recorded = len(recording.workers)
    k = recorded if workers is None else workers
    if k < 2:
        raise ConfigError(f"workers={k}: must be at least 2; with one, there is nobody to wait for instead")
    rng = np.random.default_rng(seed)
    times_s = _rounds_of(recording)
    times_s = times_s[:, :k] if k <= recorded else _more_workers(times_s, k, rng)
    load = 1 / recorded if recording.load is None else recording.load
    found = candidates(times_s, compute_s, load, place=k <= recorded and len(times_s) > 1)
    alike, rounds = _alike(found[0].round_s), len(times_s)
    sure = rounds >= max(FEW, INDEPENDENT * alike)
    weights = _resamples(rounds, min(alike, max(1, rounds // INDEPENDENT)), rng)
    made = [_score(each, overhead_s, weights, sure) for each in _distinct(found)]
    scores = sorted(made, key=lambda each: each.score_s)
    taken = _cheapest(scores, PAID if compute_s else FREE)
    return Advice(recording, k, compute_s, rounds, scores, taken)


def complete_times(recording: Recording) -> Float[np.ndarray, "rounds workers"]:
    """The recorded times (s) without gaps, as `advise` takes them."""
    times_s, missing = recording.times_s, np.isnan(recording.times_s)
    if (never := missing.all(0)).any():
        raise ConfigError(
            f"{recording.path}: worker {recording.workers[int(never.argmax())]} has no time; leave it out"
        )
    if not (times_s > 0).any():
        raise ConfigError(f"{recording.path}: all times are 0; there are no stragglers")
    if recording.unused and (share := float(missing.any(1).mean())) > INCOMPLETE:
        raise ConfigError(
            f"{recording.path}: {share:.0%} of the rounds have answers that were not used, so that late ones are "
            "unknown; record a run that waits for all workers (scheme=uncoded)"
        )
    filled, rounds = np.array(times_s), np.arange(len(times_s))
    for j in np.flatnonzero(missing.any(0)):
        known = rounds[~missing[:, j]]
        nearest = known[np.abs(known - rounds[missing[:, j], None]).argmin(1)]
        filled[missing[:, j], j] = times_s[nearest, j]
        if len(times_s) - 1 - known[-1] >= ABSENT:
            filled[known[-1] + 1 :, j] = np.inf
    return filled


def _rounds_of(recording: Recording) -> Float[np.ndarray, "rounds workers"]:
    times_s = complete_times(recording)
    which = np.unique(np.linspace(0, len(times_s) - 1, MOST_ROUNDS).round().astype(int))
    return times_s[which]


def _more_workers(
    times_s: Float[np.ndarray, "rounds workers"], k: int, rng: np.random.Generator
) -> Float[np.ndarray, "rounds k"]:
    """Each recorded worker about equally often; a further copy of it has the same times in other rounds."""
    rounds, recorded = times_s.shape
    copies = [times_s[:, rng.permutation(recorded)]]
    for _ in range(-(-k // recorded) - 1):
        copies.append(np.roll(times_s, int(rng.integers(rounds)), axis=0)[:, rng.permutation(recorded)])
    return np.concatenate(copies, axis=1)[:, :k]


def _alike(round_s: Rounds) -> int:
    """The number of rounds in a row that are alike: twice the autocorrelation time of a first-order process."""
    if not np.isfinite(round_s).all() or np.ptp(round_s) == 0:
        return 1
    lag = min(max(lag_1(np.log(np.maximum(round_s, np.finfo(float).tiny))[:, None]), 0.0), 0.99)
    return max(1, round(2 * (1 + lag) / (1 - lag)) - 1)


def _resamples(rounds: int, length: int, rng: np.random.Generator) -> Float[np.ndarray, "resamples rounds"]:
    """The weights of rounds in resampled recordings, of stretches of neighbouring rounds: they are not independent."""
    starts = rng.integers(rounds, size=(RESAMPLES, -(-rounds // length)))
    drawn = (starts[:, :, None] + np.arange(length)) % rounds
    weights = np.stack([np.bincount(each.ravel(), minlength=rounds) for each in drawn])
    return weights / weights.sum(1, keepdims=True)


def _distinct(found: Sequence[Candidate]) -> list[Candidate]:
    """Without those that end every round as exact coding with the same load and placement does."""
    exact = {(each.load, each.placement is None): each.round_s for each in found if each.scheme == "egc"}
    same = lambda each: np.array_equal(each.round_s, exact.get((each.load, each.placement is None), np.zeros(0)))
    return [each for each in found if each.scheme != "erasurehead" or not same(each)]


def _score(made: Candidate, overhead_s: float, weights: Float[np.ndarray, "resamples rounds"], sure: bool) -> Score:
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


def _cheapest(scores: Sequence[Score], tolerance: float) -> Score:
    """The smallest load that takes hardly longer than the best; then an exact gradient.

    An approximate one must be faster than uncoded beyond chance.
    """
    uncoded = next(each for each in scores if each.candidate.scheme == "uncoded")
    sure = lambda each: each.candidate.exact or each.gain(uncoded)[1] > 1
    scores = [each for each in scores if sure(each)]
    near = [each for each in scores if each.score_s <= scores[0].score_s * (1 + tolerance)]
    cost = lambda each: (each.candidate.load, not each.candidate.exact, each.score_s)
    return min(near, key=cost)


def _gain(taken: Score, over: Score, name: str) -> str:
    gain, low, high = taken.gain(over)
    if not taken.sure:
        unsure = "rounds are too few, or too much alike, to say how sure that is"
        return f"{name} takes {gain:.3g} times as long for the same progress; {unsure}."
    sure = "beyond chance" if low > 1 else "not more than chance"
    return (
        f"{name} takes {gain:.3g} times as long for the same progress (95 % interval {low:.3g} to {high:.3g}): {sure}."
    )
