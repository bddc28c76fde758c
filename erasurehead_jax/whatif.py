"""The what-if command: `python -m erasurehead_jax.whatif grid.scheme=[...] grid.load=[...] mode=training ...`"""

from erasurehead_jax.hydra_app import run_command
from erasurehead_jax.studies.command import whatif


def main() -> None:
    """The `erasurehead-whatif` command."""
    run_command(whatif)


if __name__ == "__main__":
    main()
