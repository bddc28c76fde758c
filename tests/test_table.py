"""Data of one's own: tables, arrays and sparse files become the features that scikit-learn would make of them."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.compose import ColumnTransformer
from sklearn.datasets import dump_svmlight_file
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import erasurehead_jax as eh
from erasurehead_jax.data import Dense, Mixed, OneHot, Rows, Sparse, arrays, svmlight, table, table_dataset
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.optimizers import nesterov


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def shop(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Customers with numbers, categories, booleans and missing values."""
    rng = np.random.default_rng(seed)
    age, income = rng.normal(40, 12, rows).round(), np.exp(rng.normal(10, 1, rows))
    city = np.char.add("city", rng.zipf(1.6, rows).clip(max=60).astype(str))
    member = rng.random(rows) < 0.4
    z = 0.06 * (age - 40) + 0.8 * (np.log(income) - 10) + member + np.where(city == "city1", 1.0, -0.3)
    bought = np.where(rng.random(rows) < 1 / (1 + np.exp(-z)), "yes", "no")
    frame = pd.DataFrame({"age": age, "income": income, "city": city, "member": member, "bought": bought})
    for name in ("age", "income", "city"):
        frame.loc[rng.random(rows) < 0.07, name] = None
    return frame


def matrix(features: Any) -> np.ndarray:
    """The features as a dense matrix."""
    return np.asarray(features @ jnp.eye(features.dim))


def saved(frame: Any, path: Path) -> str:
    frame.to_csv(path, index=False)
    return str(path)


NUMBERS, CATEGORIES = ["age", "income"], ["city", "member"]


def with_names(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: [str(value) for value in frame[name]] for name in CATEGORIES})


