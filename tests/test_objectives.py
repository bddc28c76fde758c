"""Gradients against automatic and finite differences on every layout of features; blocks; the built-in data."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, strategies as st
from scipy import special, stats
from sklearn import linear_model, svm
from sklearn.metrics import roc_auc_score

from erasurehead_jax import (
    AbstractObjective,
    ConfigError,
    Dataset,
    Dense,
    FractionalRepetition,
    Huber,
    LeastSquares,
    Logistic,
    OneHot,
    Poisson,
    Rows,
    Softmax,
    SquaredHinge,
)
from erasurehead_jax.data import AbstractFeatures, Mixed, Sparse, block_bounds, synthetic
from erasurehead_jax.data.features import DENSE_CATEGORIES, SplitOneHot
from erasurehead_jax.data.synthetic import true_model

M = 83
UNUSED = 2  # columns of each field without an entry
FIELDS = {
    "one category": (1,),
    "low": (1, 2, DENSE_CATEGORIES),
    "high": (DENSE_CATEGORIES + 1, 60),
    "mixed": (1, 2, DENSE_CATEGORIES, DENSE_CATEGORIES + 1, 60),
}
K = 3
OBJECTIVES = [Logistic(), SquaredHinge(), LeastSquares(), Huber(delta=0.5), Poisson(), Softmax(classes=K)]


def one_hot(sizes: tuple[int, ...]) -> OneHot:
    """One-hot fields with exactly these numbers of categories present, scattered among unused columns."""
    rng, index, columns = np.random.default_rng(0), [], 0
    for size in sizes:
        present = columns + np.sort(rng.permutation(size + UNUSED)[:size])
        index.append(present[rng.permutation(M) % size])
        columns += size + UNUSED
    return OneHot(np.array(index), columns)


def restricted(features: OneHot) -> SplitOneHot:
    return features.restrict(features.touched())


def matrix_of(features: OneHot) -> np.ndarray:
    matrix = np.zeros((features.rows, features.dim))
    for field in np.asarray(features.index):
        matrix[np.arange(features.rows), field] = 1
    return matrix


FEATURES: dict[str, tuple[AbstractFeatures, np.ndarray]] = {}
for name, sizes in FIELDS.items():
    features = one_hot(sizes)
    FEATURES[f"one-hot, {name}"] = features, matrix_of(features)
    FEATURES[f"split, {name}"] = restricted(features), matrix_of(features)[:, features.touched()]
normal = np.random.default_rng(1).standard_normal((M, 7))
FEATURES["dense"] = Dense(normal), normal
scattered = sp.csr_matrix(normal @ np.ones((7, 40)) * (np.random.default_rng(8).random((M, 40)) < 0.1))
both = Mixed((Dense(normal), one_hot(FIELDS["mixed"]), Sparse.from_scipy(scattered)))
columns = both.touched()
assert columns is not None
FEATURES["side by side"] = both, np.hstack([normal, matrix_of(one_hot(FIELDS["mixed"])), scattered.toarray()])
FEATURES["side by side, split"] = both.restrict(columns), FEATURES["side by side"][1][:, columns]

every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
every_layout = pytest.mark.parametrize(("features", "matrix"), FEATURES.values(), ids=FEATURES)
LAYOUTS = ["dense", "one-hot, mixed", "split, mixed"]
# every layout for one and for several scores a row, and three layouts for the other objectives
CASES = [(each, layout) for each in OBJECTIVES for layout in (FEATURES if each in OBJECTIVES[::5] else LAYOUTS)]
every_case = pytest.mark.parametrize(
    ("objective", "layout"), CASES, ids=[f"{type(each).__name__}, {layout}" for each, layout in CASES]
)


def problem(features: AbstractFeatures, objective: AbstractObjective = OBJECTIVES[0]):
    """Rows with targets for the objective (signs, codes or counts), a point, and row weights of both signs."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal(features.dim * (K if isinstance(objective, Softmax) else 1))
    x *= 0.1 if isinstance(objective, Poisson) else 1  # it is exponentiated
    row_weights = rng.standard_normal(features.rows)
    targets = {Softmax: rng.integers(K, size=features.rows), Poisson: rng.poisson(1, features.rows)}
    target = targets.get(type(objective), rng.choice([-1.0, 1.0], features.rows))
    return Rows(features, target), jnp.asarray(x), jnp.asarray(row_weights)


@functools.cache
def jitted_gradient(objective: AbstractObjective):
    return jax.jit(objective.gradient)


@every_layout
def test_products_are_those_of_the_matrix(features: AbstractFeatures, matrix: np.ndarray):
    x, r = np.random.default_rng(3).standard_normal(features.dim), np.random.default_rng(4).standard_normal(M)
    assert (features.rows, features.dim) == matrix.shape
    np.testing.assert_allclose(features.matvec(jnp.asarray(x)), matrix @ x, atol=1e-12)
    np.testing.assert_allclose(features.rmatvec(jnp.asarray(r)), matrix.T @ r, atol=1e-12)


