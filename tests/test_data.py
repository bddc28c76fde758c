"""The paper's data sets: finding, verifying and preparing their raw files; and the validation of data."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import train_many
from hypothesis import given, strategies as st

from erasurehead_jax.caches import cache_dir
from erasurehead_jax.data import (
    Dataset,
    Dense,
    OneHot,
    Rows,
    amazon,
    covertype,
    kc_housing,
    raw,
    require_sound,
    synthetic,
)
from erasurehead_jax.data.amazon import FILE as AMAZON
from erasurehead_jax.data.kc_housing import FILE as KC_HOUSING
from erasurehead_jax.data.one_hot import one_hot_dataset
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import build_data

RAW = Path(os.environ.get("ERASUREHEAD_DATA", ""))
needs_raw = pytest.mark.skipif(
    not (RAW / "amazon_employee_access_train.csv.gz").is_file(), reason="ERASUREHEAD_DATA has no raw files"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache."""
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
    """Two rows of KC Housing share a column of a field if and only if their values agree."""
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
    """A download is verified by the sizes in Table 1, because its bytes are not those of the published file."""
    expected = kc_housing()
    source = RAW / "kc_house_data.csv.gz"
    monkeypatch.delenv("ERASUREHEAD_DATA")
    keep = lambda path: pd.read_csv(source).drop(columns=["id", "date"]).to_csv(path, index=False)
    from erasurehead_jax.data.kc_housing import SIZES, _encode

    dataset = one_hot_dataset(KC_HOUSING._replace(download=keep), _encode, SIZES, split_seed=0)
    np.testing.assert_array_equal(dataset.train.features.index, expected.train.features.index)  # pyright: ignore
    keep_some = lambda path: pd.read_csv(source).drop(columns=["id", "date"])[:99].to_csv(path, index=False)
    (cache / "raw" / "kc_housing-downloaded.csv").unlink()
    with pytest.raises(ConfigError, match=r"has Table1\(.*, the paper Table1\("):
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
    """One line per row: its features and its target."""
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


def test_data_that_is_not_a_number_is_refused_by_both_backends(tmp_path: Path):
    """In version 0.1, one backend dropped the block in every round and the other blamed the step size."""
    bad = ["~data", "+data={_target_:user_code.with_a_nan,row:17,column:2}", "+objective=logistic", "workers=4"]
    runs = train_many([(tmp_path, [*bad, "load=2", "wait_for=2", f"backend={each}"]) for each in ("mpi", "simulate")])
    for run in runs:
        assert run.status == 2
        assert run.err == "error: data=mine: training row 17, column 2: nan must be a finite number\n"
        assert not run.run_dir.exists()


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 5),
    at=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    part=st.sampled_from(["training", "test"]),
)
def test_the_cell_that_is_not_finite_is_named(rows: int, columns: int, at: tuple[int, int], bad: float, part: str):
    matrix, target = np.zeros((rows, columns)), np.ones(rows)
    good = Rows(Dense(matrix), target)
    row, column = at[0] % rows, at[1] % columns
    spoiled = matrix.copy()
    spoiled[row, column] = bad
    wrong = Rows(Dense(spoiled), target)
    require_sound(Dataset("mine", good, good))
    with pytest.raises(ConfigError) as refused:
        require_sound(Dataset("mine", *((wrong, good) if part == "training" else (good, wrong))))
    assert str(refused.value) == f"data=mine: {part} row {row}, column {column}: {bad} must be a finite number"


def test_a_large_sum_is_finite_cell_by_cell():
    rows = Rows(Dense(np.full((3, 2), 1e308)), np.ones(3))
    require_sound(Dataset("mine", rows, rows))


def dense(rows: int, columns: int = 2, targets: int | None = None) -> Rows:
    return Rows(Dense(np.zeros((rows, columns))), np.ones(rows if targets is None else targets))


def index(*fields: list[int], columns: int = 5) -> Rows:
    return Rows(OneHot(np.array(fields, np.int32), columns), np.ones(len(fields[0])))


@pytest.mark.parametrize(
    ("train", "test", "why"),
    [
        (dense(3), dense(2, columns=3), "2 training columns, but 3 test columns; must be equal"),
        (dense(3, targets=2), dense(2), "3 training rows, but targets of shape (2,); must be one per row"),
        (dense(3), dense(2, targets=3), "2 test rows, but targets of shape (3,); must be one per row"),
        (dense(0), dense(2), "has no training rows; must have at least one"),
        (dense(3), dense(0), "has no test rows; must have at least one"),
        (index([0, 1], [2, 5]), index([0], [2]), "training row 1, field 1: 5 must be a column, from 0 to 4"),
        (index([0, 1], [2, 3]), index([-1], [2]), "test row 0, field 0: -1 must be a column, from 0 to 4"),
        (
            Rows(Dense(np.zeros((2, 1))), np.array([1.0, np.nan])),
            dense(1, 1),
            "training row 1, target: nan must be a finite number",
        ),
    ],
)
def test_unsound_data_is_refused(train: Rows, test: Rows, why: str):
    with pytest.raises(ConfigError) as refused:
        require_sound(Dataset("mine", train, test))
    assert str(refused.value) == f"data=mine: {why}"


def test_a_job_is_built_with_signs():
    job = {
        "data": {"_target_": "user_code.two_classes"},
        "objective": {"_target_": "erasurehead_jax.objectives.Logistic"},
    }
    low, signs = (build_data(job | {"x64": True, "data": job["data"] | {"low": low}})[1] for low in (0.0, -1.0))
    np.testing.assert_array_equal(low.train.target, signs.train.target)
    np.testing.assert_array_equal(low.test.target, signs.test.target)
    assert set(np.unique(low.train.target)) == {-1.0, 1.0}


@needs_raw
def test_damaged_prepared_data_is_named(cache: Path):
    kc_housing()
    (prepared,) = (cache / "prepared").iterdir()
    index = prepared / "train_index.npy"
    index.write_bytes(index.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=rf"^data=kc_housing: {prepared} is damaged \(.*\); remove it"):
        kc_housing()
