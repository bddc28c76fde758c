"""`python -m erasurehead_jax` lists the commands."""

COMMANDS = {
    "train": "train on MPI ranks or in the simulator; -m trains several runs; --help lists the settings",
    "run": "run a script of your own with workers for its coded gradients; --help says how",
    "whatif": "simulate a grid of schemes, loads and stopping rules; --help lists the settings",
    "report": "compare finished runs: a table and a figure",
    "predict": "apply the model of a finished run to a file: a CSV of predictions",
    "reproduce": "run the paper's experiments, one after another",
}


def main() -> None:
    """Prints the commands."""
    print("Gradient coding for distributed training. Commands:\n")
    for name, purpose in COMMANDS.items():
        print(f"  python -m erasurehead_jax.{name:10} {purpose}")


if __name__ == "__main__":
    main()
