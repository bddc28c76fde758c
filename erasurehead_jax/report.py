"""The report command: `python -m erasurehead_jax.report DIR...` compares run directories."""

import argparse
from pathlib import Path

from rich.console import Console

from erasurehead_jax.hydra_app import run_command
from erasurehead_jax.reports.compare import report


def command() -> None:
    """Reads the given folders and writes a report into the first one."""
    parser = argparse.ArgumentParser(prog="erasurehead-report", description="Compare run directories.")
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="run directories, or folders that contain them"
    )
    parser.add_argument(
        "--target", type=float, help="value of the test metric (default: what uncoded reaches half-way and at its end)"
    )
    arguments = parser.parse_args()
    console = Console(width=None if Console().is_terminal else 160)
    report(arguments.folders, arguments.target, console=console)


def main() -> None:
    """The `erasurehead-report` command."""
    run_command(command)


if __name__ == "__main__":
    main()