@every_layout
def test_several_models_are_the_minor_axis(features: AbstractFeatures, matrix: np.ndarray):
    models = np.random.default_rng(5).standard_normal((features.dim, 3))
    np.testing.assert_allclose(features.matvec(jnp.asarray(models)), matrix @ models, atol=1e-12)


@every_layout
@pytest.mark.parametrize("rows", [slice(10, 31), np.array([5, 5, 0])], ids=["slice", "numbers"])
def test_taken_rows_are_rows_of_the_matrix(features: AbstractFeatures, matrix: np.ndarray, rows):
    x = jnp.asarray(np.random.default_rng(6).standard_normal(features.dim))
    np.testing.assert_allclose(features.take(rows).matvec(x), matrix[rows] @ x, atol=1e-12)


@every_case
def test_gradient_is_the_derivative_of_the_row_losses(objective: AbstractObjective, layout: str):
    rows, x, row_weights = problem(FEATURES[layout][0], objective)

    @jax.jit
    def loss(x: jax.Array) -> jax.Array:
        return (row_weights * objective.row_losses(x, rows)).sum()

    gradient = jax.jit(objective.gradient)(x, rows, row_weights)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(loss))(x), rtol=1e-12, atol=1e-11)
    direction, h = jnp.asarray(np.random.default_rng(7).standard_normal(len(x))), 1e-5
    difference = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("objective", "layout"),
    [(each, "dense") for each in OBJECTIVES] + [(OBJECTIVES[-1], layout) for layout in LAYOUTS[1:]],
)
def test_several_models_are_as_one_by_one(objective: AbstractObjective, layout: str):
    rows, x, row_weights = problem(FEATURES[layout][0], objective)
    models, weights = jnp.stack([x, 2 * x, -x], axis=1), jnp.stack([row_weights] * 3, axis=1)
    same = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-11)
    together = [f(models, rows) for f in (objective.row_losses, objective.predict)]
    gradients = objective.gradient(models, rows, weights)
    for i, each in enumerate(models.T):
        same(together[0][..., i], objective.row_losses(each, rows))
        same(together[1][..., i], objective.predict(each, rows))
        same(gradients[:, i], objective.gradient(each, rows, row_weights))


def test_row_losses_are_their_formulas():
    def losses(objective: AbstractObjective) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, x, _ = problem(FEATURES["dense"][0], objective)
        z = normal @ np.asarray(x).reshape(normal.shape[1], -1).squeeze()
        return np.asarray(objective.row_losses(x, rows)), np.asarray(rows.target), z

    same = functools.partial(np.testing.assert_allclose, rtol=1e-12)
    ours, y, z = losses(Logistic())
    same(ours, np.log(1 + np.exp(-y * z)))
    ours, y, z = losses(SquaredHinge())
    same(ours, np.clip(1 - y * z, 0, None) ** 2)
    ours, y, z = losses(LeastSquares())
    same(ours, (y - z) ** 2)
    ours, y, z = losses(Huber(delta=0.5))
    same(ours, special.huber(0.5, y - z))
    ours, y, z = losses(Poisson())
    same(ours + special.gammaln(y + 1), -stats.poisson.logpmf(y, np.exp(z)))
    ours, y, z = losses(Softmax(classes=K))
    same(ours, -special.log_softmax(z, axis=1)[np.arange(M), y])