def reference(min_frequency: int) -> ColumnTransformer:
    """scikit-learn's own way to the same features."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    fields = OneHotEncoder(min_frequency=min_frequency, handle_unknown="infrequent_if_exist", sparse_output=False)
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("fields", fields, CATEGORIES)])


@pytest.mark.parametrize("min_frequency", [1, 5])
def test_features_are_those_of_scikit_learn(min_frequency: int):
    """Up to columns that are zero in all training rows; only training rows are learned from."""
    train, test = shop(300, seed=1), shop(200, seed=2)
    dataset = table_dataset(train, "bought", test=test, min_frequency=min_frequency)
    assert isinstance(dataset.train.features, Mixed)
    encoder = reference(min_frequency).fit(with_names(train))
    for rows, frame in ((dataset.train, train), (dataset.test, test)):
        made, expected = matrix(rows.features), np.asarray(encoder.transform(with_names(frame)))
        np.testing.assert_allclose(made[:, :2], expected[:, :2], atol=1e-12)
        np.testing.assert_array_equal(made[:, 2], 1.0)
        used = matrix(dataset.train.features)[:, 3:].any(0)
        columns = sorted(map(tuple, made[:, 3:][:, used].T.tolist()))
        assert columns == sorted(map(tuple, expected[:, 2:].T.tolist()))
        np.testing.assert_array_equal(rows.target, frame["bought"].to_numpy(str))


def test_the_auc_is_that_of_scikit_learn(tmp_path: Path):
    """From a file, at the same penalty, on the same split."""
    frame = shop(1500)
    dataset = table(saved(frame, tmp_path / "shop.csv"), "bought")
    objective, l2 = eh.Logistic(), 1 / len(dataset.train)
    run = eh.train(
        dataset,
        objective,
        eh.uncoded(workers=4),
        optimizer=nesterov(2.0),
        rounds=150,
        run_dir=tmp_path / "run",
        evaluate_every=150,
    )
    parts: list[Any] = train_test_split(with_names(frame), test_size=0.2, random_state=0, stratify=frame["bought"])
    train, test = parts
    model = make_pipeline(reference(5), LogisticRegression(C=1 / (2 * l2 * len(train)), tol=1e-8, max_iter=1000))
    model.fit(train, train["bought"])
    expected = roc_auc_score(test["bought"] == "yes", model.decision_function(test))
    assert run.history["test_auc"].iloc[-1] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.xz", ".csv.zst", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, ending: str):
    frame, path = shop(), tmp_path / f"shop{ending}"
    frame.to_parquet(path) if ending == ".parquet" else frame.to_csv(path, index=False)
    made = table(str(path), "bought")
    expected = table(saved(frame, tmp_path / "shop.csv"), "bought")
    np.testing.assert_allclose(matrix(made.train.features), matrix(expected.train.features), atol=1e-12)
    np.testing.assert_array_equal(made.test.target, expected.test.target)


def test_a_file_is_parsed_once_and_again_when_it_or_a_setting_changes(tmp_path: Path, cache: Path, monkeypatch):
    path = saved(shop(), tmp_path / "shop.csv")
    first = table(path, "bought")
    with monkeypatch.context() as patched:
        patched.setattr(pd, "read_csv", None)
        again = table(path, "bought")
        with pytest.raises(ConfigError, match="cannot be read"):
            table(path, "bought", split_seed=1)
    assert isinstance(again.train.features.parts[0].matrix, np.memmap)  # pyright: ignore
    np.testing.assert_array_equal(matrix(again.train.features), matrix(first.train.features))
    assert again.encoder is not None and len(list((cache / "erasurehead-jax" / "prepared").iterdir())) == 1
    saved(shop(401), tmp_path / "shop.csv")
    assert len(table(path, "bought").train) == 320 and len(table(path, "bought", limit_rows=50).train) == 40


def test_layouts_follow_the_columns():
    frame = shop()
    dense = table_dataset(frame, "bought", drop=CATEGORIES).train.features
    one_hot = table_dataset(frame, "bought", drop=NUMBERS).train.features
    named = table_dataset(frame, "bought", categorical=["age"], numeric=["member"]).encoder
    assert isinstance(dense, Dense) and dense.dim == 3
    assert isinstance(one_hot, OneHot) and (matrix(one_hot).sum(1) == 3).all()
    assert named.numeric == ["income", "member"] and named.categorical == ["age", "city"]  # pyright: ignore


def test_classes_are_split_in_proportion_and_numbers_are_not(tmp_path: Path):
    frame = shop(300)
    frame["bought"] = np.repeat(["a", "b", "c"], [10, 40, 250])
    dataset = table_dataset(frame, "bought")
    assert [np.count_nonzero(dataset.test.target == name) for name in "abc"] == [2, 8, 50]
    other = table_dataset(frame, "bought", split_seed=1)
    assert not np.array_equal(matrix(dataset.test.features), matrix(other.test.features))
    counts = table_dataset(frame.assign(bought=[0] * 150 + [1] * 149 + [7]), "bought")  # a count may occur once
    assert len(counts.train) == 240 and counts.train.target.dtype.kind == "i"


def numbers(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"x": [0.5, 1.5, 2.5, 3.5] * 5, "y": ["a", "b"] * 10} | columns)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (numbers(), {"target": "why"}, "data.target=why: no such column; choose one of x, y"),
    (shop(), {"target": "bougth"}, "data.target=bougth: no such column; did you mean bought?"),
    (
        pd.DataFrame({"x;y": ["1;a"]}),
        {},
        "data.target=y: no such column; choose one of x;y; the columns must be",
    ),
    (numbers(y=[1] * 20), {}, "data.target=y: all 20 values are 1; must differ, or there is nothing to learn"),
    (
        numbers(y=["a", None] * 10),
        {},
        "data.target=y: row 1 (counted from 0) is missing (10 of 20 are); must be known: remove such",
    ),
    (numbers(y=["a"] * 19 + ["b"]), {}, "data=table: class b has a single row; must have at least 2, for training"),
    (numbers(y=[*"abcdefghij"] * 2), {}, "data=table: 10 classes, but only 4 rows in the smaller part of the split"),
    (numbers()[["y"]], {}, "data.target=y: is the only column; must have others to predict it from"),
    (numbers(x=["1", "2", "3", "n/k"] * 5), {}, "column x, row 3 (counted from 0): 'n/k' must be a number, as most"),
    (numbers(x=[*"abcd"] * 5), {"numeric": ["x"]}, "column x, row 0 (counted from 0): 'a' must be a number"),
    (numbers(x=[1.0] * 19 + [np.inf]), {}, "column x, row 19 (counted from 0): inf must be a finite number"),
    (numbers(x=list(pd.date_range("2026-01-01", periods=20))), {}, "column x: holds datetime64 values; must be text"),
    (numbers(), {"drop": ["xx"]}, "data.drop: xx: no such column; did you mean x?"),
    (numbers(), {"numeric": ["y"]}, "data.numeric: y: is the target"),
    (numbers(), {"numeric": ["x"], "drop": ["x"]}, "data.drop: x: is also in data.numeric; must be in one of them"),
    (numbers(), {"test_share": 1.0}, "data.test_share=1.0: must be below 1"),
    (numbers(), {"min_frequency": 0}, "data.min_frequency=0: must be a whole number, at least 1"),
    (numbers(), {"test": numbers()[["y"]]}, "test rows: column x: not in the table; must have the columns of the"),
    (numbers(), {"test": numbers()[["x"]]}, "test rows: has no column y; must have the target too"),
    (
        numbers(),
        {"test": numbers(y=["a", None] * 10)},
        "test rows: column y: row 1 (counted from 0) is missing (10 of 20",
    ),
]


@pytest.mark.parametrize(("frame", "settings", "why"), BAD, ids=[why[:40] for *_, why in BAD])
def test_a_table_that_cannot_be_used_is_refused_in_one_line(frame: Any, settings: dict[str, Any], why: str):
    with pytest.raises(ConfigError) as refused:
        table_dataset(frame, settings.pop("target", "y"), **settings)
    assert str(refused.value).startswith(why) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("id", [f"c{i}" for i in range(20)], "every row has a value of its own, which says nothing as a category"),
        ("id", list(range(1000, 1020)), "numbers the rows"),
        ("id", [3, *range(10, 29)], "numbers the rows"),
        ("id", [float(i) for i in range(20, 0, -1)], "numbers the rows"),
        ("Unnamed: 0", [4, 7] * 10, "numbers the rows"),
        ("age", [20, *range(19)], None),
        ("age", [30, *range(19)][::-1], None),
        ("age", [*range(19), 18], None),
        ("age", [*range(19), None], None),
        ("age", [i / 2 for i in range(20)], None),
    ],
)
def test_a_column_that_identifies_the_rows_is_warned_of(
    name: str, values: list[Any], says: str | None, capsys: pytest.CaptureFixture[str]
):
    frame = numbers(**{name: values})
    table_dataset(frame, "y")
    err = capsys.readouterr().err
    if says is None:
        assert err == ""
    else:
        drop = {"id": "data.drop=[id]"}.get(name, """'data.drop=["Unnamed: 0"]'""")
        assert err.startswith(f"warning: column {name}: {says}") and err.endswith(f"leave it out with {drop}\n")
        table_dataset(frame, "y", drop=[name])
        assert capsys.readouterr().err == ""


def test_test_rows_are_blamed_by_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And what they have that training has not is warned of, for rows that were not split off."""
    path, other = saved(shop(), tmp_path / "shop.csv"), tmp_path / "other.csv"
    table(path, "bought")
    assert capsys.readouterr().err == ""
    saved(shop(100, seed=1).drop(columns="bought"), other)
    with pytest.raises(ConfigError, match=f"^data.test_path={other}: has no column bought; must have the target too$"):
        table(path, "bought", test_path=str(other))
    saved(shop(100, seed=1).assign(member="maybe", height=1), other)
    assert len(table(path, "bought", test_path=str(other)).test) == 100
    warned = capsys.readouterr().err
    assert f"warning: data.test_path={other}: column height: not in the training data; it is ignored\n" in warned
    assert "column member: 100 of 100 values (maybe) were not seen in training (False, True); they count" in warned


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", None, "no such file"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"x,y\n", "has no rows; must have a header and rows"),
        ("a.csv", b'x,y\n1,"2\n', "cannot be read"),
        ("a.csv", b"x,y\n1,2\n1,2,3\n", "cannot be read"),
        ("a.csv", b"x,y\n\xff\xfe,2\n", "cannot be read"),
        ("a.csv.gz", b"x,y\n1,2\n", "cannot be read"),
        ("a.csv.xz", b"x,y\n1,2\n", "cannot be read"),
        ("a.csv.zst", b"x,y\n1,2\n", "cannot be read"),
        ("a.parquet", b"x,y\n1,2\n", "cannot be read"),
        ("a.xlsx", b"x,y\n1,2\n", "must end in .csv, .csv.gz, .csv.xz, .csv.zst or .parquet"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes | None, why: str):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        table(str(path), "y")
    assert str(refused.value).startswith(f"data.path={path}: ") and why.lower() in str(refused.value).lower()
    assert "\n" not in str(refused.value)


