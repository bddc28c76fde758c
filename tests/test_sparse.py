"""Sparse and mixed features against SciPy matrices, whole, restricted, taken apart and differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import sparse

from erasurehead_jax.data import AbstractFeatures, Dense, Mixed, OneHot, Rows, Sparse
from erasurehead_jax.data.features import segments
from erasurehead_jax.data.features.batch import PaddedSparse, SomeRows
from erasurehead_jax.objectives import Logistic

M = 61


def power_law(rows: int, columns: int, entries: int, seed: int = 0) -> sparse.csr_array:
    """Real-valued rows of different lengths, some of them empty, with a few frequent columns and many rare ones."""
    rng = np.random.default_rng(seed)
    lengths = rng.geometric(1 / entries, rows) - 1
    row = np.repeat(np.arange(rows), lengths)
    column = (columns * rng.random(len(row)) ** 3).astype(int)
    return sparse.coo_array((rng.standard_normal(len(row)), (row, column)), (rows, columns)).tocsr()


def of_matrix(matrix: sparse.csr_array) -> tuple[AbstractFeatures, np.ndarray]:
    return Sparse.from_scipy(matrix), matrix.toarray()


def packed(matrix: sparse.csr_array) -> tuple[AbstractFeatures, np.ndarray]:
    features = Sparse.from_scipy(matrix)
    return features.restrict(features.touched()), matrix.toarray()[:, features.touched()]


def in_many_groups(matrix: sparse.csr_array) -> tuple[AbstractFeatures, np.ndarray]:
    """A group for every length of segments, as large matrices have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "LEAST", 1)
        return packed(matrix)


def mixed() -> tuple[Mixed, np.ndarray]:
    rng = np.random.default_rng(3)
    dense, words = rng.standard_normal((M, 3)), power_law(M, 40, 5)
    index = np.stack([rng.integers(0, 9, M), 9 + rng.integers(0, 70, M)])
    hot = np.zeros((M, 79))
    for field in index:
        hot[np.arange(M), field] = 1
    parts = (Dense(dense), OneHot(index, 79), Sparse.from_scipy(words))
    return Mixed(parts), np.column_stack([dense, hot, words.toarray()])


def restricted_mixed() -> tuple[AbstractFeatures, np.ndarray]:
    features, matrix = mixed()
    touched = features.touched()
    assert touched is not None
    return features.restrict(touched), matrix[:, touched]


LAYOUTS = {
    "sparse": of_matrix(power_law(M, 50, 6)),
    "packed": packed(power_law(M, 50, 6)),
    "packed, rows and columns of several segments": packed(power_law(M, 300, 200)),
    "packed, in many groups": in_many_groups(power_law(M, 60, 60)),
    "packed, one row": packed(power_law(1, 5000, 4000)),
    "packed, one column": packed(power_law(400, 1, 2)),
    "packed, empty": packed(sparse.csr_array((M, 4))),
    "mixed": mixed(),
    "mixed, restricted": restricted_mixed(),
}
every_layout = pytest.mark.parametrize(("features", "matrix"), LAYOUTS.values(), ids=LAYOUTS)


@every_layout
@pytest.mark.parametrize("models", [(), (3,), (2, 3)], ids=str)
def test_products_are_those_of_the_matrix(features: AbstractFeatures, matrix: np.ndarray, models: tuple[int, ...]):
    rng = np.random.default_rng(0)
    x, r = rng.standard_normal((matrix.shape[1], *models)), rng.standard_normal((len(matrix), *models))
    assert (features.rows, len(features), features.dim) == (len(matrix), len(matrix), matrix.shape[1])
    np.testing.assert_allclose(jax.jit(lambda x: features @ x)(x), np.tensordot(matrix, x, 1), atol=1e-11)
    np.testing.assert_allclose(jax.jit(lambda r: features.rmatvec(r))(r), np.tensordot(matrix.T, r, 1), atol=1e-11)


