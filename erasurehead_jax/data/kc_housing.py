"""House sales in King County: least squares, 17,290 training rows, 27,654 columns (Table 1)."""

from pathlib import Path

import numpy as np

from erasurehead_jax.data.dataset import Dataset
from erasurehead_jax.data.one_hot import Table1, category_codes, one_hot_dataset
from erasurehead_jax.data.raw import RawFile, open_raw

SIZES = Table1(train_rows=17_290, test_rows=4_323, dim=27_654)


def kc_housing(split_seed: int = 0) -> Dataset:
    """The 18 columns from `bedrooms` on with each distinct value as a category, and a constant, one-hot; target in M$.

    Raises ConfigError if the raw file is corrupt, or is missing and cannot be downloaded.
    """
    return one_hot_dataset(FILE, _encode, SIZES, split_seed)


def _encode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    with open_raw(path) as file:
        frame = pd.read_csv(file)
    fields = frame.loc[:, "bedrooms":]
    codes = [category_codes(fields[name].to_numpy()) for name in fields.columns]
    constant = np.zeros(len(frame), np.int32)
    return np.stack([*codes, constant]), frame["price"].to_numpy() / 1e6


def _download(path: Path) -> None:
    from sklearn.datasets import fetch_openml

    frame = fetch_openml(data_id=42092, as_frame=True, parser="auto")["frame"]  # pyright: ignore
    names = [name for name in frame.columns if name not in ("id", "price") and not name.startswith("date")]
    frame[["price", *names]].to_csv(path, index=False)


FILE = RawFile(
    data="kc_housing",
    name="kc_house_data.csv",
    sha256="d0875baa0251b21d4bdc9d2ae940a4fe0bb6009824f23dd0e2a5b2bf04557b7e",
    home="https://www.kaggle.com/datasets/harlfoxem/housesalesprediction",
    download=_download,
)
