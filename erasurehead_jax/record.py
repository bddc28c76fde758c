"""The run directory: what a run leaves behind, and what the progress bar and the report read."""

import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from erasurehead_jax.errors import ConfigError

HISTORY, SUMMARY, ARRIVALS, MODEL, LOG, ERROR = (
    "history.csv",
    "summary.json",
    "arrivals.npz",
    "model.npz",
    "train.log",
    "error.txt",
)


def history_columns(metric: str) -> list[str]:
    """The columns of history.csv; `metric` is auc or mse."""
    clock = ["round", "clock_s", "round_s", "waited", "exact", "decode_error", "grad_norm", "received_bytes"]
    return [*clock, "train_loss", "test_loss", f"test_{metric}"]


def require_empty(run_dir: Path) -> None:
    """Raises ConfigError if the run directory has anything in it."""
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise ConfigError(
            f"hydra.run.dir={run_dir}: must be new or empty, so that no run is overwritten; choose another"
        )


class History:
    """Rows of history.csv, one a round, flushed as they come; metrics may be filled in at the end."""

    def __init__(self, run_dir: Path, metric: str):
        self.columns = history_columns(metric)
        self.rows: list[dict[str, Any]] = []
        self._path = run_dir / HISTORY
        self._file = self._path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, self.columns)
        self._writer.writeheader()
        self._file.flush()

    def append(self, row: dict[str, Any]) -> None:
        """Writes a row; columns it lacks stay empty."""
        self.rows.append(row)
        self._writer.writerow(_plain(row))
        self._file.flush()

    def fill(self, metrics: list[dict[str, float]]) -> None:
        """Adds the metrics of every row and rewrites the file in one step."""
        for row, values in zip(self.rows, metrics, strict=True):
            row |= values
        partial = self._path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(map(_plain, self.rows))
        partial.replace(self._path)

    def close(self) -> None:
        """Closes the file; the rows stay readable."""
        self._file.close()


class Iterates:
    """The iterates of a run, kept on disk until they are evaluated: memory stays flat however long the run is."""

    def __init__(self, run_dir: Path, dim: int, dtype: np.dtype):
        self._file = tempfile.TemporaryFile(dir=run_dir)  # noqa: SIM115 - closed in close(); vanishes with the process
        self._dim, self._dtype, self._count = dim, dtype, 0

    def append(self, x: Float[np.ndarray, " d"]) -> None:
        """Keeps one iterate."""
        x.tofile(self._file)
        self._count += 1

    def batches(self, size: int) -> Iterator[Float[np.ndarray, "batch d"]]:
        """All iterates in order, `size` at a time."""
        self._file.seek(0)
        for first in range(0, self._count, size):
            count = min(size, self._count - first)
            yield np.fromfile(self._file, self._dtype, count * self._dim).reshape(count, self._dim)

    def close(self) -> None:
        """Frees the disk space."""
        self._file.close()


def write_json(path: Path, values: dict[str, Any]) -> None:
    """In one step, so that a reader never sees half a file. Infinite and undefined numbers become null."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(_jsonable(values), indent=2) + "\n")
    partial.replace(path)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """A .npz in one step."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    partial.replace(path)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: int(value) if isinstance(value, bool | np.bool_) else value for name, value in row.items()}


def _jsonable(value: Any) -> Any:
    if hasattr(value, "_asdict"):  # a NamedTuple
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
