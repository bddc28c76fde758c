"""Gradients against automatic and finite differences on every layout of features; blocks; the built-in data."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from erasurehead_jax import (
    AbstractObjective,
    ConfigError,
    Dataset,
    Dense,
    FractionalRepetition,
    LeastSquares,
    Logistic,
    OneHot,
    Rows,
)
from erasurehead_jax.data import AbstractFeatures, block_bounds, synthetic
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
OBJECTIVES = [Logistic(), LeastSquares()]


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

every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
every_layout = pytest.mark.parametrize(("features", "matrix"), FEATURES.values(), ids=FEATURES)


def problem(features: AbstractFeatures) -> tuple[Rows, jax.Array, jax.Array]:
    """Rows with targets -1 and +1, a point, and row weights of both signs."""
    rng = np.random.default_rng(2)
    x, row_weights = rng.standard_normal(features.dim), rng.standard_normal(features.rows)
    return Rows(features, rng.choice([-1.0, 1.0], features.rows)), jnp.asarray(x), jnp.asarray(row_weights)


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


@every_objective
@every_layout
def test_gradient_is_the_derivative_of_the_row_losses(
    objective: AbstractObjective, features: AbstractFeatures, matrix: np.ndarray
):
    rows, x, row_weights = problem(features)

    @jax.jit
    def loss(x: jax.Array) -> jax.Array:
        return (row_weights * objective.row_losses(x, rows)).sum()

    gradient = jax.jit(objective.gradient)(x, rows, row_weights)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(loss))(x), atol=1e-11)
    direction, h = jnp.asarray(np.random.default_rng(7).standard_normal(features.dim)), 1e-5
    difference = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
    np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-6, atol=1e-7)


@every_objective
@pytest.mark.parametrize("layout", ["dense", "one-hot, mixed", "split, mixed"])
def test_row_losses_of_several_models(objective: AbstractObjective, layout: str):
    rows, x, _ = problem(FEATURES[layout][0])
    together = objective.row_losses(jnp.stack([x, 2 * x, -x], axis=1), rows)
    one_by_one = [objective.row_losses(scale * x, rows) for scale in (1, 2, -1)]
    np.testing.assert_allclose(together.T, one_by_one, atol=1e-12)


def test_row_losses_are_their_formulas():
    rows, x, _ = problem(FEATURES["dense"][0])
    y, z = np.asarray(rows.target), normal @ np.asarray(x)
    np.testing.assert_allclose(Logistic().row_losses(x, rows), np.log(1 + np.exp(-y * z)), rtol=1e-12)
    np.testing.assert_allclose(LeastSquares().row_losses(x, rows), (y - z) ** 2, rtol=1e-12)


@every_objective
@pytest.mark.parametrize("sizes", FIELDS.values(), ids=FIELDS)
def test_the_gradient_on_the_touched_coordinates_is_all_of_it(objective: AbstractObjective, sizes: tuple[int, ...]):
    rows, x, row_weights = problem(one_hot(sizes))
    touched = objective.touched(rows)
    assert touched is not None
    whole = np.asarray(objective.gradient(x, rows, row_weights))
    part = objective.gradient(x[touched], rows.restrict(touched), row_weights)
    np.testing.assert_allclose(part, whole[touched], atol=1e-11)
    np.testing.assert_array_equal(np.delete(whole, touched), 0)


def test_touched_coordinates():
    features = one_hot(FIELDS["mixed"])
    np.testing.assert_array_equal(Logistic().touched(Rows(features, np.ones(M))), np.unique(features.index))
    np.testing.assert_array_equal(features.take(slice(3)).touched(), np.unique(features.index[:, :3]))
    assert Logistic().touched(Rows(Dense(normal), np.ones(M))) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_objective
def test_extreme_margins_stay_finite(objective: AbstractObjective, dtype: type):
    rows = Rows(Dense(np.array([[1e4], [-1e4], [1e4], [-1e4]])), np.array([1.0, 1.0, -1.0, -1.0]))
    x = jnp.ones(1, dtype)
    assert np.isfinite(objective.row_losses(x, rows)).all()
    assert np.isfinite(objective.gradient(x, rows, jnp.ones(4, dtype))).all()


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
    rows, x, _ = problem(one_hot(FIELDS["mixed"]))
    bounds, gradient = block_bounds(M, code.blocks), jitted_gradient(objective)
    assert M % code.blocks
    parts = np.split(np.arange(M), bounds[1:-1])
    blocks = np.array([gradient(x, rows.take(part), jnp.ones(len(part))) for part in parts])
    a = np.asarray(code.weights(~np.isin(np.arange(10), stragglers)))
    row_shares = np.repeat(code.G @ a, np.diff(bounds))
    np.testing.assert_allclose(a @ (code.G.T @ blocks), gradient(x, rows, jnp.asarray(row_shares)), atol=1e-11)


@every_objective
def test_blocks_sum_to_the_full_gradient(objective: AbstractObjective):
    rows, x, _ = problem(one_hot(FIELDS["mixed"]))
    gradient = jitted_gradient(objective)
    parts = np.split(np.arange(M), block_bounds(M, 10)[1:-1])
    summed = sum(gradient(x, rows.take(part), jnp.ones(len(part))) for part in parts)
    np.testing.assert_allclose(summed, gradient(x, rows, jnp.ones(M)), atol=1e-11)


def test_logistic_refuses_numbers_as_targets():
    numbers, signs = synthetic(50, task="regression"), synthetic(50)
    with pytest.raises(
        ConfigError, match=r"^data=synthetic: training row 0, target: .* is not a class; logistic needs"
    ):
        Logistic().check(numbers)
    Logistic().check(signs)
    LeastSquares().check(numbers)


@pytest.mark.parametrize("objective", [Logistic("normal"), LeastSquares("normal")])
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