def test_parquet_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shop().to_parquet(tmp_path / "shop.parquet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package pyarrow; pip install 'erasurehead-jax\[parquet\]'"):
        table(str(tmp_path / "shop.parquet"), "bought")


def digits(rows: int = 40, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"X": rng.normal(size=(rows, 3)), "y": np.arange(rows) % 4} | more


def test_arrays_are_kept_as_they_are(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, **digits())
    dataset = arrays(str(path))
    assert dataset.dim == 4 and (np.bincount(dataset.test.target) == 2).all()
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    np.savez(path, **digits(X=images, y=np.repeat(["cat", "dog"], 20), X_test=images[:4], y_test=["cat"] * 4))
    dataset = arrays(str(path))
    train, test = dataset.train.features, dataset.test.features
    assert isinstance(train, Dense) and isinstance(test, Dense) and train.matrix.dtype == np.uint8
    np.testing.assert_array_equal(train.matrix, images)
    np.testing.assert_array_equal(test.matrix, images[:4])
    assert len(arrays(str(path), limit_rows=30).train) == 30
    with pytest.raises(ConfigError, match=r"^X: rows of shape \(3,\); must be \(8, 8, 3\)"):
        np.savez(tmp_path / "test.npz", **digits())
        arrays(str(path), test_path=str(tmp_path / "test.npz"))


