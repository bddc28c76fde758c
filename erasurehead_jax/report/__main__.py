"""Report: `python -m erasurehead_jax.report DIR...` puts run directories side by side."""

import argparse
from pathlib import Path

import pandas as pd
from rich.console import Console

from erasurehead_jax.config import run_command
from erasurehead_jax.report.figure import comparison_figure
from erasurehead_jax.report.runs import baseline, half_way_target, load_runs
from erasurehead_jax.report.table import comparison, terminal_table
from erasurehead_jax.report.workers import workers_figure


def report() -> None:
    """Reads the folders named on the command line; writes comparison.csv and comparison.png into the first of them, and
    workers.png into every run directory."""
    parser = argparse.ArgumentParser(prog="erasurehead-report", description="Compare run directories.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="run directories, or folders of them")
    parser.add_argument("--target", type=float, help="of the test metric (default: uncoded's half-way)")
    arguments = parser.parse_args()
    runs = load_runs(arguments.folders)
    target = half_way_target(runs) if arguments.target is None else arguments.target
    first = baseline(runs)
    data, workers = first.summary["data"], first.summary["workers"]
    title = f"{data}, {workers} workers; target {first.metric} {target:.4f}"
    if arguments.target is None:
        title += f" = {first.label} half-way"
    rows = comparison(runs, target)
    csv, png = (arguments.folders[0] / f"comparison.{ending}" for ending in ("csv", "png"))
    pd.DataFrame(rows).to_csv(csv, index=False)
    comparison_figure(runs, target, title, png)
    for run in runs:
        workers_figure(run, run.folder / "workers.png")
    console = Console(width=None if Console().is_terminal else 140)
    console.print(terminal_table(rows, title))
    console.print(f"figure {png}\ntable  {csv}\nwho answered when: workers.png in every run directory")


def main() -> None:
    """The `erasurehead-report` command."""
    run_command(report)


if __name__ == "__main__":
    main()
