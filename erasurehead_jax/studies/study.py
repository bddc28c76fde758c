"""A what-if: a grid of points that are simulated under the same delays, and what came of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from erasurehead_jax.data import Dataset
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.rundir.files import SUMMARY, replacing, write_json
from erasurehead_jax.rundir.versions import versions
from erasurehead_jax.studies.decode import CodeAdvice, Examined, decode_table, examined, recommend_codes
from erasurehead_jax.studies.decode_figure import decode_figure
from erasurehead_jax.studies.figures import frontier_figure, timing_figure, training_figure
from erasurehead_jax.studies.frontier import default_target, frontier
from erasurehead_jax.studies.grid import GridPoint, label_columns
from erasurehead_jax.studies.montecarlo import Timings, Trainings, time_grid, train_grid
from erasurehead_jax.studies.recommendation import Recommendation, recommend
from erasurehead_jax.studies.tables import terminal_table

# Columns of decode.csv that the terminal shows.
TERMINAL = ["name", "stragglers", "mean_error", "sem_error", "optimal_error", "worst_error", "amplification"]

Advance = Callable[[float], object]
Say = Callable[[str], None]


class Study(NamedTuple):
    """The points of a what-if, and how they are simulated. With a data set they are trained, else only timed."""

    points: list[GridPoint]
    seeds: list[int]
    rounds: int
    every: int  # rounds between evaluations
    chunk: int | None  # runs at a time
    targets: list[float] | None  # of the test metric; None: what uncoded has half-way
    dataset: Dataset | None
    objective: AbstractObjective | None
    left_out: list[str]  # one line per kind of impossible grid point

    def run(self, progress: Advance = lambda runs: None, say: Say = lambda line: None) -> "Timed | Trained":
        """Simulates. `progress` is called with the number of further runs that are done, possibly fractional."""
        common = self.chunk, jax.devices(), progress, say
        if self.dataset is None or self.objective is None:
            return Timed(self, time_grid(self.points, self.seeds, self.rounds, *common))
        sizes = self.points, self.seeds, self.rounds, self.every
        return Trained(self, train_grid(self.dataset, self.objective, *sizes, *common))

    def decode(self, heard: Sequence[int], progress: Advance = lambda runs: None) -> "Decoded":
        """Examines the codes alone, with `rounds` random sets of stragglers for every number of them.

        The recommendations are for those numbers that leave `heard` workers.
        """
        points = examined(self.points)
        advance = lambda done: progress(done * len(self.points) * len(self.seeds) / len(points))
        return Decoded(self, points, heard, decode_table(points, heard, self.rounds, self.seeds[0], advance))

    def summary(self, mode: str) -> dict[str, Any]:
        """What summary.json has of every what-if."""
        data = {} if self.dataset is None else {"data": self.dataset.name}
        sizes = {"points": len(self.points), "seeds": len(self.seeds), "rounds": self.rounds}
        return {"mode": mode} | sizes | data | {"versions": versions()}


class Timed:
    """Round times and decode errors. `table` has one row a point."""

    def __init__(self, study: Study, timings: Timings):
        self._study, self.timings = study, timings
        self.table: pd.DataFrame = timings.table

    def lines(self) -> list[str | Table]:
        """The result for the terminal."""
        title = f"round times (s): {len(self._study.seeds)} seeds, {self._study.rounds} rounds each"
        advice = "Shorter rounds do not imply faster training: use mode=training to compare times to a target."
        return [terminal_table(self.table, title), advice]

    def figure(self, path: Path) -> None:
        """Draws the distributions of round times, and the decode errors."""
        timing_figure(self._study.points, self.timings, path)

    def save(self, folder: Path) -> None:
        """Writes table, figure and summary."""
        _write_csv(folder / "timing.csv", self.table)
        self.figure(folder / "timing.png")
        write_json(folder / SUMMARY, self._study.summary("timing"))


class Decoded:
    """Decode errors against the number of stragglers. `table` has one row a point and number of stragglers."""

    def __init__(self, study: Study, points: Sequence[Examined], heard: Sequence[int], table: pd.DataFrame):
        self._study, self._points, self._heard = study, points, heard
        self.table = table

    @cached_property
    def recommendations(self) -> list[CodeAdvice]:
        """The best code for each load and number of stragglers."""
        return recommend_codes(self._points, self.table, self._heard)

    def advice(self) -> list[str]:
        """The recommendations in words."""
        return [each.text for each in self.recommendations]

    def lines(self) -> list[str | Table]:
        """The result for the terminal."""
        late = [self._workers - r for r in self._heard]
        title = f"decode errors |w - 1|^2: {self._study.rounds} random sets of stragglers, and the worst"
        return [terminal_table(self.table.query(f"stragglers in {late}").filter(TERMINAL), title), *self.advice()]

    @property
    def _workers(self) -> int:
        return self._study.points[0].point.scheme.code.workers

    def figure(self, path: Path) -> None:
        """Draws the mean and the worst errors against the number of stragglers."""
        decode_figure(self.table, path)

    def save(self, folder: Path) -> None:
        """Writes table, figure, recommendation and summary."""
        _write_csv(folder / "decode.csv", self.table)
        self.figure(folder / "decode.png")
        write_json(folder / SUMMARY, self._study.summary("decode") | {"recommendations": self.recommendations})
        (folder / "recommendation.txt").write_text("\n".join(self.advice()) + "\n")


class Trained:
    """Times to the targets. `table` has one row a point and target."""

    def __init__(self, study: Study, trainings: Trainings):
        self._study, self.trainings = study, trainings
        self.targets = study.targets or [default_target(study.points, trainings)]
        self.table: pd.DataFrame = frontier(study.points, trainings, self.targets)

    @cached_property
    def recommendations(self) -> list[Recommendation]:
        """The best point for each target under each circumstances, its margins and limits."""
        return [each for target in self.targets for each in recommend(self._study.points, self.trainings, target)]

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """Clock and metrics: one row a point, seed and evaluated round."""
        tables, found = [], self.trainings
        for i, point in enumerate(self._study.points):
            for j, seed in enumerate(self._study.seeds):
                values = {name: metric[i, j] for name, metric in found.metrics.items()}
                columns = {"seed": seed, "round": found.rounds, "clock_s": found.clock_s[i, j]} | values
                tables.append(pd.DataFrame(point.labels | columns))
        table = pd.concat(tables, ignore_index=True)
        return table.reindex(columns=list(dict.fromkeys([*label_columns(self._study.points), *table.columns])))

    def advice(self) -> list[str]:
        """The recommendations in words."""
        return [line for each in self.recommendations for line in each.lines()]

    def lines(self) -> list[str | Table]:
        """The result for the terminal."""
        return [terminal_table(self.table, "time to the target (s): median over seeds"), *self.advice()]

    def figure(self, path: Path) -> None:
        """Draws the metric against the simulated clock."""
        training_figure(self._study.points, self.trainings, self.targets[-1], path)

    def save(self, folder: Path) -> None:
        """Writes tables, figures, recommendations and summary."""
        _write_csv(folder / "whatif.csv", self.rounds)
        _write_csv(folder / "frontier.csv", self.table)
        write_json(folder / SUMMARY, self._study.summary("training") | {"recommendations": self.recommendations})
        (folder / "recommendation.txt").write_text("\n".join(self.advice()) + "\n")
        self.figure(folder / "whatif.png")
        frontier_figure(self._study.points, self.trainings, self.targets[-1], folder / "frontier.png")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as unfinished:
        table.to_csv(unfinished, index=False)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[float], None]]:
    """Shows a progress bar over `total` runs; yields a function that advances it by a (fractional) number of runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=total)
        done = 0.0

        def advance(runs: float) -> None:
            nonlocal done
            done += runs
            progress.update(task, completed=round(done, 6))  # fractions add up to 255.9999, which would be shown as 255

        yield advance
