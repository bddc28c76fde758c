"""What to do about recorded stragglers: the best scheme for these workers, by how much, how sure, and at what cost."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.table import Table

from erasurehead_jax.delays.recording import NORMALISED, Recording
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.files import replacing
from erasurehead_jax.stragglers.candidates import Candidate, candidates
from erasurehead_jax.stragglers.rounds import more_workers, used_rounds
from erasurehead_jax.stragglers.scores import Score, alike_rounds, cheapest, distinct, resamples, score_of
from erasurehead_jax.stragglers.summary import FEW

INDEPENDENT = 5  # stretches that a recording must have for intervals to mean something
FREE, PAID = 0.2, 0.02  # how much longer a smaller load may take to be preferred, without and with a cost of computing
SHOWN = 12  # candidates in the table on the terminal


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
    times_s = used_rounds(recording)
    times_s = times_s[:, :k] if k <= recorded else more_workers(times_s, k, rng)
    found = candidates(times_s, compute_s, recording.held, place=k <= recorded and len(times_s) > 1)
    alike, rounds = alike_rounds(found[0].round_s), len(times_s)
    sure = rounds >= max(FEW, INDEPENDENT * alike)
    weights = resamples(rounds, min(alike, max(1, rounds // INDEPENDENT)), rng)
    made = [score_of(each, overhead_s, weights, sure) for each in distinct(found)]
    scores = sorted(made, key=lambda each: each.score_s)
    taken = cheapest(scores, PAID if compute_s else FREE)
    return Advice(recording, k, compute_s, rounds, scores, taken)


def _gain(taken: Score, over: Score, name: str) -> str:
    gain, low, high = taken.gain(over)
    if not taken.sure:
        unsure = "rounds are too few, or too much alike, to say how sure that is"
        return f"{name} takes {gain:.3g} times as long for the same progress; {unsure}."
    sure = "beyond chance" if low > 1 else "not more than chance"
    return (
        f"{name} takes {gain:.3g} times as long for the same progress (95 % interval {low:.3g} to {high:.3g}): {sure}."
    )
