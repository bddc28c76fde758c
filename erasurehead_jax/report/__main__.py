"""The report command: `python -m erasurehead_jax.report DIR...` compares run directories."""

import argparse
import shutil
from pathlib import Path

import pandas as pd
from rich.console import Console

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.hydra_app import run_command
from erasurehead_jax.report.claims import findings
from erasurehead_jax.report.figure import answers_figure, comparison_figure
from erasurehead_jax.report.runs import Comparison, compare, is_whatif, load_runs, run_folders
from erasurehead_jax.report.table import (
    Target,
    default_targets,
    markdown_table,
    table_rows,
    terminal_table,
)
from erasurehead_jax.rundir.wording import metric_value

FOLDER = "report"  # in the first of the given folders


def report() -> None:
    """Reads the given folders and writes report.md, tables and figures into the `report` folder of the first one.

    A folder that is itself a run directory also gets a workers.png.
    """
    parser = argparse.ArgumentParser(prog="erasurehead-report", description="Compare run directories.")
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="run directories, or folders that contain them"
    )
    parser.add_argument(
        "--target", type=float, help="value of the test metric (default: what uncoded reaches half-way and at its end)"
    )
    arguments = parser.parse_args()
    console = Console(width=None if Console().is_terminal else 160)
    found = run_folders(arguments.folders)
    whatifs = [folder for folder in found if is_whatif(folder)]
    runs, skipped = load_runs(folder for folder in found if folder not in whatifs)
    skipped += [f"skipped {run.folder}: ended after {len(run.history)} rounds" for run in runs if run.interrupted]
    for line in skipped:
        console.print(line, highlight=False, soft_wrap=True)
    if not runs and not whatifs:
        given = " ".join(map(str, arguments.folders))
        raise ConfigError(f"DIR={given}: contains no finished run; give run directories or folders that contain them")

    folder = arguments.folders[0] / FOLDER
    folder.mkdir(exist_ok=True)
    parts = ["# Report", *skipped]
    for comparison in compare([run for run in runs if not run.interrupted]):
        targets = default_targets(comparison) if arguments.target is None else [_target(arguments.target)]
        parts += _comparison_section(comparison, targets, folder, console)
    for each in whatifs:
        parts += _whatif_section(each, folder)
    for run in runs:
        if run.folder in arguments.folders:
            from erasurehead_jax.report.workers import workers_figure  # imported here because it needs JAX

            workers_figure(run, run.folder / "workers.png")
            console.print(f"answers of each worker: {run.folder / 'workers.png'}", soft_wrap=True)
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    console.print(
        f"report: {folder / 'report.md'}; tables (CSV, Markdown) and figures (PNG, SVG): {folder}", soft_wrap=True
    )


def _target(value: float) -> Target:
    return Target("target", f"target {value:g}", value)


def _comparison_section(comparison: Comparison, targets: list[Target], folder: Path, console: Console) -> list[str]:
    """Writes the table and figures of a comparison; returns its section of report.md."""
    rows = table_rows(comparison, targets)
    pd.DataFrame(rows).to_csv(folder / f"{comparison.name}.csv", index=False)
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


def main() -> None:
    """The `erasurehead-report` command."""
    run_command(report)


if __name__ == "__main__":
    main()
