"""What to do about recorded stragglers: the best scheme for these workers, by how much, how sure, and at what cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.table import Table

from erasurehead_jax.delays.recording import INCOMPLETE, NORMALISED, Recording
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.refusals import override
from erasurehead_jax.rundir.files import replacing
from erasurehead_jax.stragglers.candidates import Candidate, candidates, stretches

MOST_ROUNDS = 300  # recorded rounds that are used, evenly spaced
RESAMPLES = 400
LISTED = 32  # workers up to which a placement is written out
FREE, PAID = 0.2, 0.02  # how much longer a smaller load may take to be preferred, without and with a cost of computing
SHOWN = 12  # candidates in the table on the terminal
FEW = 10  # rounds, below which little is known

Rounds = Float[np.ndarray, " rounds"]


class Score(NamedTuple):
    """A candidate, and the time that it takes for the progress of an exact round."""

    candidate: Candidate
    round_s: float
    progress: float  # of a round, relative to an exact one
    resampled_s: Float[np.ndarray, " resamples"]  # time per unit of progress, of resampled rounds

    @property
    def score_s(self) -> float:
        """Time per unit of progress."""
        return self.round_s / self.progress if self.progress > 0 else np.inf

    def gain(self, over: "Score") -> tuple[float, float, float]:
        """How many times as long the other takes per unit of progress: over all rounds, and a 95 % interval."""
        with np.errstate(invalid="ignore"):
            ratios = over.resampled_s / self.resampled_s
        low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
        return over.score_s / self.score_s, float(low), float(high)


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
        settings, order = self.taken.candidate.settings, self.taken.candidate.placement
        if order is not None and len(order) <= LISTED:
            settings = [*settings, f"placement=[{','.join(map(str, order))}]"]
        elif order is not None:
            settings = [*settings, "placement=balanced", override("placement_times", self.recording.path)]
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
        taken, made, uncoded = self.taken, self.taken.candidate, self.of("uncoded")
        unit = "" if self.recording.unit == NORMALISED else " s"
        said = [
            "Ranked by time per unit of progress, without data: the mean time of a round over the smallest mean share "
            "of a block in its gradient (with equally fast workers 1 - p, the rate of the paper's Theorem 2). "
            "With data=... schemes are compared by their time to a target."
        ]
        if made.scheme == "uncoded":
            said.append(f"Take uncoded: no scheme is much faster. A round takes {taken.round_s:.3g}{unit}.")
        else:
            progress = "exactly" if made.exact else f"with {taken.progress:.0%} of the progress of an exact one"
            said.append(f"Take {made.name}: {taken.round_s:.3g}{unit} a round, {progress}.")
            if np.isinf(uncoded.round_s):
                said.append("Uncoded waits for ever, because a worker ceases to answer.")
            else:
                said.append(f"Uncoded rounds take {uncoded.round_s:.3g}{unit}. {_gain(taken, uncoded, 'Uncoded')}")
            said.append(self._ignoring())
        if self.rounds < FEW:
            said.append(f"Only {self.rounds} rounds are known: that is little, and rare stragglers are not among them.")
        if made.load > 1:
            said.append(
                f"It costs {made.load} times the computing and the memory for data on each worker{self._free()}."
            )
        best = self.scores[0]
        if best.candidate.name != made.name:
            said.append(
                f"{best.candidate.name} needs {best.score_s / taken.score_s:.0%} of that time, too little for "
                f"{'its larger load' if best.candidate.load > made.load else 'an approximate gradient'}."
            )
        if self.workers > len(self.recording.workers):
            said.append(f"{self.workers} workers were drawn from the {len(self.recording.workers)} recorded ones.")
        return [*said, self.command]

    def _free(self) -> str:
        """What the further computing may take, if it is not known."""
        left_s = self.of("uncoded").score_s - self.taken.score_s
        if self.compute_s or np.isinf(left_s):
            return ""
        unit, blocks = "" if self.recording.unit == NORMALISED else " s", self.taken.candidate.load - 1
        further = "the further block takes" if blocks == 1 else f"the {blocks} further blocks take"
        return f", and wins as long as {further} a worker less than {left_s:.3g}{unit}; set compute_s if you know it"

    def _ignoring(self) -> str:
        ignoring = self.of("ignore_stragglers")
        if np.isinf(ignoring.score_s):
            never = int((ignoring.candidate.shares.mean(0) == 0).sum())
            return (
                f"Ignoring stragglers never uses the rows of {never} or more workers: at "
                f"r={ignoring.candidate.wait_for} a round takes {ignoring.round_s:.3g}, but learns nothing from them."
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
            table.add_row(mark + score.candidate.name, *cells, f"{gain:.3g} x", f"{low:.3g} to {high:.3g}")
        return table

    def save(self, folder: Path) -> None:
        """Writes the table and the advice."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "advice.csv") as unfinished:
            self.table.to_csv(unfinished, index=False)
        (folder / "advice.txt").write_text("\n".join(self.lines()) + "\n")


