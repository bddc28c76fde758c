"""Recorded times of workers in files: arrays (.npz, .npy), and CSV tables as people have them."""

import math
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from erasurehead_jax.data.frames import CSV, read_frame
from erasurehead_jax.delays.recorded_tables import NORMALISED as NORMALISED, UNITS, read_table
from erasurehead_jax.errors import ConfigError, require_choice

INCOMPLETE = 0.1  # the largest fraction of a recording's rounds that may be dropped because a time is missing
DATES_S = 1e8  # times from three years on are dates


class Recording(NamedTuple):
    """Recorded times of workers, as they are. nan: the recording has no time for this worker and round."""

    times_s: Float[np.ndarray, "rounds workers"]
    workers: list[str]
    unit: str  # of the file: one of UNITS
    load: float | None  # fraction of the data that each worker processed; None: not recorded
    notes: list[str]  # how the file was understood, a line each
    path: str = ""
    unused: bool = False  # nan is an answer of a run that was not used: it came late, or never

    @property
    def held(self) -> float:
        """The fraction of the data that a worker processed; if it was not recorded, one block each."""
        return 1 / len(self.workers) if self.load is None else self.load


def read_recording(path: str | Path, setting: str = "FILE", unit: str | None = None) -> Recording:
    """The times in a file: .npz, .npy or a run's arrivals.npz, or a long or wide CSV table.

    `unit` overrides the one in the names of columns. Raises ConfigError, naming `setting`, if the file is no recording.
    """
    path = str(path)
    field = f"{setting}={path}"
    if unit is not None:
        require_choice("unit", unit, UNITS)
    if path.lower().endswith(CSV):
        table = read_table(read_frame(Path(path).expanduser(), field=setting), field, unit)
        found = Recording(table.times, table.workers, table.unit, None, table.notes)
    else:
        found = _read_arrays(path, field, unit or "s")
    times = found.times_s
    if times.ndim != 2 or not times.size or times.dtype.kind not in "fiu":
        raise ConfigError(f"{field}: times must be numbers (rounds, workers), not {times.dtype} {times.shape}")
    if (times < 0).any() or (times > np.finfo(np.float32).max).any():
        raise ConfigError(f"{field}: times must be finite and not negative")
    if path.lower().endswith(CSV) and (np.nan_to_num(times) * UNITS[found.unit] > DATES_S).any():
        raise ConfigError(f"{field}: times of more than {DATES_S:.0e} s look like dates; must be durations")
    some = ~np.isnan(times).all(1)
    if not some.any():
        raise ConfigError(f"{field}: all times are missing")
    empty = int((~some).sum())
    notes = [*found.notes, *([f"{empty} rounds without any time are left out"] if empty else [])]
    return found._replace(times_s=times[some] * UNITS[found.unit], notes=notes, path=path)


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
        unused = "times_s" not in arrays
        if unused:  # arrivals.npz of a run: one column per message; a worker's last message counts
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
    return Recording(times, names, unit, None if math.isnan(load) else load, [], unused=unused)
