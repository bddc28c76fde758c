"""Amazon Employee Access: logistic regression, 26,215 training rows, 241,915 columns (Table 1)."""

from itertools import combinations
from pathlib import Path

import numpy as np

from erasurehead_jax.data.dataset import Dataset
from erasurehead_jax.data.one_hot import Table1, category_codes, one_hot_dataset
from erasurehead_jax.data.raw import RawFile, open_raw

# Pairs that the published code leaves out: ROLE_ROLLUP_1 x ROLE_ROLLUP_2 and ROLE_TITLE x ROLE_FAMILY, as indices into
# the nine columns from RESOURCE on.
SKIPPED_PAIRS = {(2, 3), (5, 7)}
SIZES = Table1(train_rows=26_215, test_rows=6_554, dim=241_915)


def amazon(split_seed: int = 0) -> Dataset:
    """Nine categorical columns, 34 of their pairs and a constant, one-hot; target +1 if access was granted, else -1.

    Raises ConfigError if the raw file is corrupt, or is missing and cannot be downloaded.
    """
    return one_hot_dataset(FILE, _encode, SIZES, split_seed)


def _encode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    with open_raw(path) as file:
        frame = pd.read_csv(file)
    codes = [category_codes(frame[name].to_numpy()) for name in frame.columns[1:]]
    pairs = [pair for pair in combinations(range(9), 2) if pair not in SKIPPED_PAIRS]
    crossed = [category_codes(codes[i].astype(np.int64) * (codes[j].max() + 1) + codes[j]) for i, j in pairs]
    constant = np.zeros(len(frame), np.int32)
    return np.stack([*codes, *crossed, constant]), 2.0 * frame["ACTION"].to_numpy() - 1


def _download(path: Path) -> None:
    from sklearn.datasets import fetch_openml

    frame = fetch_openml(data_id=4135, as_frame=True, parser="auto")["frame"]  # pyright: ignore
    frame.insert(0, "ACTION", frame.pop("target").astype(int))
    frame.to_csv(path, index=False)


FILE = RawFile(
    data="amazon",
    name="amazon_employee_access_train.csv",
    sha256="c50b119438fb8c8e84b2ddb9c0a28c76cb01afa3dc78b920cfea36eb506843a7",
    home="https://www.kaggle.com/c/amazon-employee-access-challenge (train.csv)",
    download=_download,
)