def advise(
    recording: Recording,
    workers: int | None = None,
    compute_s: float = 0.0,
    overhead_s: float = 0.0,
    seed: int = 0,
) -> Advice:
    """Compares schemes on recorded rounds. `workers` may be fewer than were recorded, the first ones, or more.

    A worker that holds more of the data than in the recording takes its share of `compute_s` longer; `overhead_s` is
    added to every round. Rounds with missing times are left out or, if they are more than one in ten, a missing answer
    counts as one that never comes. Raises ConfigError if a worker has no time at all.
    """
    recorded = len(recording.workers)
    k = workers or recorded
    rng = np.random.default_rng(seed)
    times_s = _rounds_of(recording)
    times_s = times_s[:, :k] if k <= recorded else _more_workers(times_s, k, rng)
    load = 1 / k if recording.load is None else recording.load
    found = candidates(times_s, compute_s, load, place=k <= recorded and len(times_s) > 1)
    weights = _resamples(len(times_s), rng)
    scores = sorted((_score(each, overhead_s, weights) for each in _distinct(found)), key=lambda each: each.score_s)
    taken = _cheapest(scores, PAID if compute_s else FREE)
    return Advice(recording, k, compute_s, len(times_s), scores, taken)


def _rounds_of(recording: Recording) -> Float[np.ndarray, "rounds workers"]:
    times_s = recording.times_s
    incomplete = np.isnan(times_s).any(1)
    if (never := np.isnan(times_s).all(0)).any():
        raise ConfigError(
            f"{recording.path}: worker {recording.workers[int(never.argmax())]} has no time at all; leave it out"
        )
    times_s = times_s[~incomplete] if incomplete.mean() <= INCOMPLETE else np.where(np.isnan(times_s), np.inf, times_s)
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


def _resamples(rounds: int, rng: np.random.Generator) -> Float[np.ndarray, "resamples rounds"]:
    """The weights of rounds in resampled recordings, of stretches of neighbouring rounds: they are not independent."""
    length = int(np.bincount(stretches(rounds)).max())
    starts = rng.integers(rounds, size=(RESAMPLES, -(-rounds // length)))
    drawn = (starts[:, :, None] + np.arange(length)) % rounds
    weights = np.stack([np.bincount(each.ravel(), minlength=rounds) for each in drawn])
    return weights / weights.sum(1, keepdims=True)


def _distinct(found: Sequence[Candidate]) -> list[Candidate]:
    """Without those that end every round as exact coding with the same load and placement does."""
    exact = {(each.load, each.placement is None): each.round_s for each in found if each.scheme == "egc"}
    same = lambda each: np.array_equal(each.round_s, exact.get((each.load, each.placement is None), np.zeros(0)))
    return [each for each in found if each.scheme != "erasurehead" or not same(each)]


def _score(made: Candidate, overhead_s: float, weights: Float[np.ndarray, "resamples rounds"]) -> Score:
    round_s = made.round_s + overhead_s
    differ = _differ(made.shares)
    progress = _smallest(weights @ made.shares, differ)
    with np.errstate(divide="ignore", invalid="ignore"):
        means_s = np.where(np.isinf(round_s).any(), np.inf, weights @ np.where(np.isinf(round_s), 0, round_s))
        resampled_s = np.where(progress > 0, means_s / progress, np.inf)
    return Score(made, float(round_s.mean()), float(_smallest(made.shares.mean(0), differ)), resampled_s)


def _differ(shares: Float[np.ndarray, "rounds n"]) -> float:
    """How much of the variance between the blocks' mean shares is more than chance, between 0 and 1.

    Where any worker may be late, the smallest of many mean shares is small by chance alone, the more so in few rounds.
    """
    own = shares.mean(0)
    between, chance = float(own.var(ddof=1)) if len(own) > 1 else 0.0, float(shares.var(0).mean()) / len(shares)
    return max(0.0, 1 - chance / between) if between > 0 else 0.0


def _smallest(means: Float[np.ndarray, "*resamples n"], differ: float) -> Float[np.ndarray, "*resamples"]:
    """The smallest mean share of a block, after shrinking all towards their average by what is chance."""
    average = means.mean(-1)
    return np.asarray(np.maximum(average + differ * (means.min(-1) - average), 0.0))


def _cheapest(scores: Sequence[Score], tolerance: float) -> Score:
    """The smallest load that takes hardly longer than the best; then an exact gradient, and the given placement."""
    near = [each for each in scores if each.score_s <= scores[0].score_s * (1 + tolerance)]
    cost = lambda each: (each.candidate.load, not each.candidate.exact, each.score_s)
    return min(near, key=cost)


def _gain(taken: Score, over: Score, name: str) -> str:
    gain, low, high = taken.gain(over)
    sure = "beyond chance" if low > 1 else "not more than chance"
    return (
        f"{name} takes {gain:.3g} times as long for the same progress (95 % interval {low:.3g} to {high:.3g}): {sure}."
    )
