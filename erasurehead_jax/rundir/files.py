"""The files of a run directory, and how they are written and read."""

import csv
import fcntl
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from erasurehead_jax.errors import ConfigError, StorageFailed

HISTORY, SUMMARY, ARRIVALS, MODEL = "history.csv", "summary.json", "arrivals.npz", "model.npz"
LOG, NEXT, CHECKPOINT = "train.log", "next.json", "checkpoint"
EVENTS = "events.jsonl"  # the protocol's, with cluster.record_events=true
LOCK = ".hydra/lock"  # held by the process that trains in the directory

ENCODER = "encoder.json"  # what was fitted on the data, so that the model can be applied

LAST_HOST = "last_host"  # the only column of history.csv that is not a number
ROUND_COLUMNS = (
    *("round", "clock_s", "round_s", "waited", "exact", "decode_error", "grad_norm", "received_bytes"),
    *("lost", "faulty", LAST_HOST),
)
ITERATES, ARRIVED = "iterates.bin", "arrivals.bin"  # in the checkpoint folder, for resuming


class Progress(NamedTuple):
    """The position of a run in its record, as kept in a checkpoint."""

    rounds: int
    clock_s: float
    recorded_s: float
    eval_s: float


def metric_columns(metric: str) -> list[str]:
    """The last columns of history.csv, given the name of the test metric, which may be the loss."""
    return list(dict.fromkeys(["train_loss", "test_loss", f"test_{metric}"]))


def history_columns(metric: str) -> list[str]:
    """The columns of history.csv, given the name of the test metric."""
    return [*ROUND_COLUMNS, *metric_columns(metric)]


def measured_columns(run_dir: Path) -> list[str]:
    """The columns of a run's history.csv that an evaluation fills."""
    with (run_dir / HISTORY).open(newline="") as file:
        return [name for name in next(csv.reader(file)) if name not in ROUND_COLUMNS]


def require_empty(run_dir: Path) -> None:
    """Raises ConfigError unless the run directory is missing or empty."""
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise ConfigError(
            f"hydra.run.dir={run_dir}: must be new or empty, so that no run is overwritten; choose another"
        )


