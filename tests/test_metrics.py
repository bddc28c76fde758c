"""The evaluator against scikit-learn, iterate by iterate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import huber, softmax
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    mean_poisson_deviance,
    mean_squared_error,
    roc_auc_score,
)

from erasurehead_jax import AbstractObjective, Dataset, Dense, Huber, LeastSquares, Logistic, Poisson, Rows, Softmax
from erasurehead_jax.data import synthetic
from erasurehead_jax.objectives import METRICS, memory
from erasurehead_jax.rundir.metrics import BATCH, block_losses, doubts, evaluator, iterates_at_once, why_no_metric

K = 4
LABELS = {dense: synthetic(300, 3, 6, dense=dense) for dense in (False, True)}
NUMBERS = synthetic(300, 3, 6, task="regression")


def retargeted(draw: Callable[[np.random.Generator, int], np.ndarray]) -> Dataset:
    """The one-hot data set with other targets."""
    rng, data = np.random.default_rng(0), LABELS[False]
    train, test = (Rows(rows.features, draw(rng, len(rows))) for rows in (data.train, data.test))
    return Dataset("other targets", train, test)


COUNTS = retargeted(lambda rng, rows: rng.poisson(2, rows))
CLASSES = Softmax().check(retargeted(lambda rng, rows: rng.integers(K, size=rows)))


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


def counted(x: np.ndarray, data: Dataset) -> dict[str, float]:
    z = [scores(x, rows) for rows in (data.train, data.test)]
    losses = [(np.exp(each) - rows.target * each).mean() for each, rows in zip(z, (data.train, data.test), strict=True)]
    deviance = float(mean_poisson_deviance(data.test.target, np.exp(z[1])))
    return {"train_loss": losses[0], "test_loss": losses[1], "test_deviance": deviance}


def sorted_out(x: np.ndarray, data: Dataset) -> dict[str, float]:
    def mean_loss(rows: Rows) -> float:
        return float(log_loss(rows.target, softmax(logits(rows), axis=1), labels=range(K)))

    def logits(rows: Rows) -> np.ndarray:
        return scores(x.reshape(-1, K), rows)

    accuracy = float(accuracy_score(data.test.target, logits(data.test).argmax(1)))
    return {"train_loss": mean_loss(data.train), "test_loss": mean_loss(data.test), "test_accuracy": accuracy}


def robust(x: np.ndarray, data: Dataset) -> dict[str, float]:
    train, test = (float(huber(1.0, rows.target - scores(x, rows)).mean()) for rows in (data.train, data.test))
    mae = float(mean_absolute_error(data.test.target, scores(x, data.test)))
    return {"train_loss": train, "test_loss": test, "test_mae": mae}


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
        (Huber(), NUMBERS, robust),
        (Poisson(), COUNTS, counted),
        (Softmax(classes=K), CLASSES, sorted_out),
    ],
    ids=["one-hot labels", "dense labels", "numbers", "robust", "counts", "classes"],
)
def test_metrics_are_those_of_scikit_learn(objective: AbstractObjective, data: Dataset, reference, dtype, rtol: float):
    x = 0.3 * iterates(3, data.dim * (K if isinstance(objective, Softmax) else 1), dtype)
    assert_same(evaluator(objective, data)(iter([x])), [reference(each, data) for each in x], rtol)


def test_batches_of_any_size_give_one_dict_an_iterate_in_order():
    sizes = [1, BATCH, 3, BATCH - 1]
    x = iterates(sum(sizes), NUMBERS.dim)
    metrics = evaluator(LeastSquares(), NUMBERS)(np.split(x, np.cumsum(sizes)[:-1]))
    test = NUMBERS.test
    expected = ((test.target - np.asarray(test.features.matvec(jnp.asarray(x.T))).T) ** 2).mean(1)
    np.testing.assert_allclose([each["test_mse"] for each in metrics], expected, rtol=1e-10)


@pytest.mark.parametrize("rest", [1, 2, 5])
def test_the_last_batch_of_a_run_that_ended_early_has_the_same_scores(rest: int):
    """Bit for bit: a resumed run has all of the batch."""
    evaluate, x = evaluator(Logistic(), LABELS[True]), iterates(BATCH, LABELS[True].dim)
    assert evaluate([x[:rest]]) == evaluate([x])[:rest]


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
    evaluate([iterates(1, NUMBERS.dim)], 1)  # alone, as between rounds
    first = len(traces)
    evaluate([iterates(1, NUMBERS.dim)] * 2, 1)
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


@pytest.mark.parametrize("rows", [0.01, 1, 7, 10])
def test_parts_of_the_rows_and_of_the_models_change_nothing(rows: float, monkeypatch: pytest.MonkeyPatch):
    """Down to one row and one model at a time."""
    objective, x = Softmax(classes=K), iterates(5, CLASSES.dim * K)
    whole, blocks = evaluator(objective, CLASSES)([x]), block_losses(objective, CLASSES, x[0], 7)
    a_row = memory.AT_ONCE / memory.rows_at_once(objective.row_losses, jnp.asarray(x.T), CLASSES.train)
    monkeypatch.setattr(memory, "AT_ONCE", int(rows * a_row))
    monkeypatch.setattr("erasurehead_jax.rundir.metrics.AT_ONCE", int(rows * a_row))
    few = iterates_at_once(x.shape[1])
    assert_same(evaluator(objective, CLASSES)(x[i : i + few] for i in range(0, len(x), few)), whole, 1e-12)
    np.testing.assert_allclose(block_losses(objective, CLASSES, x[0], 7), blocks, rtol=1e-12)


def test_parts_share_one_compilation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "AT_ONCE", 20_000)
    evaluate = evaluator(Softmax(classes=K), CLASSES)
    x = iterates(BATCH, CLASSES.dim * K)
    evaluate([x])
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))
    try:
        evaluate([x, x[:3]])
        assert not [event for event in events if "backend_compile" in event]
    finally:
        jax.monitoring.clear_event_listeners()


def test_few_iterates_of_a_large_model_are_evaluated_together():
    assert iterates_at_once(1_000) == BATCH
    assert iterates_at_once(2 * memory.AT_ONCE) == 1
    assert 1 < iterates_at_once(memory.AT_ONCE // 5) < BATCH


def test_metrics_say_which_direction_is_better():
    assert {name: metric.more_is_better for name, metric in METRICS.items()} == {
        **dict.fromkeys(["auc", "accuracy"], True),
        **dict.fromkeys(["mse", "mae", "deviance", "loss"], False),
    }


def test_metrics_of_two_classes_take_a_margin_or_two_logits():
    rng = np.random.default_rng(0)
    signs, margin = rng.choice([-1.0, 1.0], 50), rng.standard_normal((50, 3))
    logits = np.stack([-margin, margin], axis=1)
    for name in ("auc", "accuracy"):
        score = METRICS[name].score
        np.testing.assert_array_equal(score(signs, margin), score((signs > 0).astype(int), logits))
        np.testing.assert_array_equal(score(signs, margin), score((signs > 0).astype(int), margin))


@pytest.mark.parametrize("name", ["auc", "accuracy", "mse", "mae", "deviance"])
def test_scores_that_are_not_finite_have_no_metric(name: str):
    scores = np.array([[0.5, np.nan], [0.1, 0.2]])
    found = METRICS[name].score(np.array([0, 1]), scores)
    assert np.isfinite(found[0]) and np.isnan(found[1])


def test_a_deviance_of_a_mean_of_zero_is_infinite():
    assert METRICS["deviance"].score(np.array([1, 0]), np.zeros((2, 1))) == np.inf
    assert METRICS["deviance"].score(np.array([0, 0]), np.zeros((2, 1))) == 0


def test_an_untested_class_is_a_doubt():
    test = Rows(CLASSES.test.features, np.zeros(len(CLASSES.test), int))
    (doubt,) = doubts(Softmax(classes=K), Dataset("mine", CLASSES.train, test, CLASSES.classes))
    assert doubt == "data=mine: no test row is of class 1, 2, 3, so the test metric says nothing about it"
    assert doubts(Softmax(classes=K), CLASSES) == []


def test_losses_of_float32_runs_are_summed_in_float64():
    rows = 200_000
    constant = Rows(Dense(np.ones((rows, 1), np.float32)), np.full(rows, 0.1, np.float32))
    x = np.zeros((1, 1), np.float32)
    (metrics,) = evaluator(LeastSquares(), Dataset("constant", constant, constant))([x])
    loss = np.asarray(jax.jit(LeastSquares().row_losses)(x[0], constant), np.float64)[0]
    assert metrics["train_loss"] == pytest.approx(loss, rel=1e-12)
