"""Recorded times in CSV tables as people have them: long (a row a worker and round) or wide (a column a worker)."""

import re
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from erasurehead_jax.data.frames import category_names, column_numbers
from erasurehead_jax.errors import ConfigError

# Words in the names of columns, the best first.
WORKER = ("worker", "rank", "node", "host", "machine", "executor", "process", "client", "device")
ROUND = ("iteration", "iter", "round", "step", "batch", "epoch", "index", "unnamed: 0")
TIME = ("seconds", "second", "sec", "duration", "elapsed", "latency", "runtime", "time", "s", "ms", "us", "ns")
DATE = ("timestamp", "date", "datetime")
NORMALISED = "normalised"
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, NORMALISED: 1.0}
UNIT_NAMES = {
    "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns", "minutes": "min", "mins": "min", "hours": "h",
}  # fmt: skip
UNIT_NAMES |= {unit: unit for unit in UNITS}
NAMED = 8  # workers that a note names
TWICE = 0.1  # the largest share of rows that may have a worker and round which an earlier row had


class Columns(NamedTuple):
    """What the columns of a long table are taken for, and the unit of time."""

    worker: str
    round: str | None  # None: the rows of a worker are numbered
    time: str
    unit: str


class Table(NamedTuple):
    """The times of a table in the unit of the file, nan where missing, and how it was understood."""

    times: Float[np.ndarray, "rounds workers"]
    workers: list[str]
    unit: str
    notes: list[str]


def read_table(frame: Any, field: str, unit: str | None) -> Table:
    """The times in a DataFrame. `unit` overrides the one in its names. Raises ConfigError if there are none."""
    frame = frame.drop(columns=[name for name in frame.columns if _rank(name, DATE) is not None])
    if len(frame.columns) == 1 and re.search(r"[;\t|]", str(frame.columns[0])):
        raise ConfigError(f"{field}: has a single column, {frame.columns[0]!r}; columns must be separated by commas")
    if len(frame.columns) and all(re.fullmatch(r"-?\d*\.\d+", str(name)) for name in frame.columns):
        raise ConfigError(f"{field}: has numbers in place of a header; the first line must name the columns")
    if numbered := _numbered(list(frame.columns)):
        return _wide(frame, numbered, field, unit)
    if (columns := long_columns(frame, field)) is None:
        return _wide(frame, [name for name in frame.columns if _rank(name, ROUND) is None], field, unit)
    return _long(frame, columns, unit)


def _numbered(names: list[str]) -> list[str]:
    """Columns that differ in a number only, such as worker_0 and worker_1: a column each."""
    stems: dict[str, list[str]] = {}
    for name in names:
        if re.search(r"\d", name):
            stems.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    most = max(stems.values(), key=len, default=[])
    return most if len(most) > 1 and 2 * len(most) > len(names) else []


def _wide(frame: Any, names: list[str], field: str, unit: str | None) -> Table:
    if not names:
        raise ConfigError(f"{field}: has no column that can be times; looked for a column a worker, or {_looked_for()}")
    times = np.stack([column_numbers(frame[name], name) for name in names], axis=1)
    worker = _first([name for name in frame.columns if name not in names], WORKER)
    if worker is not None and _rank(names[0], ROUND) is not None:  # a row a worker, and a column a round
        own = [str(name) for name in category_names(frame[worker])]
        note = f"a table with a row for each of {len(own)} workers, by column {worker}, and a column for each round"
        return _in_order(Table(times.T, own, unit or "s", [note, _about_unit("times", unit, None)]))
    note = f"a wide table: a row a round, and a column for each of {len(names)} workers"
    return Table(times, names, unit or "s", [note, _about_unit("times", unit, None)])


def _long(frame: Any, columns: Columns, unit: str | None) -> Table:
    frame = frame[frame[columns.worker].notna()]
    named, counted, time, found = columns
    workers = category_names(frame[named])
    rounds = frame.groupby(named).cumcount() if counted is None else frame[counted]
    table = frame.assign(_worker=workers, _round=rounds, _value=column_numbers(frame[time], time))
    notes = [f"a long table: worker in column {named}, round in {counted or 'the order of the rows'}, time in {time}"]
    notes.append(_about_unit(f"column {time}", unit, found))
    twice = int(table.duplicated(["_worker", "_round"]).sum())
    if twice:
        notes.append(f"{twice} times a worker is there twice in a round: its later answer, the larger time, was taken")
        table = table.groupby(["_round", "_worker"], as_index=False)["_value"].max()
    wide = table.pivot(index="_round", columns="_worker", values="_value")
    wide = wide.loc[sorted(wide.index, key=_natural)]
    return _in_order(Table(wide.to_numpy(float), [str(name) for name in wide.columns], unit or found, notes))


def _in_order(table: Table) -> Table:
    """With workers in the order of their names, node-2 before node-10, and a note if these are no numbers from 0."""
    order = sorted(range(len(table.workers)), key=lambda j: _natural(table.workers[j]))
    names = [table.workers[j] for j in order]
    notes = list(table.notes)
    if names != [str(j) for j in range(len(names))]:
        some = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
        notes.append(f"workers are numbered from 0 in this order: {some}")
    return table._replace(times=table.times[:, order], workers=names, notes=notes)


def _natural(name: Any) -> Any:
    """A key that sorts numbers by value, also within text."""
    if isinstance(name, (int, float, np.number)):
        return [(True, float(name), "")]
    parts = re.split(r"(\d+)", str(name))
    return [(part.isdigit(), float(part) if part.isdigit() else 0.0, part) for part in parts if part]


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
    timed = [name for name in frame.columns if _rank(name, TIME) is not None]
    worker = _first([name for name in frame.columns if name not in timed], WORKER)
    if worker is None or (not timed and frame[worker].nunique() == len(frame)):
        return None
    others = [name for name in frame.columns if name != worker]
    per_worker = int(frame.groupby(worker).size().max())
    counting = [
        name
        for name in others
        if frame[name].nunique() <= 1.1 * per_worker and frame.duplicated([worker, name]).mean() <= TWICE
    ]
    round_ = _first(counting, ROUND) or (_first(counting, TIME) if len(timed) > 1 else None)
    left = [name for name in others if name != round_]
    time = _first([name for name in left if frame[name].dtype.kind in "fiu"], TIME) or _first(left, TIME)
    if time is None:
        raise ConfigError(
            f"{field}: has no column that can be times, beside worker={worker} and round={round_}; looked for "
            f"{_looked_for()}"
        )
    words = _words(time)
    units = [UNIT_NAMES[word] for word in words if word in UNIT_NAMES]
    unit = NORMALISED if any(word.startswith("norm") for word in words) else next(reversed(units), "s")
    return Columns(worker, round_, time, unit)


def _looked_for() -> str:
    return f"numbers under a name with one of {', '.join(TIME[:8])}"


def _first(names: Any, words: tuple[str, ...]) -> str | None:
    """The name with the best of these words; None if none has any."""
    ranked = [(rank, name) for name in names if (rank := _rank(name, words)) is not None]
    return min(ranked)[1] if ranked else None


def _rank(name: str, words: tuple[str, ...]) -> int | None:
    parts = {*_words(name), name.lower()}
    return next((i for i, word in enumerate(words) if word in parts or f"{word}s" in parts), None)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.lower()) or [name]
