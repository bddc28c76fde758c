"""Tables as pandas DataFrames: read from files, and their columns as numbers or as names of categories."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from erasurehead_jax.errors import ConfigError

CSV = (".csv", ".csv.gz", ".csv.xz", ".csv.zst")
PARQUET = ".parquet"
MOSTLY = 0.5  # text with more numbers than this share is a mistake in a column of numbers


def read_frame(path: str | Path, limit_rows: int | None = None, field: str = "data.path") -> Any:
    """The table in a CSV or Parquet file as a DataFrame. Raises ConfigError, naming `field`, if it cannot be read."""
    import pandas as pd

    path = Path(path)
    require_file(path, (*CSV, PARQUET), field)
    if path.name.endswith(PARQUET) and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"{field}={path}: needs the package pyarrow; pip install 'erasurehead-jax[parquet]'")
    try:
        if path.name.endswith(PARQUET):
            frame = pd.read_parquet(path, engine="pyarrow")
            frame = frame if limit_rows is None else frame.iloc[:limit_rows]
        else:
            frame = pd.read_csv(path, nrows=limit_rows, low_memory=False)
    except Exception as error:  # pandas, pyarrow and the decompressors raise errors of their own
        raise unreadable(field, path, error) from None
    if not len(frame):
        raise ConfigError(f"{field}={path}: has no rows; must have a header and rows")
    return frame.rename(columns=str)


def require_file(path: Path, endings: tuple[str, ...], field: str) -> None:
    """Raises ConfigError unless the path is a file that is not empty and has one of the endings."""
    if not path.is_file():
        raise ConfigError(f"{field}={path}: {'is not a file' if path.exists() else 'no such file'}")
    if endings and not path.name.lower().endswith(endings):
        raise ConfigError(
            f"{field}={path}: must end in {' or '.join([*filter(None, [', '.join(endings[:-1])]), endings[-1]])}"
        )
    if not path.stat().st_size:
        raise ConfigError(f"{field}={path}: is empty")


def unreadable(field: str, path: Path, error: Exception) -> ConfigError:
    """The error that says why a file cannot be read."""
    why = " ".join(str(error).split()) or type(error).__name__
    return ConfigError(f"{field}={path}: cannot be read ({why}); is it damaged?")


def is_numeric(column: Any, name: str) -> bool:
    """Whether a column holds numbers; otherwise it holds names of categories.

    Raises ConfigError for dates and the like, and for numbers with some text between them, naming the row.
    """
    import pandas as pd

    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "empty":
        return True
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return True
    if kind in ("boolean", "categorical"):
        return False
    if kind not in ("string", "mixed", "mixed-integer"):
        raise ConfigError(f"column {name}: holds {kind} values; must be text, true or false, or numbers: drop it")
    known = column.notna()
    numbers = _parsed(column[known]).notna()
    if MOSTLY < numbers.mean() < 1:
        row = int(np.flatnonzero(known)[int(np.argmin(numbers))])
        raise ConfigError(
            f"column {name}, {nth(row)}: {column.iloc[row]!r} must be a number, as most of the column; correct it or "
            "leave it empty, or name the column in data.categorical"
        )
    return False


def column_numbers(column: Any, name: str) -> Float[np.ndarray, " m"]:
    """The values of a column of numbers, nan where missing. Raises ConfigError, naming the row, for any other."""
    numbers = _parsed(column)
    text = np.asarray(numbers.isna() & column.notna())
    if text.any():
        row = int(np.argmax(text))
        raise ConfigError(f"column {name}, {nth(row)}: {column.iloc[row]!r} must be a number")
    values = numbers.to_numpy(np.float64, na_value=np.nan)
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        raise ConfigError(f"column {name}, {nth(row)}: {values[row]} must be a finite number")
    return values


def nth(row: int) -> str:
    """Names a row of a table. Its line in a file is unknown: cells may have line breaks."""
    return f"row {row} (counted from 0)"


def _parsed(column: Any) -> Any:
    """The column as numbers, missing where it has others."""
    import pandas as pd

    return pd.to_numeric(column.astype(object) if column.dtype.name == "category" else column, errors="coerce")


def category_names(column: Any) -> Shaped[np.ndarray, " m"]:
    """The values of a column as text, None where missing; 3 and 3.0 are the same category."""
    codes, values = column.factorize()
    names = np.array([_name(value) for value in values.tolist()] + [None], object)
    return names[codes]  # the code of a missing value is -1


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
