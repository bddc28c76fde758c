"""Data in a table of one's own: a CSV or Parquet file, or a pandas DataFrame."""

import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from erasurehead_jax.data.check import NUMBERS
from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.data.frames import column_numbers, is_numeric, nth, read_frame
from erasurehead_jax.data.prepared import prepared
from erasurehead_jax.data.split import require_limit, require_split, split
from erasurehead_jax.data.table_encoder import Roles, fit_table
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.settings import nearest

NAME = "table"
Named = Sequence[str] | None


def table(
    path: str,
    target: str,
    categorical: Sequence[str] | None = None,
    numeric: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    test_path: str | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    limit_rows: int | None = None,
    min_frequency: int = 5,
) -> Dataset:
    """The rows of a CSV (also .gz, .xz, .zst) or Parquet file, as `table_dataset` has them; kept in the prepared cache.

    `test_path` is a file of test rows; without one, a share of the rows is split off. `limit_rows` reads only the first
    rows of each file. Raises ConfigError as `table_dataset` does and for files that cannot be read.
    """
    require_limit(limit_rows)
    settings: dict[str, Any] = {"categorical": categorical, "numeric": numeric, "drop": drop}
    settings |= {"test_share": test_share, "split_seed": split_seed, "min_frequency": min_frequency}

    def make() -> Dataset:
        frame = read_frame(path, limit_rows)
        test = None if test_path is None else read_frame(test_path, limit_rows, "data.test_path")
        return _dataset(frame, target, test, f"data.test_path={test_path}", **settings)

    files = {"data.path": path, "data.test_path": test_path}
    return prepared(NAME, files, settings | {"target": target, "limit_rows": limit_rows}, make)


def table_dataset(
    frame: Any,
    target: str,
    *,
    test: Any = None,
    categorical: Sequence[str] | None = None,
    numeric: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    min_frequency: int = 5,
) -> Dataset:
    """The rows of a pandas DataFrame and, from another one or split off, test rows.

    Text and booleans are categories and numbers are numbers, unless `categorical` or `numeric` name the column.
    Numbers are standardised, with the median where they are missing. Categories are one-hot; a missing value is one
    too, and those in fewer than `min_frequency` training rows share a column with those never seen. What that takes is
    learned from the training rows alone, and is the data set's `encoder`. The targets stay as they are.

    Raises ConfigError for a target or a column that cannot be used, naming the row where there is one.
    """
    settings: dict[str, Any] = {"categorical": categorical, "numeric": numeric, "drop": drop}
    settings |= {"test_share": test_share, "split_seed": split_seed, "min_frequency": min_frequency}
    return _dataset(frame, target, test, "test rows", **settings)


def _dataset(
    frame: Any,
    target: str,
    test: Any,
    test_name: str,  # for messages about `test`
    *,
    categorical: Named,
    numeric: Named,
    drop: Named,
    test_share: float,
    split_seed: int,
    min_frequency: int,
) -> Dataset:
    require_whole("data.min_frequency", min_frequency, 1)
    require_split(test_share, split_seed)
    frame = frame.rename(columns=str)
    target, values = str(target), _targets(frame, str(target))
    roles = _roles(frame, target, categorical, numeric, drop)
    if test is None:
        train_rows, test_rows = split(NAME, values, test_share, split_seed)
        encoder = fit_table(frame.iloc[train_rows], target, roles, min_frequency)
        parts = ((frame.iloc[rows], values[rows]) for rows in (train_rows, test_rows))
        train, test = (Rows(encoder.encoded(part)[0], values) for part, values in parts)
        return Dataset(NAME, train, test, encoder=encoder)
    encoder = fit_table(frame, target, roles, min_frequency)
    try:
        test_values = _test_targets(test.rename(columns=str), target)
        features, warned = encoder.encoded(test)
    except ConfigError as error:
        raise ConfigError(f"{test_name}: {error}") from None
    for line in warned:
        sys.stderr.write(f"warning: {test_name}: {line}\n")
    return Dataset(NAME, Rows(encoder.encoded(frame)[0], values), Rows(features, test_values), encoder=encoder)


