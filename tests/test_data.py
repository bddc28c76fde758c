"""The paper's data sets from their raw files, and finding, checking and keeping those files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from erasurehead_jax.caches import cache_dir
from erasurehead_jax.data import Dense, Rows, amazon, covertype, kc_housing, raw, synthetic
from erasurehead_jax.data.amazon import FILE as AMAZON
from erasurehead_jax.data.kc_housing import FILE as KC_HOUSING
from erasurehead_jax.data.prepared import one_hot_dataset
from erasurehead_jax.errors import ConfigError

RAW = Path(os.environ.get("ERASUREHEAD_DATA", ""))
needs_raw = pytest.mark.skipif(
    not (RAW / "amazon_employee_access_train.csv.gz").is_file(), reason="ERASUREHEAD_DATA has no raw files"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_dir()


@needs_raw
@pytest.mark.parametrize(
    ("load", "train_rows", "test_rows", "dim", "fields", "positive"),
    [
        (amazon, 26_215, 6_554, 241_915, 44, 24_690),
        (covertype, 396_112, 99_029, 15_509, 55, 226_573),
        (kc_housing, 17_290, 4_323, 27_654, 19, 17_290),
    ],
)
def test_table_1(load, train_rows, test_rows, dim, fields, positive):
    dataset = load()
    assert (len(dataset.train), len(dataset.test), dataset.dim) == (train_rows, test_rows, dim)
    index = np.concatenate([dataset.train.features.index, dataset.test.features.index], axis=1)
    assert index.shape[0] == fields and index.dtype == np.int32
    assert (dataset.train.target > 0).sum() == positive
    lowest, highest = index.min(1), index.max(1)
    assert lowest[0] == 0 and highest[-1] == dim - 1 and (lowest[1:] == highest[:-1] + 1).all()  # fields do not overlap
    assert all(len(np.unique(field)) == high - low + 1 for field, low, high in zip(index, lowest, highest, strict=True))


@needs_raw
def test_rows_are_what_the_file_says(cache: Path):
    """Two rows of KC Housing share a column of a field exactly when their values agree."""
    dataset = kc_housing()
    frame = pd.read_csv(RAW / "kc_house_data.csv.gz")
    train = np.random.RandomState(0).permutation(len(frame))[len(frame) - len(dataset.train) :]
    np.testing.assert_allclose(dataset.train.target, frame["price"].to_numpy()[train] / 1e6)
    index = np.asarray(dataset.train.features.index)  # pyright: ignore[reportAttributeAccessIssue]
    values = frame.loc[:, "bedrooms":].to_numpy()[train].T
    for a, b in [(0, 1), (17, 5_000), (3, 17_289)]:
        np.testing.assert_array_equal(index[:-1, a] == index[:-1, b], values[:, a] == values[:, b])


@needs_raw
def test_the_prepared_cache_is_used_and_follows_the_raw_file(cache: Path, tmp_path: Path, monkeypatch):
    kc_housing()
    (prepared,) = (cache / "prepared").iterdir()
    first = prepared.stat()
    kc_housing()
    assert [prepared] == list((cache / "prepared").iterdir()) and prepared.stat() == first
    assert isinstance(kc_housing().train.features.index, np.memmap)  # pyright: ignore[reportAttributeAccessIssue]
    assert not np.array_equal(kc_housing(split_seed=1).test.target, kc_housing().test.target)
    monkeypatch.setenv("ERASUREHEAD_DATA", str(tmp_path))
    (tmp_path / "kc_house_data.csv").write_text("another file")
    with pytest.raises(ConfigError, match="corrupt or another version"):
        kc_housing()


@needs_raw
def test_a_downloaded_copy_gives_the_same_rows(cache: Path, monkeypatch):
    """The copy that a download brings has no published bytes to check; Table 1's sizes check it instead."""
    expected = kc_housing()
    source = RAW / "kc_house_data.csv.gz"
    monkeypatch.delenv("ERASUREHEAD_DATA")
    keep = lambda path: pd.read_csv(source).drop(columns=["id", "date"]).to_csv(path, index=False)
    from erasurehead_jax.data.kc_housing import SIZES, _encode

    dataset = one_hot_dataset(KC_HOUSING._replace(download=keep), _encode, SIZES, split_seed=0)
    np.testing.assert_array_equal(dataset.train.features.index, expected.train.features.index)  # pyright: ignore
    keep_some = lambda path: pd.read_csv(source).drop(columns=["id", "date"])[:99].to_csv(path, index=False)
    (cache / "raw" / "kc_housing-downloaded.csv").unlink()
    with pytest.raises(ConfigError, match="the paper's is Table1"):
        one_hot_dataset(KC_HOUSING._replace(download=keep_some), _encode, SIZES, split_seed=0)


def test_a_failed_download_says_what_to_do_and_leaves_nothing(cache: Path, monkeypatch):
    monkeypatch.delenv("ERASUREHEAD_DATA", raising=False)

    def offline(path: Path) -> None:
        path.write_text("half a file")
        raise OSError("no route to host")

    with pytest.raises(
        ConfigError, match=r"not found .*download failed \(OSError: no route to host\).*ERASUREHEAD_DATA"
    ):
        raw.download(AMAZON._replace(download=offline))
    assert list((cache / "raw").iterdir()) == []


def table(rows: Rows) -> np.ndarray:
    """A line for every row: its features and its target."""
    features = rows.features
    values = np.asarray(features.matrix if isinstance(features, Dense) else features.index.T)  # pyright: ignore
    return np.column_stack([values, np.asarray(rows.target)])


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("dense", [False, True])
def test_sorted_synthetic_data_has_the_same_rows(dense: bool, task):
    make = lambda sort: synthetic(rows=503, fields=4, categories=9, task=task, dense=dense, sort=sort, split_seed=3)
    plain, by_first = make(False), make(True)
    first = table(by_first.train)[:, 0]
    assert (np.diff(first) >= 0).all() and (np.diff(table(plain.train)[:, 0]) < 0).any()
    in_order = lambda rows: sorted(map(tuple, table(rows)))
    assert in_order(by_first.train) == in_order(plain.train)
    np.testing.assert_array_equal(table(by_first.test), table(plain.test))
