"""The trace command: `python -m erasurehead_jax.trace FILE...` reports on recorded times of workers."""

import argparse

from rich.console import Console

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.hydra_app import run_command


def command() -> None:
    """Reads recordings, prints what they say of workers, and writes a report of each."""
    parser = argparse.ArgumentParser(prog="erasurehead-trace", description="Report on recorded times of workers.")
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a CSV table with a row a worker and round or a column a worker, an .npz with times_s, or arrivals.npz",
    )
    parser.add_argument(
        "--unit", choices=["s", "ms", "us", "ns"], help="unit of times (default: by column names, or s)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the report (default: outputs/trace-NAME)")
    arguments = parser.parse_args()
    if arguments.out is not None and len(arguments.files) > 1:
        raise ConfigError(f"--out={arguments.out}: is for a single recording; here are {len(arguments.files)}")
    from erasurehead_jax.stragglers.report import trace  # late: --help needs no SciPy

    trace(arguments.files, arguments.unit, arguments.out, console=Console(width=None if Console().is_terminal else 140))


def main() -> None:
    """The `erasurehead-trace` command."""
    run_command(command)


if __name__ == "__main__":
    main()
