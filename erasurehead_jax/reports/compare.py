"""The report: compares run directories."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.reports.claims import findings
from erasurehead_jax.reports.figure import answers_figure, comparison_figure
from erasurehead_jax.reports.runs import Comparison, compare, is_whatif, load_runs, run_folders
from erasurehead_jax.reports.table import (
    Target,
    default_targets,
    markdown_table,
    table_rows,
    terminal_table,
)
from erasurehead_jax.results import Run
from erasurehead_jax.rundir.wording import metric_value

FOLDER = "report"  # in the first of the given folders


class Report(NamedTuple):
    """What `report` has found and written."""

    folder: Path  # with report.md, tables (CSV, Markdown) and figures (PNG, SVG)
    tables: dict[str, pd.DataFrame]  # by the name of the comparison
    skipped: list[str]  # one line for each directory that was left out

    @property
    def figures(self) -> list[Path]:
        """The figures of the comparisons."""
        return [self.folder / f"{name}.png" for name in self.tables]


def report(runs: Sequence[Run | str | Path], target: float | None = None, *, console: Console | None = None) -> Report:
    """Compares runs, run directories, or folders of them, and writes tables and figures.

    They go into the folder `report` of the first one or, for several runs, of the folder that contains them. Runs are
    compared if they had the same data and delays. `target` is a value of the test metric; by default what uncoded
    reaches half-way and at its end. A run directory that is given also gets a workers.png. Raises ConfigError if there
    is no finished run.
    """
    console = console or Console(quiet=True)
    folders = [(each.folder if isinstance(each, Run) else Path(each)).expanduser() for each in runs]
    found = run_folders(folders)
    whatifs = [folder for folder in found if is_whatif(folder)]
    loaded, skipped = load_runs(folder for folder in found if folder not in whatifs)
    skipped += [f"skipped {run.folder}: ended after {len(run.history)} rounds" for run in loaded if run.interrupted]
    for line in skipped:
        console.print(line, highlight=False, soft_wrap=True)
    if not loaded and not whatifs:
        given = " ".join(map(str, folders))
        raise ConfigError(f"DIR={given}: contains no finished run; give run directories or folders that contain them")

    folder = _place(folders)
    folder.mkdir(exist_ok=True)
    parts, tables = ["# Report", *skipped], {}
    for comparison in compare([run for run in loaded if not run.interrupted]):
        targets = default_targets(comparison) if target is None else [_target(target)]
        tables[comparison.name] = table = pd.DataFrame(table_rows(comparison, targets))
        parts += _comparison_section(comparison, targets, table, folder, console)
    for each in whatifs:
        parts += _whatif_section(each, folder)
    for run in loaded:
        if run.folder in folders:
            from erasurehead_jax.reports.workers import workers_figure  # imported here because it needs JAX

            workers_figure(run, run.folder / "workers.png")
            console.print(f"answers of each worker: {run.folder / 'workers.png'}", soft_wrap=True)
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    console.print(
        f"report: {folder / 'report.md'}; tables (CSV, Markdown) and figures (PNG, SVG): {folder}", soft_wrap=True
    )
    return Report(folder, tables, skipped)


def _place(folders: list[Path]) -> Path:
    """The folder of the report: in the first folder, unless that is one of several runs."""
    first = folders[0]
    several = len(folders) > 1 and (first / ".hydra").exists()
    return (first.absolute().parent if several else first) / FOLDER


def _target(value: float) -> Target:
    return Target("target", f"target {value:g}", value)


def _comparison_section(
    comparison: Comparison, targets: list[Target], table: pd.DataFrame, folder: Path, console: Console
) -> list[str]:
    """Writes the table and figures of a comparison; returns its section of report.md."""
    rows = table.to_dict("records")
    table.to_csv(folder / f"{comparison.name}.csv", index=False)
    comparison_figure(comparison, targets, folder / comparison.name)
    answers_figure(comparison, folder / f"{comparison.name}-answers")
    values = ", ".join(
        f"{target.words}: {comparison.first.metric} {metric_value(target.of(comparison.first))}" for target in targets
    )
    console.print(terminal_table(rows, f"{comparison.description()}\n{values}"))
    part = [
        f"## {comparison.name}",
        f"{comparison.description()}. Targets: {values}. Medians over seeds.",
        markdown_table(rows),
    ]
    part += [f"![Metric against the clock, round times, speed-ups]({comparison.name}.png)"]
    part += [f"![Decode errors, and how often each worker's answer was used]({comparison.name}-answers.png)"]
    if claims := findings(comparison):
        checked = [
            {"the paper": each.where, "claims": each.claim, "measured": each.measured}
            | {"limit": each.limit, "met": "yes" if each.met else "no"}
            for each in claims
        ]
        part.append(markdown_table(checked))
        for each in claims:
            console.print(f"{each.where}: {each.claim}. Measured {each.measured}: {'met' if each.met else 'not met'}")
        console.print()
    return part


def _whatif_section(whatif: Path, folder: Path) -> list[str]:
    """The section of report.md about a what-if: its table, recommendation and figures."""
    name = "timing.csv" if (whatif / "timing.csv").exists() else "frontier.csv"
    rows = pd.read_csv(whatif / name).to_dict("records")
    part = [f"## What if: {whatif}", markdown_table([{str(key): value for key, value in row.items()} for row in rows])]
    if (whatif / "recommendation.txt").exists():
        part.append("```\n" + (whatif / "recommendation.txt").read_text() + "```")
    for picture in sorted(whatif.glob("*.png")):
        copied = folder / f"{'-'.join(whatif.parts[-2:])}-{picture.name}"
        shutil.copyfile(picture, copied)
        part.append(f"![{picture.stem}]({copied.name})")
    return part