@every_layout
def test_rows_are_taken_by_number_or_by_a_traced_number(features: AbstractFeatures, matrix: np.ndarray):
    rng = np.random.default_rng(1)
    x, numbers = rng.standard_normal(matrix.shape[1]), rng.integers(0, len(matrix), 7)
    r = rng.standard_normal(7)
    rows = Rows(features, np.arange(len(matrix)))

    def take(at):
        some = rows.take(at)
        return some.features @ x, some.features.rmatvec(r), some.target

    for z, g, target in (jax.jit(take)(numbers), jax.jit(lambda: take(numbers))()):  # traced, and as they are
        np.testing.assert_allclose(z, matrix[numbers] @ x, atol=1e-11)
        np.testing.assert_allclose(g, matrix[numbers].T @ r, atol=1e-11)
        np.testing.assert_array_equal(target, numbers)
    some = slice(len(matrix) // 3, len(matrix) // 2 + 1)
    np.testing.assert_allclose(rows.take(some).features @ x, matrix[some] @ x, atol=1e-11)


@every_layout
def test_what_is_computed_from_products_is_differentiated(features: AbstractFeatures, matrix: np.ndarray):
    rng = np.random.default_rng(2)
    x, target = rng.standard_normal(matrix.shape[1]), rng.choice([-1.0, 1.0], len(matrix))
    rows, weights = Rows(features, target), rng.standard_normal(len(matrix))
    expected = jax.grad(lambda x: (weights * Logistic().loss(matrix @ x, target)).sum())(x)
    loss = lambda x: (weights * Logistic().row_losses(x, rows)).sum()
    both = jax.jit(lambda x: (jax.grad(loss)(x), Logistic().gradient(x, rows, weights)))
    for gradient in both(x):
        np.testing.assert_allclose(gradient, expected, atol=1e-11)


def test_products_are_mapped_over():
    features, matrix = LAYOUTS["mixed, restricted"]
    x = np.random.default_rng(2).standard_normal((3, features.dim))
    np.testing.assert_allclose(jax.jit(jax.vmap(features.matvec))(x), x @ matrix.T, atol=1e-11)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 200))
def test_segments_are_the_matrix(seed: int, rows: int, columns: int, entries: int, least: int):
    matrix, x = power_law(rows, columns, entries, seed), np.random.default_rng(seed).standard_normal(columns)
    np.testing.assert_array_equal(Sparse.from_scipy(matrix).touched(), np.flatnonzero(abs(matrix).sum(0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "LEAST", least)
        made = segments.Segments.from_csr(matrix)
    source, sums = x, np.empty(0)
    for groups in made.levels:
        for group in groups:
            by_segment = np.moveaxis(np.asarray(group.value * source[group.index]), 1, 0)
            sums = np.append(sums, by_segment.reshape(group.segments, -1).sum(1))
        source = sums
    np.testing.assert_allclose(sums[made.place], matrix @ x, atol=1e-11)


def test_a_mini_batch_costs_its_own_rows_unless_one_row_is_very_long():
    equal = Sparse.from_scipy(sparse.csr_array(np.ones((M, 5))))
    one_long = Sparse.from_scipy(sparse.vstack([power_law(M, 50, 2), np.ones((1, 50))]))
    numbers = jnp.arange(M // 4)
    for features, kind in ((equal, PaddedSparse), (one_long, SomeRows)):
        assert isinstance(features.take(numbers), kind)
        assert isinstance(features.restrict(features.touched()).take(numbers), kind)


def test_mixed_parts_touch_their_own_columns():
    features, matrix = mixed()
    some = features.take(np.array([4, 8]))
    touched = some.touched()
    assert touched is not None and touched[:3].tolist() == [0, 1, 2]  # a dense part touches all of its columns
    np.testing.assert_array_equal(touched[3:], 3 + np.flatnonzero(matrix[[4, 8], 3:].any(0)))
    assert Mixed((Dense(matrix), Dense(matrix))).touched() is None


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (Sparse.from_scipy([[0.0, 1.0], [np.nan, 2.0]]), "row 1, column 0: nan must be a finite number"),
        (Sparse(np.ones(2), np.array([0, 7]), np.array([0, 1, 2]), 3, 1), "row 1: 7 must be a column, from 0 to 2"),
        (Sparse(np.array(["a"]), np.array([0]), np.array([0, 1]), 3, 1), "features: type <U1; must be numbers"),
        (
            Mixed((Dense(np.ones((2, 1))), OneHot(np.array([[0, 4]]), 2))),
            "row 1, field 0: 4 must be a column, from 0 to 1 (in part 1)",
        ),
        (Mixed((Dense(np.ones((2, 1))), Dense(np.ones((3, 1))))), "features: parts of 2, 3 rows; must be equal"),
    ],
)
def test_the_first_bad_value_is_described(features: AbstractFeatures, why: str):
    assert features.first_bad() == why