def _targets(frame: Any, target: str) -> Shaped[np.ndarray, " m"]:
    """The column of targets: text, booleans or numbers. Raises ConfigError for one that cannot be used."""
    if target not in frame.columns:
        hint = nearest(target, frame.columns)
        only = "; the columns must be separated by commas" if len(frame.columns) == 1 else ""
        raise ConfigError(f"data.target={target}: no such column; {hint}{only}")
    values = _known(frame[target], f"data.target={target}")
    if (column := frame[target]).nunique() == 1:
        raise ConfigError(
            f"data.target={target}: all {len(column)} values are {column.iloc[0]}; must differ, or there is nothing "
            "to learn"
        )
    return values


def _test_targets(test: Any, target: str) -> Shaped[np.ndarray, " m"]:
    if target not in test.columns:
        raise ConfigError(f"has no column {target}; must have the target too")
    return _known(test[target], f"column {target}")


def _known(column: Any, name: str) -> Shaped[np.ndarray, " m"]:
    """The values of a column. Raises ConfigError if any is missing."""
    if (missing := np.asarray(column.isna())).any():
        raise ConfigError(
            f"{name}: {nth(int(np.argmax(missing)))} is missing ({missing.sum()} of {len(column)} are); must be known: "
            "remove such rows"
        )
    values = column.to_numpy()
    return values if values.dtype.kind in NUMBERS else values.astype(object).astype(str)


def _roles(frame: Any, target: str, categorical: Named, numeric: Named, drop: Named) -> Roles:
    """What each column other than the target is. Raises ConfigError for names and for columns that cannot be used."""
    names = [name for name in frame.columns if name != target]
    given = {"categorical": categorical, "numeric": numeric, "drop": drop}
    roles: dict[str, str] = {}
    for role, columns in given.items():
        for name in map(str, columns or ()):
            if name not in names:
                why = "is the target" if name == target else f"no such column; {nearest(name, names)}"
                raise ConfigError(f"data.{role}: {name}: {why}")
            if roles.setdefault(name, role) != role:
                raise ConfigError(f"data.{role}: {name}: is also in data.{roles[name]}; must be in one of them")
    for name in names:
        if name not in roles:
            roles[name] = "numeric" if is_numeric(frame[name], name) else "categorical"
            _warn_of_identifiers(frame[name], name, roles[name] == "numeric")
        if roles[name] == "numeric":
            column_numbers(frame[name], name)
    found = Roles(*([name for name in names if roles[name] == role] for role in ("drop", "numeric", "categorical")))
    if not found.numeric and not found.categorical:
        raise ConfigError(f"data.target={target}: is the only column; must have others to predict it from")
    return found


def _warn_of_identifiers(column: Any, name: str, numeric: bool) -> None:
    if numeric and (re.fullmatch(r"Unnamed: \d+", name) or _enumerates(column_numbers(column, name))):
        why = "numbers the rows, which says nothing about others"
    elif not numeric and column.nunique() == len(column):
        why = "every row has a value of its own, which says nothing as a category"
    else:
        return
    simple = re.fullmatch(r"\w+", name)
    drop = f"data.drop=[{name}]" if simple else shlex.quote(f'data.drop=["{name}"]')
    sys.stderr.write(f"warning: column {name}: {why}; leave it out with {drop}\n")


def _enumerates(values: Float[np.ndarray, " m"]) -> bool:
    """Whether these are different whole numbers, ascending or without gaps in between, as identifiers are."""
    steps, ordered = np.diff(values), np.diff(np.sort(values))
    whole = len(values) > 2 and bool((values == np.floor(values)).all())
    return whole and bool((ordered > 0).all() and ((steps > 0).all() or (ordered == ordered[0]).all()))
