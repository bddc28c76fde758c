"""The run directory: what a run leaves behind, and what the progress bar and the report read."""

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
EVENTS = "events.jsonl"  # of the protocol, with cluster.record_events=true
LOCK = ".hydra/lock"  # held by the process that trains in the directory

LAST_HOST = "last_host"  # the column of history.csv that is no number
ITERATES, ARRIVED = "iterates.bin", "arrivals.bin"  # in the folder of a run that may be resumed


class Progress(NamedTuple):
    """Where a run is: what a checkpoint keeps of the record, beside the files that the record itself writes."""

    rounds: int
    clock_s: float
    recorded_s: float
    eval_s: float


def history_columns(metric: str) -> list[str]:
    """The columns of history.csv; `metric` is auc or mse."""
    clock = ["round", "clock_s", "round_s", "waited", "exact", "decode_error", "grad_norm", "received_bytes"]
    return [*clock, "lost", "faulty", LAST_HOST, "train_loss", "test_loss", f"test_{metric}"]


def require_empty(run_dir: Path) -> None:
    """Raises ConfigError if the run directory has anything in it."""
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise ConfigError(
            f"hydra.run.dir={run_dir}: must be new or empty, so that no run is overwritten; choose another"
        )


class History:
    """Rows of history.csv, one a round, flushed as they come; metrics may be filled in at the end.

    A resumed run keeps the first `keep` rows. `evaluated` counts the leading rows that have their metrics. Nothing but
    the last row is held in memory.
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
        """Writes a row; columns it lacks stay empty."""
        self._writer.writerow(_plain(row))
        self._file.flush()
        self.evaluated += "train_loss" in row and self.evaluated == self.count
        self.count += 1
        self.last = row

    def fill(self, metrics: list[dict[str, float]]) -> None:
        """Adds the metrics of the last rows and rewrites the file in one step."""
        rows = list(read_history(self._path.parent))
        for row, values in zip(rows[len(rows) - len(metrics) :], metrics, strict=True):
            row |= values
        self._rewrite(rows)
        self.last = rows[-1] if rows else {}

    def sync(self) -> None:
        """Waits until the rows are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file. What a full disk did not take is lost, as has been reported."""
        with suppress(OSError):
            self._file.close()

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        with replacing(self._path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(map(_plain, rows))


def read_history(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The whole rows of history.csv in order, numbers but for the host; what a row does not have yet is not in it."""
    with (run_dir / HISTORY).open(newline="") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            if None in row:
                raise ValueError(f"a row has {len(row[None])} extra cells")
            yield {name: value if name == LAST_HOST else _number(value) for name, value in row.items() if value}


def kept_rows(run_dir: Path, metric: str, keep: int) -> list[dict[str, Any]]:
    """The first `keep` rows. Raises ConfigError if history.csv does not have them."""
    if not keep:
        return []
    try:
        rows = list(read_history(run_dir))[:keep]
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{run_dir / HISTORY}: cannot be read ({error}); the run cannot be resumed") from None
    needed = set(history_columns(metric)[:-3])
    if [row.get("round") for row in rows] != list(range(keep)) or not all(needed <= set(row) for row in rows):
        raise ConfigError(
            f"{run_dir / HISTORY}: does not contain the {keep} rounds of the checkpoint; the run cannot be resumed"
        )
    return rows


class Vectors:
    """Vectors of one length kept on disk, so that memory stays flat however long the run is.

    In the file `path`, of which a resumed run keeps the first `keep`; in one that vanishes with the process if None.
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
        """Keeps one vector."""
        self._file.write(np.ascontiguousarray(vector, self._dtype).data)
        self.count += 1

    def batches(self, size: int) -> Iterator[Float[np.ndarray, "batch d"]]:
        """All vectors in order, `size` at a time."""
        self._file.seek(0)
        for first in range(0, self.count, size):
            count = min(size, self.count - first)
            yield np.fromfile(self._file, self._dtype, count * self._length).reshape(count, self._length)

    def clear(self) -> None:
        """Forgets all vectors."""
        self._file.truncate(0)
        self.count = 0

    def sync(self) -> None:
        """Waits until the vectors are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, which takes the place of `path` once it is on the disk: all of it or nothing."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # on a full disk it is in the way
        raise
    _sync(path.parent)


@contextmanager
def storing(run_dir: Path) -> Iterator[None]:
    """Raises StorageFailed, which names the run directory, where what is done inside raises OSError."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"run directory {run_dir} cannot be written: {error.strerror or error}") from error


@contextmanager
def owned(run_dir: Path) -> Iterator[None]:
    """Nobody else trains in this directory meanwhile. The lock goes with the process, however it ends.

    Raises ConfigError if another process holds it.
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
        with suppress(OSError):  # on a full disk the owner is not named
            lock.write(f"process {os.getpid()} on {platform.node()}")
            lock.flush()
        yield


def write_json(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """In one step, so that a reader never sees half a file; returns what a reader sees.

    Infinite and undefined numbers become null.
    """
    plain = _jsonable(values)
    with replacing(path) as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n")
    return plain


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """A .npz in one step."""
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
