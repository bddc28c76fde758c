"""Targets: two classes become signs, several become codes, counts and numbers are checked; each refusal is one line."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from user_code import with_targets

from erasurehead_jax import AbstractObjective, ConfigError, Dataset, Huber, LeastSquares, Logistic, Poisson, Softmax
from erasurehead_jax.data import are_classes, as_classes, as_signs, untested_classes


def targets_of(dataset: Dataset) -> np.ndarray:
    return np.concatenate([dataset.train.target, dataset.test.target])


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1, 1), (0, 1), (-1.0, 1.0), (0.0, 1.0), (False, True), ("no", "yes"), ("a", "b"), (1, 2), (0.5, 2.5)],
)
def test_two_classes_become_signs(low: Any, high: Any):
    signs = np.array([1.0, -1.0, -1.0, 1.0, -1.0])
    dataset = with_targets(np.where(signs > 0, high, low))
    made = Logistic().check(dataset)
    np.testing.assert_array_equal(targets_of(made), signs)
    assert made.train.features is dataset.train.features
    assert made.classes and made.classes == (low, high)
    assert [type(name) for name in made.classes] == [type(low), type(high)]
    again = as_signs(made)
    assert again.classes == made.classes
    np.testing.assert_array_equal(targets_of(again), signs)
    np.testing.assert_array_equal(targets_of(as_classes(made)), signs > 0)


@given(st.lists(st.sampled_from(["b", "a", "ccc", "10", "9"]) | st.sampled_from(["d"]), min_size=12, max_size=40))
def test_classes_become_codes_of_the_sorted_names(names: list[str]):
    names = ["a", "b", "ccc", "d", "9", "10", *names, "a", "b", "ccc", "d", "9", "10"]
    made = as_classes(with_targets(np.array(names)))
    assert made.classes and made.classes == ("10", "9", "a", "b", "ccc", "d")
    assert [made.classes[code] for code in targets_of(made)] == names


def test_numbers_of_classes_stay_numbers():
    made = as_classes(with_targets(np.array([7, 30, 7, -2, 30, 7])))
    assert made.classes == (-2, 7, 30)
    np.testing.assert_array_equal(targets_of(made), [1, 2, 1, 0, 2, 1])
    objects = as_classes(with_targets(np.array([3, 1, 2, 1, 3], object)))
    assert objects.classes == (1, 2, 3)


def test_a_data_set_with_classes_has_codes():
    features = with_targets(np.array([0, 2, 0, 2, 2]))
    made = as_classes(Dataset("mine", features.train, features.test, classes=("x", "y", "z")))
    assert made.classes == ("x", "y", "z")
    np.testing.assert_array_equal(targets_of(made), [0, 2, 0, 2, 2])
    with pytest.raises(ConfigError, match=r"^data=mine: target 2 is no code of one of its 2 classes$"):
        as_classes(Dataset("mine", features.train, features.test, classes=("x", "y")))


MANY = r"classes \(.*\); logistic needs two; for several classes use objective=softmax"


@pytest.mark.parametrize(
    ("objective", "targets", "why"),
    [
        (Logistic(), [1, 0, 2, 0, 1], f"the targets have 3 {MANY}"),
        (Logistic(), [1, -1, 0, 1, 1], f"the targets have 3 {MANY}"),
        (Logistic(), ["a", "b", "c", "a", "b"], f"the targets have 3 {MANY}"),
        (Logistic(), list(range(7)) * 3, f"the targets have 7 {MANY}"),
        (Logistic(), [1, 0, 1, 0, 0.5], "test row 0, target: 0.5 is not a class; logistic needs classes"),
        (Logistic(), ["a"] * 5, r"the targets have only one class \(a\); logistic needs two$"),
        (Logistic(), ["a"] * 4 + ["b"], "test row 0 is of class b, which no training row has; use another split"),
        (Softmax(), [1, 2, 1, 2, 3], "test row 0 is of class 3, which no training row has"),
        (Softmax(), [3.0] * 5, r"the targets have only one class \(3.0\); softmax needs two"),
        (Softmax(), [1, 0.5, 0.25, 1, 1], "training row 1, target: 0.5 is not a class; softmax needs classes"),
        (Softmax(), ["a", None, "a", "b", "a"], "training row 1, target: is missing; must be known$"),
        (Softmax(), ["a", "b", "a", "b", np.nan], "test row 0, target: is missing; must be known$"),
        (LeastSquares(), ["a", "b", "a", "b", "a"], r"training row 0, target: .*'a'.* must be a number \(for classes"),
        (Huber(), [2.5] * 5, "all 4 training targets are 2.5; must differ, or there is nothing to learn$"),
        (Poisson(), [0, 1, -1, 2, 3], "training row 2, target: -1 must be a count, 0, 1, 2 or more"),
        (Poisson(), [0, 1, 1, 2, 1.5], "test row 0, target: 1.5 must be a count"),
    ],
)
def test_targets_that_do_not_fit_are_refused(objective: AbstractObjective, targets: list, why: str):
    array = np.array(targets, object if None in targets or isinstance(targets[0], str) else None)
    with pytest.raises(ConfigError, match=f"^data=mine: {why}") as refused:
        objective.check(with_targets(array))
    assert "\n" not in str(refused.value)


def test_a_class_that_the_test_rows_lack_is_named():
    made = as_classes(with_targets(np.array(["a", "b", "c", "d", "a", "b", "c", "d", "a", "c"])))
    assert untested_classes(made) == (
        "data=mine: no test row is of class b, d, so the test metric says nothing about it"
    )
    assert untested_classes(as_classes(with_targets(np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])))) is None
    assert untested_classes(with_targets(np.array([0, 1, 0, 1, 0]))) is None


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        (["a", "b", "c"] * 5, True),
        ([True, False] * 5, True),
        ([1.5, 2.5] * 5, True),
        (list(range(10)) * 5, True),
        (list(range(500)), False),
        ([0.1, 0.2, 0.3] * 5, False),
    ],
)
def test_what_is_taken_for_classes(targets: list, classes: bool):
    assert are_classes(with_targets(np.array(targets))) == classes
