"""Encoders: what was learned from the training rows turns other rows into features, also after it was saved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from test_table import matrix, saved, shop

from erasurehead_jax import Dataset, array_dataset, load_encoder, table_dataset
from erasurehead_jax.data.encoder import AbstractEncoder
from erasurehead_jax.errors import ConfigError

GRID = np.arange(40.0).reshape(20, 2)
LABELS = np.arange(20) % 2
UNSEEN = pytest.mark.filterwarnings("ignore:.*were not seen in training")


def encoder_of(dataset: Dataset) -> AbstractEncoder:
    assert dataset.encoder is not None
    return dataset.encoder


MADE = {
    "table": (table_dataset(shop(), "bought"), shop(9, seed=3)),
    "array": (array_dataset(GRID, LABELS), GRID[:3]),
    "images": (array_dataset(np.zeros((20, 3, 3), np.uint8), LABELS), np.ones((2, 3, 3))),
    "sparse": (array_dataset(scipy.sparse.csr_array(GRID), LABELS), scipy.sparse.csr_array(GRID[:3])),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_saved_encoder_gives_the_same_features(tmp_path: Path, kind: str):
    dataset, more = MADE[kind]
    encoder = encoder_of(dataset)
    encoder.save(tmp_path / "encoder.json")
    again = load_encoder(tmp_path / "encoder.json")
    assert type(again) is type(encoder) and again != encoder and hash(again) != hash(encoder)
    np.testing.assert_array_equal(matrix(again.features(more)), matrix(encoder.features(more)))
    blank = again.blank()
    assert (len(blank), blank.dim) == (1, dataset.dim)
    assert type(blank) is type(dataset.train.features)


@UNSEEN
def test_rows_of_another_file_in_another_order_are_the_same_rows(tmp_path: Path):
    frame = shop()
    encoder = encoder_of(table_dataset(frame, "bought"))
    path = saved(frame[["member", "city", "age", "income"]], tmp_path / "more.csv")  # without the target
    np.testing.assert_allclose(matrix(encoder.features(encoder.read(path))), matrix(encoder.features(frame)), atol=1e-9)


def test_what_was_never_seen_has_the_place_of_the_rare(tmp_path: Path):
    frame = shop()
    encoder = encoder_of(table_dataset(frame, "bought", min_frequency=20))
    rare = frame["city"].value_counts().index[-1]
    rows = frame.iloc[[0, 0]].assign(city=["Atlantis", rare])
    with pytest.warns(UserWarning, match=r"^column city: 1 of 2 values \(Atlantis\) were not seen in training"):
        unseen, pooled = matrix(encoder.features(rows))
    np.testing.assert_array_equal(unseen, pooled)
    assert unseen[3:].sum() == 2


@UNSEEN
def test_numbers_that_are_categories_are_the_same_with_missing_values_beside_them():
    """pandas reads 3 as 3.0 in a column with missing values."""
    frame = pd.DataFrame({"zip": [1, 2, 3, 4] * 10, "y": ["a", "b"] * 20})
    encoder = encoder_of(table_dataset(frame, "y", categorical=["zip"]))
    with_gap = pd.DataFrame({"zip": [3.0, np.nan]})
    np.testing.assert_array_equal(matrix(encoder.features(with_gap))[0], matrix(encoder.features(frame))[2])


@pytest.mark.parametrize(
    ("kind", "rows", "why"),
    [
        ("table", shop()[["age", "member"]], r"column income, city: not in the table; must have the columns of"),
        ("table", shop().assign(age="old"), r"column age, row 0 \(counted from 0\): 'old' must be a number"),
        ("array", np.zeros((2, 3)), r"X: rows of shape \(3,\); must be \(2,\), as in the training data"),
        ("array", np.full((2, 2), np.inf), r"X, row 0, column 0: inf must be a finite number"),
        ("sparse", scipy.sparse.csr_array((2, 9)), r"X: 9 columns; must be 2, as in the training data"),
    ],
)
def test_other_columns_are_named(kind: str, rows, why: str):
    with pytest.raises(ConfigError, match=f"^{why}"):
        encoder_of(MADE[kind][0]).features(rows)


@pytest.mark.parametrize("other", [[0, 1], [0.0, None], ["0", "1"]])
def test_true_and_false_may_be_digits(other: list[Any]):
    frame = pd.DataFrame({"member": [True, False, None, True] * 10, "y": ["a", "b"] * 20})
    encoder = encoder_of(table_dataset(frame, "y"))
    same = {"0": False, "1": True}
    words = [None if value is None else same[str(int(value))] for value in other]
    expected = matrix(encoder.features(pd.DataFrame({"member": words})))
    np.testing.assert_array_equal(matrix(encoder.features(pd.DataFrame({"member": other}))), expected)
    assert len(set(map(tuple, expected.tolist()))) == 2


def test_values_and_columns_that_training_has_not_seen_are_warned_of():
    frame = shop()[["age", "member", "bought"]]
    encoder = encoder_of(table_dataset(frame, "bought"))
    with pytest.warns(UserWarning) as warned:
        made = matrix(encoder.features(frame.assign(member=["yes", None] * 200, extra=1, more=2)))
    assert [str(each.message) for each in warned] == [
        "column extra, more: not in the training data; it is ignored",
        "column member: 400 of 400 values (missing, yes) were not seen in training (False, True); they count as "
        "unknown",
    ]
    np.testing.assert_array_equal(made[:, 2:], [[0, 0, 1]] * 400)


@UNSEEN
def test_a_dropped_column_may_be_there_or_not():
    frame = shop()
    encoder = encoder_of(table_dataset(frame, "bought", drop=["age"]))
    made = matrix(encoder.features(frame.drop(columns=["age", "bought"])))
    np.testing.assert_array_equal(made, matrix(encoder.features(frame)))


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"kind": "TableEncoder"}), '{"kind": "eval"}'])
def test_a_damaged_file_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "encoder.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"^{path}: is not an encoder, or is damaged"):
        load_encoder(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_encoder(tmp_path / "none.json")
