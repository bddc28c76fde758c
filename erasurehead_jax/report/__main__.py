"""Report: `python -m erasurehead_jax.report DIR...` puts run directories side by side."""

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

FOLDER = "report"  # in the first of the folders named


def report() -> None:
    """Reads the folders named on the command line; writes report.md, tables and pictures into DIR/report of the first.

    A folder that is itself a run directory also gets its workers.png.
    """
    parser = argparse.ArgumentParser(prog="erasurehead-report", description="Put run directories side by side.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run directories, or folders of them")
    parser.add_argument("--target", type=float, help="of the test metric (default: uncoded's half-way, and its last)")
    arguments = parser.parse_args()
    console = Console(width=None if Console().is_terminal else 160)
    found = run_folders(arguments.folders)
    whatifs = [folder for folder in found if is_whatif(folder)]
    runs, skipped = load_runs(folder for folder in found if folder not in whatifs)
    skipped += [f"skipped {run.folder}: ended after {len(run.history)} rounds" for run in runs if run.interrupted]
    for line in skipped:
        console.print(line, highlight=False, soft_wrap=True)
    if not runs and not whatifs:
        raise ConfigError(f"report of {', '.join(map(str, arguments.folders))}: no finished run in or below")

    folder = arguments.folders[0] / FOLDER
    folder.mkdir(exist_ok=True)
    parts = ["# Report", *skipped]
    for comparison in compare([run for run in runs if not run.interrupted]):
        targets = default_targets(comparison) if arguments.target is None else [_given(arguments.target)]
        parts += _compared(comparison, targets, folder, console)
    for each in whatifs:
        parts += _asked(each, folder)
    for run in runs:
        if run.folder in arguments.folders:
            from erasurehead_jax.report.workers import workers_figure  # late: needs JAX

            workers_figure(run, run.folder / "workers.png")
            console.print(f"who answered when: {run.folder / 'workers.png'}", soft_wrap=True)
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    console.print(
        f"tables (CSV, Markdown) and figures (PNG, SVG): {folder}, from {folder / 'report.md'} on", soft_wrap=True
    )


def _given(target: float) -> Target:
    return Target("target", f"target {target:g}", target)


def _compared(comparison: Comparison, targets: list[Target], folder: Path, console: Console) -> list[str]:
    """Writes the table and the pictures of a comparison; its part of report.md."""
    rows = table_rows(comparison, targets)
    pd.DataFrame(rows).to_csv(folder / f"{comparison.name}.csv", index=False)
    comparison_figure(comparison, targets, folder / comparison.name)
    answers_figure(comparison, folder / f"{comparison.name}-answers")
    values = ", ".join(
        f"{target.words}: {comparison.first.metric} {target.of(comparison.first):.4f}" for target in targets
    )
    console.print(terminal_table(rows, f"{comparison.told()}\n{values}"))
    part = [
        f"## {comparison.name}",
        f"{comparison.told()}. Targets: {values}. Medians over seeds.",
        markdown_table(rows),
    ]
    part += [f"![Metric against the clock, time of a round, speed-ups]({comparison.name}.png)"]
    part += [f"![Decode errors, and how often each worker was used]({comparison.name}-answers.png)"]
    if claims := findings(comparison):
        told = [
            {"the paper": each.where, "claims": each.claim, "measured": each.measured}
            | {"limit": each.limit, "met": "yes" if each.met else "no"}
            for each in claims
        ]
        part.append(markdown_table(told))
        for each in claims:
            console.print(f"{each.where}: {each.claim}. Measured {each.measured}: {'met' if each.met else 'not met'}")
        console.print()
    return part


def _asked(whatif: Path, folder: Path) -> list[str]:
    """A what-if's part of report.md: its table, its recommendation, its pictures."""
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
