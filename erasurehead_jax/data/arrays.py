"""Arrays of one's own: a .npz file, or arrays in memory."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from erasurehead_jax.data.check import as_targets
from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.data.encoder import AbstractEncoder
from erasurehead_jax.data.features import Dense
from erasurehead_jax.data.frames import require_file, unreadable
from erasurehead_jax.data.prepared import prepared
from erasurehead_jax.data.split import require_limit, require_split, with_test_rows
from erasurehead_jax.data.svmlight import sparse_dataset
from erasurehead_jax.errors import ConfigError

NAME = "arrays"


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayEncoder(AbstractEncoder):
    """The shape of a row and its type of number. A row of numbers gets a constant; an image stays as it is."""

    shape: list[int]
    dtype: str

    def features(self, X: Any) -> Dense:
        """The features of an array (m, *shape)."""
        X = np.asarray(X)
        if list(X.shape[1:]) != self.shape:
            raise ConfigError(f"X: rows of shape {X.shape[1:]}; must be {tuple(self.shape)}, as in the training data")
        if bad := Dense(X).first_bad():
            raise ConfigError(f"X, {bad}")
        return Dense(np.column_stack([X, np.ones(len(X), X.dtype)]) if X.ndim == 2 else X)

    def read(self, path: str | Path) -> np.ndarray:
        """The array X of a .npz file."""
        return _read(path, "X")["X"]

    def blank(self) -> Dense:
        return self.features(np.zeros((1, *self.shape), self.dtype))


def arrays(
    path: str,
    test_path: str | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    limit_rows: int | None = None,
) -> Dataset:
    """The rows of a .npz file with X (m, *shape) and y (m,), as `array_dataset` has them; kept in the prepared cache.

    Test rows are X_test and y_test of the same file, X and y of the file `test_path`, or a share split off.
    `limit_rows` keeps only the first rows. Raises ConfigError as `array_dataset` does and for unreadable files.
    """
    require_limit(limit_rows)
    require_split(test_share, split_seed)
    settings = {"test_share": test_share, "split_seed": split_seed, "limit_rows": limit_rows}

    def make() -> Dataset:
        content = {name: each[:limit_rows] for name, each in _read(path, "X", "y").items()}
        test = None
        if test_path is not None:
            more = _read(test_path, "X", "y", field="data.test_path")
            test = more["X"][:limit_rows], more["y"][:limit_rows]
        elif "X_test" in content or "y_test" in content:
            content = _with(content, path, "X_test", "y_test")
            test = content["X_test"], content["y_test"]
        return array_dataset(content["X"], content["y"], test, test_share=test_share, split_seed=split_seed)

    files = {"data.path": path, "data.test_path": test_path}
    return prepared(NAME, files, settings, make)


def array_dataset(
    X: Any,
    y: Any,
    test: tuple[Any, Any] | None = None,
    *,
    test_share: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """The data set of an array X (m, *shape) or SciPy sparse matrix (m, columns), and its targets y (m,).

    `test` is a pair of the same; without it, a share of the rows is split off, of every class. A matrix gets a constant
    column; images stay as they are. Raises ConfigError for shapes that do not fit and values that are not finite.
    """
    if hasattr(X, "tocsr"):
        return sparse_dataset(X, y, test, test_share, split_seed)
    X = np.asarray(X)
    y = as_targets(X, y)
    encoder = ArrayEncoder(list(X.shape[1:]), str(X.dtype))
    given = None if test is None else Rows(encoder.features(test[0]), as_targets(*test, "_test"))
    return with_test_rows(NAME, Rows(encoder.features(X), y), given, test_share, split_seed, encoder)


def _read(path: str | Path, *names: str, field: str = "data.path") -> dict[str, np.ndarray]:
    require_file(Path(path), (".npz",), field)
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except Exception as error:  # of NumPy and of its zip files
        raise unreadable(field, Path(path), error) from None
    return _with(content, path, *names, field=field)


def _with(content: dict[str, np.ndarray], path: str | Path, *names: str, field: str = "data.path"):
    if missing := [name for name in names if name not in content]:
        raise ConfigError(f"{field}={path}: has no {missing[0]}, only {', '.join(content) or 'nothing'}")
    return content
