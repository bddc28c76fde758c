"""Real-valued sparse data in svmlight's format, as LIBSVM publishes it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from erasurehead_jax.data.check import as_targets
from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.data.encoder import AbstractEncoder
from erasurehead_jax.data.features.sparse import Sparse
from erasurehead_jax.data.frames import require_file, unreadable
from erasurehead_jax.data.prepared import prepared
from erasurehead_jax.data.split import require_limit, require_split, with_test_rows
from erasurehead_jax.errors import ConfigError

NAME = "svmlight"


@dataclasses.dataclass(frozen=True, eq=False)
class SparseEncoder(AbstractEncoder):
    """The number of columns, to which a constant is added; in files, the first column is 0 or 1."""

    columns: int
    first: int = 0

    def features(self, X: Any) -> Sparse:
        """The features of a SciPy sparse matrix (m, columns)."""
        import scipy.sparse

        if X.shape[1] != self.columns:
            raise ConfigError(f"X: {X.shape[1]} columns; must be {self.columns}, as in the training data")
        matrix: Any = scipy.sparse.csr_array(X)
        if not (finite := np.isfinite(matrix.data)).all():
            entry = int(np.argmin(finite))
            row = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
            where = f"row {row}, column {matrix.indices[entry]}"
            raise ConfigError(f"X, {where}: {matrix.data[entry]} must be a finite number")
        constant = scipy.sparse.csr_array(np.ones((matrix.shape[0], 1), matrix.dtype))
        return Sparse.from_scipy(scipy.sparse.hstack([matrix, constant], format="csr"))

    def read(self, path: str | Path) -> Any:
        """The rows of an svmlight file, a SciPy sparse matrix (m, columns), without the targets."""
        return _widened(_read(path)[0], self.first, self.columns, path)

    def blank(self) -> Sparse:
        import scipy.sparse

        return self.features(scipy.sparse.csr_array((1, self.columns)))


def svmlight(
    path: str,
    test_path: str | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    limit_rows: int | None = None,
) -> Dataset:
    """The rows of an svmlight file (also .gz, .bz2), sparse, and a constant column; kept in the prepared cache.

    Columns are counted from 1 unless a row uses column 0. `test_path` is a file of test rows; without one, a share of
    the rows is split off, of every class. `limit_rows` keeps only the first rows of each file. The targets stay as
    they are. Raises ConfigError for files that cannot be read and values that are not finite.
    """
    require_limit(limit_rows)
    require_split(test_share, split_seed)
    settings = {"test_share": test_share, "split_seed": split_seed, "limit_rows": limit_rows}

    def make() -> Dataset:
        X, y = _read(path, limit_rows)
        test = None if test_path is None else _read(test_path, limit_rows, "data.test_path")
        both = [X] if test is None else [X, test[0]]
        first = 0 if any((each.indices == 0).any() for each in both) else 1
        columns = max(each.shape[1] for each in both) - first
        X, *more = (_widened(each, first, columns, path) for each in both)
        return sparse_dataset(X, y, None if test is None else (more[0], test[1]), test_share, split_seed, first)

    files = {"data.path": path, "data.test_path": test_path}
    return prepared(NAME, files, settings, make)


def sparse_dataset(
    X: Any,
    y: Any,
    test: tuple[Any, Any] | None = None,
    test_share: float = 0.2,
    split_seed: int = 0,
    first: int = 0,
) -> Dataset:
    """The data set of a SciPy sparse matrix (m, columns) and its targets, and of test rows or a share split off."""
    encoder = SparseEncoder(X.shape[1], first)
    y = as_targets(X, y)
    given = None if test is None else Rows(encoder.features(test[0]), as_targets(*test, "_test"))
    return with_test_rows(NAME, Rows(encoder.features(X), y), given, test_share, split_seed, encoder)


def _read(path: str | Path, limit_rows: int | None = None, field: str = "data.path") -> tuple[Any, np.ndarray]:
    """The matrix and the targets of a file, with columns counted from 0 as the file has them."""
    from sklearn.datasets import load_svmlight_file

    require_file(Path(path), (), field)
    try:
        X, y = load_svmlight_file(str(path), zero_based=True)[:2]  # pyright: ignore[reportArgumentType]
    except Exception as error:  # of scikit-learn and of the decompressors
        raise unreadable(field, Path(path), error) from None
    if not X.shape[0]:
        raise ConfigError(f"{field}={path}: has no rows")
    return X[:limit_rows], y[:limit_rows]


def _widened(X: Any, first: int, columns: int, path: str | Path) -> Any:
    """The matrix with as many columns, of which the file uses only some."""
    if X.shape[1] > first + columns:
        raise ConfigError(f"{path}: column {X.shape[1] - 1}: must be at most {first + columns - 1}, as in training")
    if first and (X.indices == 0).any():
        raise ConfigError(f"{path}: column 0: must be at least 1, as in training")
    X.resize(X.shape[0], first + columns)
    return X[:, first:]
