"""The predict command: `python -m erasurehead_jax.predict RUN_DIR FILE` writes a CSV of predictions."""

import argparse
import sys
import warnings
from pathlib import Path

import pandas as pd

from erasurehead_jax.hydra_app import run_command
from erasurehead_jax.results import Run, load


def predictions(run: Run, file: Path) -> pd.DataFrame:
    """One row for each row of the file: `prediction` and, for classes, the probability of each."""
    features = run.features(file)
    table = pd.DataFrame({"prediction": run.predict(features)})
    if run.classes is not None and (found := run.probabilities(features)) is not None:
        for name, column in zip(run.classes, found.T, strict=True):
            table[f"probability_{name}"] = column
    return table


def predict() -> None:
    """Writes the predictions of a run's model for the rows of a file like the training data."""
    parser = argparse.ArgumentParser(prog="erasurehead-predict", description="Apply the model of a finished run.")
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the run directory")
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a file of the kind that the run was trained on (a table as CSV or Parquet, svmlight, or .npz) with the "
        "same columns; that of the target may be there or not",
    )
    parser.add_argument("--output", type=Path, metavar="CSV", help="where to write (default: standard output)")
    arguments = parser.parse_args()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        table = predictions(load(arguments.run), arguments.file)
    table.to_csv(arguments.output or sys.stdout, index=False)


def main() -> None:
    """The `erasurehead-predict` command."""
    run_command(predict)


if __name__ == "__main__":
    main()
