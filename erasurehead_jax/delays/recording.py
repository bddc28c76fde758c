"""Recorded times of workers in files: arrays (.npz, .npy), and CSV tables as people have them."""

import re
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from erasurehead_jax.data.frames import CSV, column_numbers, read_frame
from erasurehead_jax.errors import ConfigError

INCOMPLETE = 0.1  # the largest fraction of a recording's rounds that may be dropped because a time is missing
# Words in the names of columns, the best first.
WORKER = ("worker", "rank", "node", "host", "machine", "executor", "process", "client", "device")
ROUND = ("iteration", "iter", "round", "step", "batch", "epoch", "index", "unnamed: 0")
TIME = ("seconds", "second", "sec", "duration", "elapsed", "latency", "runtime", "time", "s", "ms", "us", "ns")
UNITS = {"ms": 1e-3, "milliseconds": 1e-3, "us": 1e-6, "microseconds": 1e-6, "ns": 1e-9, "nanoseconds": 1e-9}


class Columns(NamedTuple):
    """What the columns of a long table are taken for, and the seconds in a unit of time."""

    worker: str
    round: str | None  # None: the rows of a worker are numbered
    time: str
    unit_s: float


def read_times(path: str, setting: str) -> Float[np.ndarray, "rounds workers"]:
    """The times (s) in float32, without incomplete rounds.

    Raises ConfigError, naming `setting`, if the file is no recording, or if more than one round in ten is incomplete.
    """
    field = f"{setting}={path}"
    if path.endswith(CSV):
        recorded = _times_in_table(read_frame(Path(path).expanduser(), field=setting), field)
    else:
        recorded = _times_in_arrays(path, field)
    if recorded.ndim != 2 or not recorded.size or recorded.dtype.kind not in "fiu":
        raise ConfigError(f"{field}: times must be numbers (rounds, workers), not {recorded.dtype} {recorded.shape}")
    if (recorded < 0).any() or (recorded > np.finfo(np.float32).max).any():
        raise ConfigError(f"{field}: times must be finite and not negative")
    incomplete = np.isnan(recorded).any(1)
    if incomplete.mean() > INCOMPLETE:
        raise ConfigError(
            f"{field}: {incomplete.sum()} of {len(recorded)} rounds have missing times (nan: the answer was not "
            "used); record a run that waits for all workers (scheme=uncoded)"
        )
    return recorded[~incomplete].astype(np.float32)


def _times_in_arrays(path: str, field: str) -> np.ndarray:
    try:
        with Path(path).expanduser().open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            arrays = {"times_s": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        if "times_s" not in arrays:  # arrivals.npz of a run: one column per message; a worker's last message counts
            arrival_s, owner, workers = (arrays[name] for name in ("arrival_s", "owner", "workers"))
            arrays["times_s"] = np.stack([arrival_s[:, owner == j].max(1) for j in range(int(workers))], axis=1)
        return np.asarray(arrays["times_s"])
    except KeyError as error:
        raise ConfigError(
            f"{field}: has no array {error}; must have times_s, or arrival_s, owner and workers"
        ) from error
    except (OSError, EOFError, ValueError, TypeError, IndexError, BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy takes unknown bytes for a pickle and suggests loading it unsafely
            reason = "it contains no numeric arrays; write it with np.savez(FILE, times_s=np.array(times, float))"
        raise ConfigError(f"{field}: cannot be read as a recording ({reason})") from error


def _times_in_table(frame: Any, field: str) -> Float[np.ndarray, "rounds workers"]:
    """The times (s) of a long table (a row a worker and round) or a wide one (a column a worker)."""
    if (columns := long_columns(frame, field)) is None:
        wide = [name for name in frame.columns if _rank(name, ROUND) is None]
        return np.stack([column_numbers(frame[name], name) for name in wide], axis=1)
    values = column_numbers(frame[columns.time], columns.time) * columns.unit_s
    workers = frame[columns.worker]
    rounds = workers.groupby(workers).cumcount() if columns.round is None else frame[columns.round]
    table = frame.assign(_worker=workers, _round=rounds, _value=values)
    return table.pivot(index="_round", columns="_worker", values="_value").to_numpy(float)


def long_columns(frame: Any, field: str) -> Columns | None:
    """What the columns of a long table mean, by name and content; None for a wide table.

    A column of rounds has no value twice for a worker, and as many values as a worker has rows. Raises ConfigError if
    none can be the times.
    """
    worker = _first(frame.columns, WORKER)
    if worker is None or frame[worker].nunique() == len(frame):
        return None
    others = [name for name in frame.columns if name != worker]
    per_worker = int(frame.groupby(worker).size().max())
    counting = [
        name
        for name in others
        if frame[name].nunique() <= 1.1 * per_worker and not frame.duplicated([worker, name]).to_numpy().any()
    ]
    round_ = _first(counting, (*ROUND, *TIME))
    left = [name for name in others if name != round_]
    time = _first([name for name in left if frame[name].dtype.kind in "fiu"], TIME) or _first(left, TIME)
    if time is None:
        looked = ", ".join(TIME[:8])
        raise ConfigError(
            f"{field}: has no column that can be times, beside worker={worker} and round={round_}; looked for numbers "
            f"under a name with one of {looked}"
        )
    return Columns(worker, round_, time, UNITS.get(_words(time)[-1], 1.0))


def _first(names: Any, words: tuple[str, ...]) -> str | None:
    """The name with the best of these words; None if none has any."""
    ranked = [(rank, name) for name in names if (rank := _rank(name, words)) is not None]
    return min(ranked)[1] if ranked else None


def _rank(name: str, words: tuple[str, ...]) -> int | None:
    parts = {*_words(name), name.lower()}
    return next((i for i, word in enumerate(words) if word in parts or f"{word}s" in parts), None)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.lower()) or [name]
