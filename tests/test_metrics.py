"""The evaluator against scikit-learn, iterate by iterate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error, roc_auc_score

from erasurehead_jax import AbstractObjective, Dataset, Dense, LeastSquares, Logistic, Rows
from erasurehead_jax.data import synthetic
from erasurehead_jax.rundir.metrics import BATCH, evaluator, why_no_metric

LABELS = {dense: synthetic(300, 3, 6, dense=dense) for dense in (False, True)}
NUMBERS = synthetic(300, 3, 6, task="regression")


def iterates(count: int, dim: int, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, dim)).astype(dtype)


def scores(x: np.ndarray, rows: Rows) -> np.ndarray:
    return np.asarray(rows.features.matvec(jnp.asarray(x, np.float64)))


def classified(x: np.ndarray, data: Dataset) -> dict[str, float]:
    def mean_loss(rows: Rows) -> float:
        return float(log_loss(rows.target, 1 / (1 + np.exp(-scores(x, rows)))))

    auc = float(roc_auc_score(data.test.target, scores(x, data.test)))
    return {"train_loss": mean_loss(data.train), "test_loss": mean_loss(data.test), "test_auc": auc}


def regressed(x: np.ndarray, data: Dataset) -> dict[str, float]:
    train, test = (float(mean_squared_error(rows.target, scores(x, rows))) for rows in (data.train, data.test))
    return {"train_loss": train, "test_loss": test, "test_mse": test}


def assert_same(metrics: list[dict[str, float]], expected: list[dict[str, float]], rtol: float) -> None:
    assert len(metrics) == len(expected)
    for ours, theirs in zip(metrics, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-10), (np.float32, 1e-4)])
@pytest.mark.parametrize(
    ("objective", "data", "reference"),
    [
        (Logistic(), LABELS[False], classified),
        (Logistic(), LABELS[True], classified),
        (LeastSquares(), NUMBERS, regressed),
    ],
    ids=["one-hot labels", "dense labels", "numbers"],
)
def test_metrics_are_those_of_scikit_learn(objective: AbstractObjective, data: Dataset, reference, dtype, rtol: float):
    x = iterates(3, data.dim, dtype)
    assert_same(evaluator(objective, data)(iter([x])), [reference(each, data) for each in x], rtol)


def test_batches_of_any_size_give_one_dict_an_iterate_in_order():
    sizes = [1, BATCH, 3, BATCH - 1]
    x = iterates(sum(sizes), NUMBERS.dim)
    metrics = evaluator(LeastSquares(), NUMBERS)(np.split(x, np.cumsum(sizes)[:-1]))
    test = NUMBERS.test
    expected = ((test.target - np.asarray(test.features.matvec(jnp.asarray(x.T))).T) ** 2).mean(1)
    np.testing.assert_allclose([each["test_mse"] for each in metrics], expected, rtol=1e-10)


def test_batches_of_any_size_share_one_compilation():
    traces = []

    class Counted(LeastSquares):
        def predict(self, x, rows):
            traces.append(x.shape)
            return super().predict(x, rows)

    evaluate = evaluator(Counted(), NUMBERS)
    evaluate([iterates(BATCH, NUMBERS.dim)])
    first = len(traces)
    evaluate([iterates(size, NUMBERS.dim) for size in (2, 3, 7)])
    assert len(traces) == first
    evaluate([iterates(1, NUMBERS.dim)])  # alone, as between rounds
    first = len(traces)
    evaluate([iterates(1, NUMBERS.dim)] * 2)
    assert len(traces) == first


def test_nothing_to_evaluate_is_nothing():
    assert evaluator(LeastSquares(), NUMBERS)([]) == []


@pytest.mark.parametrize("target", [-1.0, 1.0])
def test_auc_of_a_single_class_is_nan(target: float):
    data = LABELS[True]
    one_class = Dataset("one class", data.train, Rows(data.test.features, np.full(len(data.test), target)))
    (metrics,) = evaluator(Logistic(), one_class)([iterates(1, data.dim)])
    assert np.isnan(metrics["test_auc"])
    assert np.isfinite([metrics["train_loss"], metrics["test_loss"]]).all()


@pytest.mark.parametrize(("target", "name"), [(-1.0, "-1"), (1.0, "+1")])
def test_why_there_is_no_auc_is_one_line(target: float, name: str):
    data = LABELS[True]
    one_class = Dataset("one class", data.train, Rows(data.test.features, np.full(len(data.test), target)))
    line = (
        f"data=one class: the test AUC cannot be computed, because all {len(data.test)} test rows are of class {name}"
    )
    assert why_no_metric(Logistic(), one_class) == line + "; it needs rows of both classes"
    assert why_no_metric(LeastSquares(), one_class) is None and why_no_metric(Logistic(), data) is None


def test_a_diverged_iterate_has_no_auc():
    data = LABELS[True]
    good, bad = evaluator(Logistic(), data)([np.stack([np.ones(data.dim), np.full(data.dim, np.nan)])])
    assert np.isfinite(list(good.values())).all()
    assert np.isnan(list(bad.values())).all()


def test_losses_of_float32_runs_are_summed_in_float64():
    rows = 200_000
    constant = Rows(Dense(np.ones((rows, 1), np.float32)), np.full(rows, 0.1, np.float32))
    x = np.zeros((1, 1), np.float32)
    (metrics,) = evaluator(LeastSquares(), Dataset("constant", constant, constant))([x])
    loss = np.asarray(jax.jit(LeastSquares().row_losses)(x[0], constant), np.float64)[0]
    assert metrics["train_loss"] == pytest.approx(loss, rel=1e-12)