@pytest.mark.parametrize(
    ("objective", "reference"),
    [
        (Logistic(), linear_model.LogisticRegression(C=1 / (2 * 0.01 * M), tol=1e-10, fit_intercept=False)),
        (SquaredHinge(), svm.LinearSVC(C=1 / (2 * 0.01 * M), tol=1e-10, fit_intercept=False)),
        (LeastSquares(), linear_model.Ridge(alpha=0.01 * M, fit_intercept=False)),
        (Poisson(), linear_model.PoissonRegressor(alpha=2 * 0.01, tol=1e-10, fit_intercept=False)),
        (Softmax(classes=K), linear_model.LogisticRegression(C=1 / (2 * 0.01 * M), tol=1e-10, fit_intercept=False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_minimum_is_that_of_scikit_learn(objective: AbstractObjective, reference):
    """The gradient of (1/N) sum of row losses + l2 ||x||^2 vanishes where scikit-learn's solver ends."""
    rows, x, _ = problem(FEATURES["dense"][0], objective)
    reference.fit(normal, np.asarray(rows.target))
    found = jnp.asarray(np.asarray(reference.coef_).reshape(-1, normal.shape[1]).T.reshape(-1))
    gradient = objective.gradient(found, rows, jnp.ones(M)) / M + 2 * 0.01 * found
    assert np.abs(gradient).max() < 1e-6 * np.abs(objective.gradient(0 * x, rows, jnp.ones(M))).max()
    predicted = objective.decide(objective.predict(found, rows), None)
    np.testing.assert_allclose(predicted, reference.predict(normal), rtol=1e-6)
    if (ours := objective.probabilities(objective.predict(found, rows))) is not None:
        np.testing.assert_allclose(ours, reference.predict_proba(normal), atol=1e-6)


@every_objective
@pytest.mark.parametrize("layout", ["one-hot, mixed", "side by side"])
def test_the_gradient_on_the_touched_coordinates_is_all_of_it(objective: AbstractObjective, layout: str):
    rows, x, row_weights = problem(FEATURES[layout][0], objective)
    touched = objective.touched(rows)
    assert touched is not None and (np.diff(touched) > 0).all()
    whole = np.asarray(objective.gradient(x, rows, row_weights))
    part = objective.gradient(x[touched], objective.restrict(rows, touched), row_weights)
    np.testing.assert_allclose(part, whole[touched], rtol=1e-12, atol=1e-11)
    np.testing.assert_array_equal(np.delete(whole, touched), 0)


def test_touched_coordinates():
    features = one_hot(FIELDS["mixed"])
    np.testing.assert_array_equal(Logistic().touched(Rows(features, np.ones(M))), np.unique(features.index))
    np.testing.assert_array_equal(features.take(slice(3)).touched(), np.unique(features.index[:, :3]))
    assert Logistic().touched(Rows(Dense(normal), np.ones(M))) is None
    assert Softmax(classes=K).touched(Rows(Dense(normal), np.ones(M))) is None


def test_all_classes_of_a_touched_column_are_touched():
    features = one_hot(FIELDS["mixed"])
    rows, x, _ = problem(features, OBJECTIVES[-1])
    weights = np.arange(len(x)).reshape(-1, K)
    touched = OBJECTIVES[-1].touched(rows)
    np.testing.assert_array_equal(touched, weights[np.unique(features.index)].reshape(-1))
    np.testing.assert_array_equal(OBJECTIVES[-1].params(jnp.arange(len(x), dtype=float)), weights)


@every_objective
def test_both_precisions_agree(objective: AbstractObjective):
    rows, x, row_weights = problem(FEATURES["dense"][0], objective)
    low = objective.gradient(x.astype(np.float32), rows, row_weights.astype(np.float32))
    assert low.dtype == np.float32 and objective.row_losses(x.astype(np.float32), rows).dtype == np.float32
    high = objective.gradient(x, rows, row_weights)
    np.testing.assert_allclose(low, high, atol=1e-5 * np.abs(high).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_objective
def test_extreme_margins_stay_finite(objective: AbstractObjective, dtype: type):
    margin = 50 if isinstance(objective, Poisson) else 1e4  # a mean of exp(1e4) is beyond any precision
    target = np.array([1.0, 1.0, 0, 0] if isinstance(objective, Poisson | Softmax) else [1.0, 1.0, -1.0, -1.0])
    rows = Rows(Dense(np.array([[margin], [-margin], [margin], [-margin]])), target)
    x = jnp.array([1, -1, 0] if isinstance(objective, Softmax) else [1], dtype)
    assert np.isfinite(objective.row_losses(x, rows)).all()
    assert np.isfinite(objective.gradient(x, rows, jnp.ones(4, dtype))).all()
    if (probabilities := objective.probabilities(objective.predict(x, rows))) is not None:
        np.testing.assert_allclose(probabilities.sum(1), 1)


def test_extreme_margins_cost_what_they_should():
    rows = Rows(Dense(np.array([[1e4], [-1e4]])), np.ones(2))
    np.testing.assert_allclose(Logistic().row_losses(jnp.ones(1), rows), [0, 1e4])
    np.testing.assert_allclose(Logistic().gradient(jnp.ones(1), rows, jnp.ones(2)), [1e4])


@given(st.data())
def test_every_row_is_in_one_block_of_nearly_equal_size(data: st.DataObject):
    rows = data.draw(st.integers(1, 2_000))
    bounds = block_bounds(rows, data.draw(st.integers(1, rows)))
    members = np.concatenate([np.arange(a, b) for a, b in itertools.pairwise(bounds)])
    np.testing.assert_array_equal(members, np.arange(rows))
    assert np.ptp(np.diff(bounds)) <= 1


def test_more_blocks_than_rows_are_refused():
    with pytest.raises(ConfigError, match=r"^blocks=4: must be at most the number of training rows, 3"):
        block_bounds(3, 4)


@every_objective
@pytest.mark.parametrize("stragglers", [(), (1, 3), (2, 3)], ids=["nobody late", "decodable", "a group lost"])
def test_messages_add_up_to_weighted_blocks(objective: AbstractObjective, stragglers: tuple[int, ...]):
    code = FractionalRepetition(10, 10, 2)
    rows, x, _ = problem(one_hot(FIELDS["mixed"]), objective)
    bounds, gradient = block_bounds(M, code.blocks), jitted_gradient(objective)
    assert M % code.blocks
    parts = np.split(np.arange(M), bounds[1:-1])
    blocks = np.array([gradient(x, rows.take(part), jnp.ones(len(part))) for part in parts])
    a = np.asarray(code.weights(~np.isin(np.arange(10), stragglers)))
    row_shares = np.repeat(code.G @ a, np.diff(bounds))
    whole = gradient(x, rows, jnp.asarray(row_shares))
    np.testing.assert_allclose(a @ (code.G.T @ blocks), whole, rtol=1e-12, atol=1e-11)


@every_objective
def test_blocks_sum_to_the_full_gradient(objective: AbstractObjective):
    """Sorted by their targets, most blocks lack a class."""
    rows, x, _ = problem(one_hot(FIELDS["mixed"]), objective)
    rows = Rows(rows.features, np.sort(rows.target))
    gradient = jitted_gradient(objective)
    parts = np.split(np.arange(M), block_bounds(M, 10)[1:-1])
    summed = sum(gradient(x, rows.take(part), jnp.ones(len(part))) for part in parts)
    np.testing.assert_allclose(summed, gradient(x, rows, jnp.ones(M)), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("objective", [Logistic("normal"), Softmax("normal", K)])
def test_starting_points(objective: AbstractObjective):
    data, key = synthetic(50, 2, 3), jax.random.key(0)
    np.testing.assert_array_equal(Logistic().init(key, data), np.zeros(data.dim))
    np.testing.assert_array_equal(objective.init(key, data), objective.init(key, data))
    assert not np.isin(objective.init(key, data), objective.init(jax.random.key(1), data)).any()


def margins(data: Dataset, split_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The true model's z on the training and the test rows."""
    x = jnp.asarray(true_model(data.dim, split_seed))
    return np.asarray(data.train.features.matvec(x)), np.asarray(data.test.features.matvec(x))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_synthetic_sizes(task, dense: bool):
    data = synthetic(rows=103, fields=4, categories=9, task=task, dense=dense)
    assert (len(data.train), len(data.test)) == (83, 20)
    assert data.dim == data.test.features.dim == (5 if dense else 37)
    assert data.train.target.shape == (83,)


@pytest.mark.parametrize("dense", [False, True])
def test_synthetic_is_a_function_of_its_split_seed(dense: bool):
    first, again, other = (synthetic(200, 3, 5, dense=dense, split_seed=seed) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.train.target, other.train.target)
    probe = jnp.arange(first.dim, dtype=float)
    assert not np.array_equal(first.train.features.matvec(probe), other.train.features.matvec(probe))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("split_seed", [0, 1])
def test_the_true_model_beats_chance(split_seed: int, dense: bool):
    data = synthetic(5_000, 10, 50, dense=dense, split_seed=split_seed)
    assert roc_auc_score(data.test.target, margins(data, split_seed)[1]) > 0.8


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_regression_targets_are_the_scaled_margins_and_noise(noise: float):
    data = synthetic(5_000, 10, 50, task="regression", noise=noise)
    z = np.concatenate(margins(data))
    residual = np.concatenate([data.train.target, data.test.target]) - (z - z.mean()) / z.std()
    assert stats.kstest(residual, stats.norm(0, noise).cdf).pvalue > 0.01


def test_categories_are_zipf_like_within_their_own_columns():
    fields, categories, rows = 3, 12, 10_000
    data = synthetic(rows, fields, categories)
    assert isinstance(data.train.features, OneHot) and isinstance(data.test.features, OneHot)
    index = np.concatenate([data.train.features.index, data.test.features.index], axis=1)
    frequency = 1 / np.arange(1, categories + 1)
    for f in range(fields):
        counts = np.bincount(index[f] - f * categories, minlength=categories)
        assert stats.chisquare(counts, rows * frequency / frequency.sum()).pvalue > 0.01
    np.testing.assert_array_equal(index[fields], fields * categories)


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ({"rows": 1}, r"data\.rows=1: must be a whole number, at least"),
        ({"fields": 0}, r"data\.fields=0: must be a whole number, at least 1"),
        ({"categories": 1}, r"data\.categories=1: must be a whole number, at least 2"),
        ({"noise": 0.0}, r"data\.noise=0\.0: must be a finite number, above 0"),
        ({"noise": float("nan")}, r"data\.noise=nan: must be a finite number, above 0"),
    ],
)
def test_bad_sizes_are_refused(setting: dict, rule: str):
    with pytest.raises(ConfigError, match=f"^{rule}"):
        synthetic(**setting)
