"""The advise command: `python -m erasurehead_jax.advise FILE [workers=...] [compute_s=...] [data=...]`."""

import argparse

from rich.console import Console

from erasurehead_jax.hydra_app import run_command


def command() -> None:
    """Says which scheme to take for recorded workers, and the command that does it."""
    parser = argparse.ArgumentParser(
        prog="erasurehead-advise",
        description="Say which scheme to take for recorded workers. Without data, by round times alone.",
    )
    parser.add_argument("file", metavar="FILE", help="a recording, as for the trace command")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=VALUE",
        help="workers, compute_s, overhead_s, seed; with data=... also those of the what-if that concern training",
    )
    parser.add_argument(
        "--unit", choices=["s", "ms", "us", "ns"], help="unit of times (default: by column names, or s)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the table (default: outputs/advice-NAME)")
    arguments = parser.parse_args()
    from erasurehead_jax.stragglers.ask import ask  # late: --help needs no JAX

    console = Console(width=None if Console().is_terminal else 140)
    ask(arguments.file, arguments.settings, arguments.unit, arguments.out, console)


def main() -> None:
    """The `erasurehead-advise` command."""
    run_command(command)


if __name__ == "__main__":
    main()
