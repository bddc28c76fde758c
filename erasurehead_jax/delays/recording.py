"""Recorded times of workers in files: arrays (.npz, .npy), and CSV tables as people have them."""

import math
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
NORMALISED = "normalised"
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, NORMALISED: 1.0}
UNIT_NAMES = {**{name: name for name in UNITS}, "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
TWICE = 0.1  # the largest share of rows that may have a worker and round which an earlier row had


class Columns(NamedTuple):
    """What the columns of a long table are taken for, and the unit of time."""

    worker: str
    round: str | None  # None: the rows of a worker are numbered
    time: str
    unit: str


class Recording(NamedTuple):
    """Recorded times of workers, as they are. nan: the recording has no time for this worker and round."""

    times_s: Float[np.ndarray, "rounds workers"]
    workers: list[str]
    unit: str  # of the file: s, ms, us, ns, or normalised
    load: float | None  # fraction of the data that each worker processed; None: not recorded
    notes: list[str]  # how the file was understood, a line each
    path: str = ""


def read_recording(path: str, setting: str = "trace", unit: str | None = None) -> Recording:
    """The times in a file: .npz, .npy or a run's arrivals.npz, or a long or wide CSV table.

    `unit` overrides the one in the names of columns. Raises ConfigError, naming `setting`, if the file is no recording.
    """
    field = f"{setting}={path}"
    if path.endswith(CSV):
        found = _read_table(read_frame(Path(path).expanduser(), field=setting), field, unit)
    else:
        found = _read_arrays(path, field, unit or "s")
    times = found.times_s
    if times.ndim != 2 or not times.size or times.dtype.kind not in "fiu":
        raise ConfigError(f"{field}: times must be numbers (rounds, workers), not {times.dtype} {times.shape}")
    if (times < 0).any() or (times > np.finfo(np.float32).max).any():
        raise ConfigError(f"{field}: times must be finite and not negative")
    return found._replace(times_s=times * UNITS[found.unit], path=path)


def read_times(path: str, setting: str, deaths: bool = False) -> Float[np.ndarray, "rounds workers"]:
    """The times (s) in float32, without incomplete rounds.

    With `deaths`, a worker without any more times has an infinite one from then on. Raises ConfigError, naming
    `setting`, if the file is no recording, or if more than one round in ten is incomplete.
    """
    recorded = read_recording(path, setting).times_s
    if deaths:
        ended = np.logical_and.accumulate(np.isnan(recorded)[::-1], axis=0)[::-1]
        recorded = np.where(ended, np.inf, recorded)
    incomplete = np.isnan(recorded).any(1)
    if incomplete.mean() > INCOMPLETE:
        raise ConfigError(
            f"{setting}={path}: {incomplete.sum()} of {len(recorded)} rounds have missing times (nan: the answer was "
            "not used); record a run that waits for all workers (scheme=uncoded)"
        )
    return recorded[~incomplete].astype(np.float32)


def _read_arrays(path: str, field: str, unit: str) -> Recording:
    try:
        with Path(path).expanduser().open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            arrays = {"times_s": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        if "times_s" not in arrays:  # arrivals.npz of a run: one column per message; a worker's last message counts
            arrival_s, owner, workers = (arrays[name] for name in ("arrival_s", "owner", "workers"))
            arrays["times_s"] = np.stack([arrival_s[:, owner == j].max(1) for j in range(int(workers))], axis=1)
        times = np.asarray(arrays["times_s"])
        load = arrays.get("load", np.array(math.nan))
        load = float(load) if load.ndim == 0 else math.nan
    except KeyError as error:
        raise ConfigError(
            f"{field}: has no array {error}; must have times_s, or arrival_s, owner and workers"
        ) from error
    except (OSError, EOFError, ValueError, TypeError, IndexError, BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy takes unknown bytes for a pickle and suggests loading it unsafely
            reason = "it contains no numeric arrays; write it with np.savez(FILE, times_s=np.array(times, float))"
        raise ConfigError(f"{field}: cannot be read as a recording ({reason})") from error
    names = [str(j) for j in range(times.shape[1])] if times.ndim == 2 else []
    return Recording(times, names, unit, None if math.isnan(load) else load, [])


def _read_table(frame: Any, field: str, unit: str | None) -> Recording:
    """The times of a long table (a row a worker and round) or a wide one (a column a worker)."""
    if (columns := long_columns(frame, field)) is None:
        wide = [name for name in frame.columns if _rank(name, ROUND) is None]
        times = np.stack([column_numbers(frame[name], name) for name in wide], axis=1)
        note = f"a wide table: a row a round, and a column for each of {len(wide)} workers"
        return Recording(times, wide, unit or "s", None, [note, _about_unit("times", unit, None)])
    workers, (named, counted, time, found) = frame[columns.worker], columns
    rounds = workers.groupby(workers).cumcount() if counted is None else frame[counted]
    table = frame.assign(_worker=workers, _round=rounds, _value=column_numbers(frame[time], time))
    notes = [f"a long table: worker in column {named}, round in {counted or 'the order of the rows'}, time in {time}"]
    notes.append(_about_unit(f"column {time}", unit, found))
    twice = int(table.duplicated(["_worker", "_round"]).sum())
    if twice:
        notes.append(f"{twice} times a worker is there twice in a round: its later answer, the larger time, was taken")
        table = table.groupby(["_round", "_worker"], as_index=False)["_value"].max()
    wide = table.pivot(index="_round", columns="_worker", values="_value")
    return Recording(wide.to_numpy(float), [str(name) for name in wide.columns], unit or found, None, notes)


def _about_unit(what: str, given: str | None, found: str | None) -> str:
    if given is not None:
        return f"{what}: in {given}, as given"
    if found == NORMALISED:
        return f"{what}: normalised, by its name, and not seconds; ratios hold, seconds do not"
    return f"{what}: in {found}, by its name" if found not in (None, "s") else f"{what}: taken for seconds"


def long_columns(frame: Any, field: str) -> Columns | None:
    """What the columns of a long table mean, by name and content; None for a wide table.

    A column of rounds has hardly a value twice for a worker, and as many values as a worker has rows. Raises
    ConfigError if none can be the times.
    """
    worker = _first(frame.columns, WORKER)
    if worker is None or frame[worker].nunique() == len(frame):
        return None
    others = [name for name in frame.columns if name != worker]
    per_worker = int(frame.groupby(worker).size().max())
    counting = [
        name
        for name in others
        if frame[name].nunique() <= 1.1 * per_worker and frame.duplicated([worker, name]).mean() <= TWICE
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
    words = _words(time)
    unit = NORMALISED if any(word.startswith("norm") for word in words) else UNIT_NAMES.get(words[-1], "s")
    return Columns(worker, round_, time, unit)


def _first(names: Any, words: tuple[str, ...]) -> str | None:
    """The name with the best of these words; None if none has any."""
    ranked = [(rank, name) for name in names if (rank := _rank(name, words)) is not None]
    return min(ranked)[1] if ranked else None


def _rank(name: str, words: tuple[str, ...]) -> int | None:
    parts = {*_words(name), name.lower()}
    return next((i for i, word in enumerate(words) if word in parts or f"{word}s" in parts), None)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.lower()) or [name]
