"""Models of users as objectives: parameters as one vector, gradients, both backends, and their mistakes."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import SMALL, train
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from scipy.special import expit, softmax
from test_objectives import FEATURES, FIELDS, one_hot
from user_models import Convolution, Flax, Plain, Signs

from erasurehead_jax import (
    MLP,
    ByCode,
    ConfigError,
    Dataset,
    Decodable,
    Dense,
    FractionalRepetition,
    Metric,
    Model,
    NoDelay,
    Rows,
    Scheme,
)
from erasurehead_jax.data import AbstractFeatures
from erasurehead_jax.objectives import METRICS, memory
from erasurehead_jax.optimizers import gd
from erasurehead_jax.reports.runs import load_runs
from erasurehead_jax.rundir.files import history_columns
from erasurehead_jax.rundir.metrics import evaluator
from erasurehead_jax.rundir.targets import SLACK
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.simulation.engine import Simulation
from erasurehead_jax.simulation.rounds import Point

M, K = 83, 3
IMAGES = np.random.default_rng(0).standard_normal((M, 8, 8)).astype(np.float32)
CODES = np.random.default_rng(1).permutation(np.arange(M) % K)
NUMBERS = np.random.default_rng(2).standard_normal(M)


def dataset(features: AbstractFeatures, target: np.ndarray) -> Dataset:
    rows = Rows(features, target)
    return Dataset("mine", rows.take(slice(60)), rows.take(slice(60, M)))


def bound(model: Any, data: Dataset) -> tuple[Model, Dataset]:
    """The objective and the data as a job has them."""
    objective = Model(model)
    data = objective.check(data)
    objective = objective.bind(data)
    objective.try_out(data)
    return objective, data


def flax() -> Flax:
    pytest.importorskip("flax")
    return Flax()


MODELS = {
    "plain": (Plain, dataset(Dense(IMAGES.reshape(M, -1)), CODES)),
    "plain, one-hot": (Plain, dataset(one_hot(FIELDS["mixed"]), CODES)),
    "plain, numbers": (Plain, dataset(one_hot(FIELDS["mixed"]), NUMBERS)),
    "signs": (Signs, dataset(one_hot(FIELDS["mixed"]), CODES > 0)),
    "equinox": (Convolution, dataset(Dense(IMAGES), CODES)),
    "flax": (flax, dataset(Dense(IMAGES), CODES)),
    "perceptron": (MLP, dataset(Dense(IMAGES), CODES)),
    "perceptron, one-hot": (lambda: MLP((4, 3), "gelu"), dataset(one_hot(FIELDS["mixed"]), CODES)),
    "perceptron, side by side": (lambda: MLP((4,)), dataset(FEATURES["side by side"][0], CODES)),
    "perceptron, numbers": (lambda: MLP((4,), "tanh"), dataset(one_hot(FIELDS["mixed"]), NUMBERS)),
}


@pytest.mark.parametrize(
    ("name", "x64"),
    [(name, True) for name in MODELS] + [("plain", False), ("flax", False), ("perceptron, one-hot", False)],
)
def test_gradients_are_those_of_the_model_by_itself(name: str, x64: bool):
    """For one model and for several, in either precision."""
    with jax.enable_x64(x64):
        make, data = MODELS[name]
        objective, data = bound(make(), data)
        dtype, rtol = (np.dtype(np.float64), 1e-10) if x64 else (np.dtype(np.float32), 1e-3)
        weights = np.linspace(-1, 2, len(data.train)).astype(dtype)

        @jax.jit
        def one(key, rows):
            params = jax.tree.map(lambda leaf: leaf.astype(dtype), objective.model.init(key, data))
            features, target = rows.features.inputs(dtype), rows.target
            target = target if objective.targets == "classes" else target.astype(dtype)
            by_itself = jax.grad(lambda params: (weights * objective.model.loss(params, features, target)).sum())
            x, expected = objective.init(key, data), ravel_pytree(by_itself(params))[0]
            return params, objective.params(x), x, expected, objective.row_losses(x, rows)

        params, same, x, expected, loss = one(jax.random.key(3), data.train)
        jax.tree.map(np.testing.assert_array_equal, params, same)
        models, model_weights = np.stack([x, 0 * x, x], 1), np.stack([weights, weights, -weights], 1)
        gradient = jax.jit(objective.gradient)(x, data.train, weights)
        gradients = jax.jit(objective.gradient)(models, data.train, model_weights)
        losses = jax.jit(objective.row_losses)(models, data.train)
        assert {each.dtype for each in (x, gradient, gradients, losses)} == {dtype}
        within = {"atol": rtol * np.abs(expected).max()}
        np.testing.assert_allclose(gradient, expected, **within)
        np.testing.assert_allclose(gradients[:, 0], expected, **within)
        np.testing.assert_allclose(gradients[:, 2], -np.asarray(expected), **within)
        np.testing.assert_allclose(losses[:, 2], loss, rtol=10 * rtol)


@pytest.mark.parametrize("name", ["plain, one-hot", "equinox"])
def test_parts_of_the_rows_sum_to_the_gradient(name: str, monkeypatch: pytest.MonkeyPatch):
    make, data = MODELS[name]
    objective, data = bound(make(), data)
    x = np.stack(
        jax.jit(lambda keys: [objective.init(key, data) for key in keys])(jax.random.split(jax.random.key(0))), 1
    )
    weights = np.linspace(-1, 2, 2 * len(data.train)).reshape(-1, 2)
    whole = jax.jit(objective.gradient)(x, data.train, weights)
    a_row = memory.AT_ONCE / memory.rows_at_once(objective.row_losses, x, data.train)
    monkeypatch.setattr("erasurehead_jax.objectives.model.FEW", 0)
    monkeypatch.setattr(memory, "AT_ONCE", round(7.5 * a_row))
    in_parts = jax.jit(lambda x, rows, weights: objective.gradient(x, rows, weights))
    assert "length=9" in str(in_parts.trace(x, data.train, weights).jaxpr)  # 60 rows, 7 at a time
    np.testing.assert_allclose(in_parts(x, data.train, weights), whole, rtol=1e-10, atol=1e-10)


def test_seeds_side_by_side_are_trained_as_one_by_one():
    """On two devices, with starting points that differ."""
    objective, data = bound(Plain(), MODELS["plain, one-hot"][1])
    scheme = Scheme(FractionalRepetition(6, 6, 2), Decodable(), ByCode())
    point = Point(scheme, NoDelay(), "cancel", optimizer=Partial(gd, step_size=0.1), l2=1e-3)
    simulation = Simulation(data, objective, [point], jax.devices())
    batch, runs = simulation.begin([0, 0], [3, 4])
    runs, *_ = simulation.advance(batch, runs, 4)

    @jax.jit
    def step(x):
        loss = lambda x: objective.row_losses(x, data.train).mean() + 1e-3 * (x**2).sum()
        return x - 0.1 * jax.grad(loss)(x)

    for i, seed in enumerate((3, 4)):
        x = jax.jit(lambda key: objective.init(key, data))(run_keys(seed)[0])
        for _ in range(4):
            x = step(x)
        np.testing.assert_allclose(np.asarray(runs.x)[:, i], x, atol=1e-12)


# --- Scores and metrics


@pytest.mark.parametrize(
    ("name", "metric"),
    [("plain", "accuracy"), ("plain, numbers", "mse"), ("signs", "loss"), ("perceptron", "accuracy")],
)
def test_the_metric_follows_from_the_targets(name: str, metric: str):
    make, data = MODELS[name]
    objective, data = bound(make(), data)
    assert objective.metric == METRICS[metric]
    (scores,) = evaluator(objective, data)([np.zeros((1, len(objective.init(jax.random.key(0), data))))])
    assert list(scores) == [each for each in history_columns(metric) if "_loss" in each or each == f"test_{metric}"]
    assert np.isfinite(list(scores.values())).all()


def test_a_model_is_bound_to_a_single_blank_row():
    """As when a finished run is loaded: what `check` decided shows in the classes, and not in the targets."""
    for name, kind in (("plain, numbers", "numbers"), ("plain, one-hot", "classes"), ("signs", "signs")):
        make, data = MODELS[name]
        objective, data = bound(make(), data)
        blank = Rows(data.train.features.take(slice(1)), np.zeros(1))
        again = Model(make()).bind(Dataset("blank", blank, blank, data.classes))
        assert again.targets == objective.targets == kind
        assert jax.tree.map(jnp.shape, again.template) == jax.tree.map(jnp.shape, objective.template)


def test_a_model_may_bring_its_own_metric():
    class Judged(Plain):
        metric = Metric("hits", True, lambda target, scores: (scores.argmax(1) == target[:, None]).sum(0))

    class Named(Plain):
        metric = "auc"
        targets = "classes"

    images = Dense(IMAGES.reshape(M, -1))
    objective, data = bound(Judged(), dataset(images, CODES))
    x = np.asarray(jax.jit(lambda key: objective.init(key, data))(jax.random.key(0)))
    hits = evaluator(objective, data)([x[None]])[0]["test_hits"]
    assert hits == (np.asarray(objective.predict(jnp.asarray(x), data.test)).argmax(1) == data.test.target).sum()
    assert bound(Named(), dataset(images, CODES > 0))[0].metric == METRICS["auc"]


def test_what_people_are_shown():
    names = np.array(["red", "green", "blue"])[CODES]
    objective, data = bound(Plain(), dataset(Dense(IMAGES.reshape(M, -1)), names))
    logits = np.array([[0.0, 1, -1], [2, 0, 1]])
    assert objective.decide(logits, data.classes).tolist() == ["green", "blue"]
    np.testing.assert_allclose(np.asarray(objective.probabilities(logits)), softmax(logits, axis=1))
    objective, data = bound(Plain(), MODELS["plain, numbers"][1])
    np.testing.assert_array_equal(objective.decide(NUMBERS, data.classes), NUMBERS)
    assert objective.probabilities(NUMBERS) is None
    signs, data = bound(Signs(), MODELS["signs"][1])
    assert signs.decide(np.array([0.1, -3]), data.classes).tolist() == [True, False]
    likely = np.asarray(signs.probabilities(np.array([0.1, -3])))
    np.testing.assert_allclose(likely, [[expit(-0.1), expit(0.1)], [expit(3), expit(-3)]])


# --- The perceptron


def test_the_starting_point_is_a_function_of_the_key_and_the_same_in_both_precisions():
    found = {}
    for x64 in (False, True):
        with jax.enable_x64(x64):
            for name in ("perceptron", "perceptron, one-hot"):
                make, data = MODELS[name]
                objective, data = bound(make(), data)
                starts = [np.asarray(objective.init(jax.random.key(seed), data)) for seed in (0, 0, 1)]
                np.testing.assert_array_equal(starts[0], starts[1])
                assert not (starts[0] == starts[2]).any()
                np.testing.assert_array_equal(found.setdefault(name, starts[0]), starts[0])


@pytest.mark.parametrize(
    "features",
    [Dense(255 * np.abs(IMAGES)), one_hot((60, 60, 60)), FEATURES["side by side"][0], Dense(np.zeros((M, 2)))],
)
def test_the_first_layer_starts_at_the_scale_of_the_data(features: AbstractFeatures):
    """Pre-activations are of order 1, for bright pixels as for a few ones in many columns."""
    _, data = bound(MLP((50,)), dataset(features, CODES))
    layer = MLP((50,)).init(jax.random.key(0), data)[0]
    z = np.asarray(data.train.features.matvec(layer.weight))
    assert 0.3 < z.std() < 1 or not z.any()


# --- Mistakes


def net(**methods: Any) -> Any:
    return type("Net", (Plain,), methods)()


def counts(key: Any, dataset: Dataset) -> Any:
    return {"steps": [jnp.zeros(2), jnp.arange(3)]}


MISTAKES = {
    "no loss": (net(loss=None), "has no method loss(params, features, target), which a model needs"),
    "no init": (net(init=0), "has no method init(key, dataset), which a model needs"),
    "metric": (net(metric="f1"), "metric=f1: must be one of auc, accuracy, mse, mae, deviance, loss"),
    "metric object": (net(metric=3), "metric=3: must be a Metric, or one of auc, accuracy, mse"),
    "metric's shape": (
        net(metric=Metric("hits", True, lambda target, scores: (scores.argmax(1) == target[:, None]).sum())),
        "the score of its metric returned int64[] for scores of 2 models as their last axis; must be of shape (2,)",
    ),
    "targets": (net(targets="labels"), "targets=labels: must be one of classes, signs, numbers"),
    "mean": (
        net(loss=lambda self, params, features, target: jnp.zeros(())),
        "loss returned float64[] for 13 rows; must be of shape (13,), one loss a row and not their mean",
    ),
    "column": (
        net(loss=lambda self, params, features, target: jnp.zeros((len(target), 1))),
        "loss returned float64[13, 1] for 13 rows; must be of shape (13,)",
    ),
    "pair": (
        net(loss=lambda self, params, features, target: (jnp.zeros(len(target)), {})),
        "loss returned tuple for 13 rows; must be of shape (13,)",
    ),
    "whole": (
        net(loss=lambda self, params, features, target: target),
        "loss returned int32[13]; must be floats",
    ),
    "nan": (
        net(loss=lambda self, params, features, target: jnp.where(jnp.arange(len(target)) == 5, jnp.nan, 1.0)),
        "at the starting point the loss of training row 5 is nan; must be finite",
    ),
    "integers": (net(init=staticmethod(counts)), "the parameter params['steps'][1] is of type int64; must be floats"),
    "functions": (
        net(init=lambda self, key, dataset: [jnp.zeros(2), jax.nn.relu]),
        "the parameter params[1] is of type custom_jvp; must be floats (of an equinox model, return eqx.filter(model",
    ),
    "nothing": (net(init=lambda self, key, dataset: {}), "init returned no parameters; must return arrays of floats"),
    "width": (
        net(init=lambda self, key, dataset: Plain.init(self, key, dataset) | {"into": jnp.zeros((7, 5))}),
        "cannot be computed for features of shape (rows, 64): dot_general requires contracting dimensions to have the "
        "same shape, got (64,) and (7,); in init, use dataset.dim, which counts the constant column",
    ),
    "numpy": (
        net(init=lambda self, key, dataset: np.random.default_rng(int(key)).normal(size=3)),
        "init cannot be traced by JAX (",
    ),
    "probability": (
        net(predict=lambda self, params, features: jnp.zeros((len(features), 2))),
        "predict returned float64[13, 2] for 13 rows; must be (13, 3)",
    ),
    "single": (
        net(predict=lambda self, params, features: jnp.zeros(len(features))),
        "predict returned float64[13] for 13 rows; must be (13, 3)",
    ),
}


@pytest.mark.parametrize(("model", "why"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained_in_one_line(model: Any, why: str):
    with pytest.raises(ConfigError) as refused:
        bound(model, MODELS["plain"][1])
    line = str(refused.value)
    assert line.startswith("objective.model=Net") and why in line and "\n" not in line


def test_what_is_no_model_is_refused():
    for model, why in (
        ("mine.Net", r"write objective\.model\._target_=mine\.Net$"),
        (Plain, "is a class; give an instance"),
    ):
        with pytest.raises(ConfigError, match=why):
            Model(model)
    with pytest.raises(ConfigError, match=r"^objective\.model=Signs: has no method predict\(params, features\)"):
        Model(Signs()).predict(jnp.zeros(3), MODELS["signs"][1].test)
    metric_only = type("Net", (Signs,), {"metric": "auc"})()
    with pytest.raises(ConfigError, match="has a metric, but no method predict"):
        Model(metric_only)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"hidden": [0]}, r"objective\.model\.hidden=0: must be a whole number, at least 1"),
        ({"activation": "step"}, r"objective\.model\.activation=step: must be one of relu, tanh"),
        ({"task": "both"}, r"objective\.model\.task=both: must be classification, regression or null"),
    ],
)
def test_bad_settings_of_the_perceptron_are_refused(settings: dict, why: str):
    with pytest.raises(ConfigError, match=why):
        MLP(**settings)


@pytest.mark.parametrize("kind", [KeyError, TypeError, ValueError])
def test_an_error_inside_a_model_keeps_its_traceback(kind: type[Exception]):
    def loss(self, params, features, target):
        raise kind("a bug of the user")

    with pytest.raises(kind, match="a bug of the user"):
        bound(net(loss=loss), MODELS["plain"][1])


def test_the_error_about_shapes_is_kept_and_images_have_none_of_the_constant_column():
    model = net(init=lambda self, key, dataset: {"into": jnp.zeros((7, 5))})
    with pytest.raises(ConfigError, match=r"features of shape \(rows, 8, 8\): dot_general .* and \(7,\)$") as refused:
        bound(model, dataset(Dense(IMAGES), CODES))
    assert isinstance(refused.value.__cause__, TypeError)
    with pytest.raises(ConfigError, match=r"features of shape \(rows, 106\): features @ W: W has shape \(7, 5\)"):
        bound(model, MODELS["plain, one-hot"][1])


def test_a_model_without_predictions_trains_and_is_reported(tmp_path: Path):
    model = ("+objective=model", "objective.model._target_=user_models.Signs")
    data = ("~data", "+data={_target_:user_code.drawn,kind:signs}")
    small = [each for each in SMALL if not each.startswith("data.")]
    run = train(tmp_path, *small, *data, *model, "backend=simulate", "compute_s=0.1", "target=0.65")
    assert run.status == 0, run.err
    assert list(run.history)[-2:] == ["train_loss", "test_loss"]
    assert run.summary["more_is_better"] is False and list(run.summary["final"]) == ["train_loss", "test_loss"]
    first = run.history.loc[run.history["test_loss"] <= 0.65 * (1 + SLACK), "clock_s"].min()
    assert run.summary["time_to_target_s"] == first
    (loaded,), _ = load_runs([run.run_dir])
    assert loaded.metric == "test_loss" and loaded.time_to(0.65) == pytest.approx(first)
    (tmp_path / "run").rename(tmp_path / "done")
    missing = train(tmp_path, *small, *data, "+objective=model")
    assert missing.err.strip() == "error: objective.model._target_=???: needs a value"
    absent = train(tmp_path, *small, *data, "+objective=model", "objective.model._target_=user_models.Sines")
    assert absent.err.strip().endswith("user_models has no 'Sines'; did you mean Signs?")
