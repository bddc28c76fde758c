"""Forest Covertype, its two most common types: logistic regression, 396,112 training rows, 15,509 columns (Table 1)."""

from pathlib import Path

import numpy as np

from erasurehead_jax.data.dataset import Dataset
from erasurehead_jax.data.one_hot import Table1, category_codes, one_hot_dataset
from erasurehead_jax.data.raw import RawFile, open_raw

# Table 1 counts all 495,141 rows of the two types; training uses 80 % of them, as for the other data sets.
SIZES = Table1(train_rows=396_112, test_rows=99_029, dim=15_509)


def covertype(split_seed: int = 0) -> Dataset:
    """54 columns with each distinct value as a category, and a constant, one-hot; -1 Spruce/Fir, +1 Lodgepole Pine.

    Raises ConfigError if the raw file is corrupt, or is missing and cannot be downloaded.
    """
    return one_hot_dataset(FILE, _encode, SIZES, split_seed)


def _encode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    with open_raw(path) as file:
        values = pd.read_csv(file, header=None, dtype=np.int32).to_numpy()
    values = values[values[:, 54] <= 2]
    codes = [category_codes(column) for column in values[:, :54].T]
    constant = np.zeros(len(values), np.int32)
    return np.stack([*codes, constant]), np.where(values[:, 54] == 2, 1.0, -1.0)


def _download(path: Path) -> None:
    from sklearn.datasets import fetch_covtype

    values, kind = fetch_covtype(return_X_y=True)
    np.savetxt(path, np.column_stack([values, kind]), fmt="%d", delimiter=",")


FILE = RawFile(
    data="covertype",
    name="covtype.data",
    sha256="0a9371cef7c964b5475d6053cc3e0894a5aa6f65ad1ed3ecb01c45aa96217945",
    home="https://archive.ics.uci.edu/dataset/31/covertype",
    download=_download,
)