spoiled = digits()["X"].copy()
spoiled[7, 2] = np.nan


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"X": spoiled}, "X, row 7, column 2: nan must be a finite number"),
        ({"y": np.where(np.arange(40) == 5, np.inf, 1.0)}, "y, row 5: inf must be known and finite"),
        ({"y": np.arange(39)}, "y: shape (39,); must be one target for each of the 40 rows of X"),
        ({"X": np.zeros(40)}, "X: shape (40,); must be rows and columns, or rows and images"),
        ({"X": np.full((40, 2), "a")}, "X, features: type <U1; must be numbers"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "X: no rows; must have at least one"),
        ({"X": None}, "data.path=PATH: has no X, only y"),
        ({"y": None}, "data.path=PATH: has no y, only X"),
        ({"X_test": np.zeros((2, 3))}, "data.path=PATH: has no y_test, only X, y, X_test"),
        ({"y": np.array([None] * 40)}, "data.path=PATH: cannot be read (Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path: Path, content: dict[str, Any], why: str):
    path = tmp_path / "a.npz"
    np.savez(path, **{name: each for name, each in digits(**content).items() if each is not None})
    with pytest.raises(ConfigError) as refused:
        arrays(str(path))
    assert str(refused.value).startswith(why.replace("PATH", str(path)))


def test_a_damaged_npz_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, **digits())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError, match=f"^data.path={path}: cannot be read"):
        arrays(str(path))


@pytest.mark.parametrize("first", [0, 1])
def test_a_sparse_file_is_what_scipy_read(tmp_path: Path, first: int):
    X = scipy.sparse.csr_array(np.random.default_rng(0).poisson(0.4, (60, 9)) / 3)
    y = np.where(np.arange(60) % 3 == 0, 1.0, -1.0)
    path = str(tmp_path / "a.svm")
    dump_svmlight_file(X, y, path, zero_based=first == 0)
    dataset = svmlight(path, test_path=path)
    assert isinstance(dataset.train.features, Sparse)
    expected = np.hstack([X.toarray(), np.ones((60, 1))])
    np.testing.assert_allclose(matrix(dataset.train.features), expected)
    np.testing.assert_allclose(matrix(dataset.encoder.features(dataset.encoder.read(path))), expected)  # pyright: ignore
    half = svmlight(path, limit_rows=30)
    assert (len(half.train), len(half.test)) == (24, 6) and half.dim == 10
    np.testing.assert_array_equal(np.sort(half.test.target), [-1.0] * 4 + [1.0] * 2)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is empty"),
        ("1 a:b\n", "cannot be read"),
        ("1 1:nan\n-1 1:2\n", "X, row 0, column 0: nan must be"),
    ],
)
def test_a_sparse_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, why: str):
    path = tmp_path / "a.svm"
    path.write_text(content)
    with pytest.raises(ConfigError, match=why):
        svmlight(str(path))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("models", [(), (2,)])
def test_mixed_features_are_their_parts_side_by_side(models: tuple[int, ...], seed: int):
    """And a worker's gradient on the columns that it touches is the whole one's."""
    rng, rows = np.random.default_rng(seed), 3
    dense = Dense(rng.normal(size=(rows, 2)))
    one_hot = OneHot(rng.integers([[0], [4]], [[4], [8]], (2, rows)).astype(np.int32), 8)
    sparse = Sparse.from_scipy(scipy.sparse.csr_array(rng.poisson(0.4, (rows, 5)) / 3))
    mixed = Mixed((dense, one_hot, sparse))
    X = np.hstack([matrix(part) for part in mixed.parts])
    x, r = jnp.asarray(rng.normal(size=(X.shape[1], *models))), jnp.asarray(rng.normal(size=(rows, *models)))
    np.testing.assert_allclose(mixed @ x, X @ x, atol=1e-12)
    np.testing.assert_allclose(mixed.rmatvec(r), X.T @ r, atol=1e-12)
    np.testing.assert_allclose(mixed.take(np.array([0, 0])) @ x, X[[0, 0]] @ x, atol=1e-12)
    touched = mixed.touched()
    assert touched is not None and not X[:, np.setdiff1d(np.arange(X.shape[1]), touched)].any()
    own = Rows(mixed, np.zeros(rows)).restrict(touched).features
    np.testing.assert_allclose(own @ x[touched], X @ x, atol=1e-12)
    np.testing.assert_allclose(own.rmatvec(r), (X.T @ r)[touched], atol=1e-12)