class History:
    """Writes history.csv, one row per round, each flushed at once; metrics may be filled in at the end.

    A resumed run keeps the first `keep` rows. `evaluated` counts the leading rows that have metrics. Only the last row
    is held in memory.
    """

    def __init__(self, run_dir: Path, metric: str, keep: int = 0):
        self.columns = history_columns(metric)
        self._path = run_dir / HISTORY
        rows = kept_rows(run_dir, metric, keep)
        self.count = len(rows)
        self.evaluated = next((i for i, row in enumerate(rows) if "train_loss" not in row), len(rows))
        self.last: dict[str, Any] = rows[-1] if rows else {}
        self._rewrite(rows)
        self._file = self._path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self.columns)

    def append(self, row: dict[str, Any]) -> None:
        """Writes a row; missing columns stay empty."""
        self._writer.writerow(_plain(row))
        self._file.flush()
        self.evaluated += "train_loss" in row and self.evaluated == self.count
        self.count += 1
        self.last = row

    def fill(self, metrics: list[dict[str, float]]) -> None:
        """Adds metrics to the last rows and replaces the file atomically."""
        rows = list(read_history(self._path.parent))
        for row, values in zip(rows[len(rows) - len(metrics) :], metrics, strict=True):
            row |= values
        self._rewrite(rows)
        self.last = rows[-1] if rows else {}

    def sync(self) -> None:
        """Waits until the rows are on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file. What did not fit on a full disk is lost, as already reported."""
        with suppress(OSError):
            self._file.close()

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        with replacing(self._path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(map(_plain, rows))


def read_history(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The complete rows of history.csv, in order. All values but the host are numbers; empty cells are left out."""
    with (run_dir / HISTORY).open(newline="") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            if None in row:
                raise ValueError(f"a row has {len(row[None])} extra cells")
            yield {name: value if name == LAST_HOST else _number(value) for name, value in row.items() if value}


def kept_rows(run_dir: Path, metric: str, keep: int) -> list[dict[str, Any]]:
    """The first `keep` rows. Raises ConfigError if history.csv does not contain them."""
    if not keep:
        return []
    try:
        rows = list(read_history(run_dir))[:keep]
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{run_dir / HISTORY}: cannot be read ({error}); the run cannot be resumed") from None
    needed, known = set(ROUND_COLUMNS), set(history_columns(metric))
    if [row.get("round") for row in rows] != list(range(keep)) or not all(needed <= set(row) <= known for row in rows):
        raise ConfigError(
            f"{run_dir / HISTORY}: does not contain the {keep} rounds of the checkpoint; the run cannot be resumed"
        )
    return rows


class Vectors:
    """Vectors of one length, stored on disk so that memory does not grow with the run.

    They are in the file `path`, of which a resumed run keeps the first `keep` vectors, or in a temporary file if None.
    Raises ConfigError if the file has fewer.
    """

    def __init__(self, path: Path | None, length: int, dtype: np.dtype, keep: int = 0):
        self._length, self._dtype, self.count = length, np.dtype(dtype), keep
        size = keep * length * self._dtype.itemsize
        if path is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in close()
            return
        if (path.stat().st_size if path.exists() else 0) < size:
            raise ConfigError(f"{path}: has fewer rounds than the {keep} of the checkpoint; the run cannot be resumed")
        self._file = path.open("ab+", buffering=0)
        self._file.truncate(size)

    def append(self, vector: Float[np.ndarray, " d"]) -> None:
        """Stores one vector."""
        self._file.write(np.ascontiguousarray(vector, self._dtype).data)
        self.count += 1

    def batches(self, size: int) -> Iterator[Float[np.ndarray, "batch d"]]:
        """All vectors in order, `size` at a time."""
        self._file.seek(0)
        for first in range(0, self.count, size):
            count = min(size, self.count - first)
            yield np.fromfile(self._file, self._dtype, count * self._length).reshape(count, self._length)

    def clear(self) -> None:
        """Removes all vectors."""
        self._file.truncate(0)
        self.count = 0

    def sync(self) -> None:
        """Waits until the vectors are on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` atomically once it is on disk."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # frees its space on a full disk
        raise
    _sync(path.parent)


@contextmanager
def storing(run_dir: Path) -> Iterator[None]:
    """Turns an OSError inside the block into StorageFailed, which names the run directory."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"run directory {run_dir} cannot be written: {error.strerror or error}") from error


@contextmanager
def owned(run_dir: Path) -> Iterator[None]:
    """Holds the lock of the run directory; it is released when the process ends, however it ends.

    Raises ConfigError if another process holds the lock.
    """
    with storing(run_dir):
        lock = (run_dir / LOCK).open("a+")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ConfigError(
                f"hydra.run.dir={run_dir}: is in use by {lock.read().strip() or 'another process'}; "
                "wait until that run has ended, or choose another directory"
            ) from None
        lock.truncate(0)
        with suppress(OSError):  # on a full disk the lock does not name its owner
            os.write(lock.fileno(), f"process {os.getpid()} on {platform.node()}".encode())  # nothing left to flush
        yield


def write_json(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Writes a JSON file atomically. Returns the values as a reader will see them.

    Infinite and undefined numbers become null.
    """
    plain = _jsonable(values)
    with replacing(path) as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n")
    return plain


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a .npz file atomically."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _number(value: str) -> int | float:
    return int(value) if value.isdecimal() else float(value)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: int(value) if isinstance(value, bool | np.bool_) else value for name, value in row.items()}


def _jsonable(value: Any) -> Any:
    if hasattr(value, "_asdict"):  # a NamedTuple
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
