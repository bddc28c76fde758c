"""The estimators against scikit-learn's own checks and models; pipelines, searches, both backends."""

import pickle
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from erasurehead_jax import CodedClassifier, CodedRegressor, ConfigError, Exponential, egc
from erasurehead_jax.errors import Diverged
from erasurehead_jax.preconditioning import safe_steps

CANCER: Any = load_breast_cancer()
IRIS: Any = load_iris()
DIABETES: Any = load_diabetes(scaled=False)
NAMED = np.array(["benign", "malignant"])[CANCER.target]


def logistic(l2: float, rows: int) -> LogisticRegression:
    return LogisticRegression(C=1 / (2 * l2 * rows), solver="newton-cholesky", tol=1e-8, max_iter=1000)


def compilations() -> list[str]:
    """The events of compilations from now on, until `jax.monitoring.clear_event_listeners`."""
    found: list[str] = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return found


@pytest.mark.parametrize("estimator", [CodedClassifier(), CodedRegressor()], ids=lambda each: type(each).__name__)
@pytest.mark.slow
def test_the_checks_of_scikit_learn(estimator: Any):
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = [
        (each["check_name"], each["exception"]) for each in results if each["status"] not in ("passed", "skipped")
    ]
    assert not failed
    assert sum(each["status"] == "passed" for each in results) > 50


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_raw_columns_give_the_auc_of_logistic_regression(sparse: bool):
    X, X_test, y, y_test = train_test_split(CANCER.data, NAMED, random_state=0)
    theirs = roc_auc_score(y_test, logistic(1e-3, len(y)).fit(X, y).decision_function(X_test))
    X, X_test = (csr_matrix(each) if sparse else each for each in (X, X_test))
    ours = CodedClassifier(random_state=0, l2=1e-3).fit(X, y)
    assert abs(roc_auc_score(y_test, ours.decision_function(X_test)) - theirs) < 0.005
    assert set(ours.predict(X_test)) == {"benign", "malignant"}


def test_several_classes_are_multinomial_regression():
    ours = CodedClassifier(random_state=0, l2=0.01, rounds=500).fit(IRIS.data, IRIS.target)
    theirs = LogisticRegression(C=1 / (2 * 0.01 * 150), tol=1e-10, max_iter=10_000).fit(IRIS.data, IRIS.target)
    np.testing.assert_allclose(ours.predict_proba(IRIS.data), theirs.predict_proba(IRIS.data), atol=1e-6)
    assert ours.coef_.shape == (3, 4) and ours.intercept_.shape == (3,)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_the_model_is_that_of_ridge(intercept: bool, sparse: bool):
    X = DIABETES.data if intercept else StandardScaler().fit_transform(DIABETES.data)
    theirs = Ridge(alpha=1.0, fit_intercept=intercept).fit(X, DIABETES.target)  # l2 is 1/N by default
    given = csr_matrix(X) if sparse else X
    quick, slow = (
        CodedRegressor(fit_intercept=intercept, rounds=rounds).fit(given, DIABETES.target) for rounds in (100, 500)
    )
    assert abs(quick.score(given, DIABETES.target) - theirs.score(X, DIABETES.target)) < 1e-3
    np.testing.assert_allclose(slow.coef_, theirs.coef_, rtol=1e-6)
    assert slow.intercept_ == pytest.approx(theirs.intercept_, rel=1e-6)


def test_the_intercept_is_not_penalised():
    X, y = DIABETES.data, DIABETES.target
    always = CodedClassifier(l2=1e6).fit(X, y > 100)
    assert always.predict_proba(X)[:, 1] == pytest.approx((y > 100).mean(), abs=1e-3)
    X = StandardScaler().fit_transform(X) + 0.1  # not centred
    model = CodedRegressor(l2=1.0, optimizer=optax.sgd(0.05), rounds=500).fit(X, y)
    np.testing.assert_allclose(model.predict(X), Ridge(alpha=len(y)).fit(X, y).predict(X), rtol=1e-9)


@given(
    data=st.integers(0, 1000),
    rows=st.integers(5, 60),
    columns=st.integers(1, 8),
    l2=st.sampled_from([0.0, 1e-3, 10.0]),
    intercept=st.booleans(),
    sparse=st.booleans(),
)
@settings(max_examples=60)
def test_no_step_is_too_long_and_few_are_much_too_short(
    data: int, rows: int, columns: int, l2: float, intercept: bool, sparse: bool
):
    """The eigenvalues of T D T' H / L are those of gradient descent with a step of 1: at most 1."""
    random = np.random.default_rng(data)
    X = random.standard_normal((rows, columns)) * 10.0 ** random.integers(-4, 4, columns)
    X += random.choice([0.0, 100.0]) * X.std(0)
    X[:, 0] = 7.0  # constant
    X = np.column_stack([X, np.ones(rows)]) if intercept else X
    penalty, mean, size = safe_steps(csr_matrix(X) if sparse else X, 2.0, l2, intercept)
    H = 2 * X.T @ X / rows + np.diag(penalty)
    T = np.eye(len(mean))
    T[-1] -= mean
    largest = np.linalg.eigvals(T @ np.diag(size) @ T.T @ H).real.max()
    assert 0.7 < largest <= 1.0
    assert (size[0] == 0) == intercept
    assert list(penalty) == [2 * l2] * (len(penalty) - intercept) + [0.0] * intercept


def test_neither_scale_nor_offset_of_a_column_matters():
    X, y = CANCER.data[:, :6], CANCER.target
    raw, standard = (CodedClassifier(random_state=0, l2=0.0, rounds=20) for _ in range(2))
    Z = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(raw.fit(X, y).predict_proba(X), standard.fit(Z, y).predict_proba(Z), atol=1e-9)


def mixed_frame(rows: int = 600) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "age": np.where(random.random(rows) < 0.1, np.nan, random.integers(18, 90, rows)),
            "income": random.lognormal(10, 1, rows),
            "city": random.choice(["Athens", "Lima", "Oslo"], rows),
            "member": random.random(rows) < 0.5,
        }
    )
    odds = (frame["age"].fillna(50) - 50) / 15 + 2 * (frame["city"] == "Lima") - frame["member"]
    return frame, np.where(random.logistic(size=rows) < odds, "yes", "no")


def test_a_search_in_a_pipeline_on_a_mixed_frame():
    frame, y = mixed_frame()
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city", "member"]),
    )
    model = CodedClassifier(workers=6, random_state=0, delay=Exponential(0.5), l2=1e-3)
    grid = {"codedclassifier__load": [1, 2], "codedclassifier__wait_for": [3, 6]}
    search = GridSearchCV(make_pipeline(columns, model), grid, cv=2, scoring="roc_auc")
    search.fit(frame[:400], y[:400])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    theirs = make_pipeline(columns, logistic(1e-3, 400)).fit(frame[:400], y[:400])
    aucs = [roc_auc_score(y[400:], each.decision_function(frame[400:])) for each in (search, theirs)]
    assert abs(aucs[0] - aucs[1]) < 0.005
    assert set(search.predict(frame)) == {"yes", "no"}


def test_the_history_tells_schemes_apart():
    def history(scheme: str, wait_for: int | None = None) -> Any:
        sizes: dict[str, Any] = {"workers": 6, "load": 2, "wait_for": wait_for}
        model = CodedClassifier(scheme, **sizes, delay=Exponential(0.1), random_state=0)
        return model.fit(CANCER.data, NAMED).history_

    found = {name: history(name, 3 if name in ("erasurehead", "ignore_stragglers") else None) for name in SCHEMES}
    clock_s = {name: each["clock_s"].iloc[-1] for name, each in found.items()}
    assert clock_s["erasurehead"] < clock_s["egc"] < clock_s["uncoded"]
    assert found["uncoded"]["exact"].all() and found["egc"]["exact"].all()
    assert (found["egc"]["waited"] < 6).any() and (found["uncoded"]["waited"] == 6).all()
    assert not found["erasurehead"]["exact"].all() and (found["erasurehead"]["waited"] <= 3).all()
    assert ((found["ignore_stragglers"]["decode_error"] > 0) & ~found["ignore_stragglers"]["exact"]).all()
    assert list(found["egc"]["round"]) == list(range(100))


SCHEMES = ("erasurehead", "egc", "uncoded", "ignore_stragglers")


def test_exact_schemes_train_the_same_model():
    schemes = [("uncoded", 4), ("egc_cyclic", 3), (egc(workers=8, load=4), 99)]  # a scheme has its own workers
    coefs = []
    for scheme, workers in schemes:
        model = CodedRegressor(scheme, workers=workers, delay=Exponential(1.0), random_state=0, rounds=20)
        coefs.append(model.fit(DIABETES.data, DIABETES.target).coef_)
    np.testing.assert_allclose(coefs[1:], [coefs[0], coefs[0]], rtol=1e-9)


def test_mini_batches_and_an_optimizer_of_ones_own():
    X, y = StandardScaler().fit_transform(CANCER.data), NAMED
    model: Any = CodedClassifier(batch=0.2, optimizer=optax.adam(0.05), random_state=3, l2=0.0)
    coef = model.fit(X, y).coef_
    assert model.score(X, y) > 0.95
    same: Any = clone(model)
    np.testing.assert_array_equal(same.fit(X, y).coef_, coef)
    assert (same.set_params(random_state=4).fit(X, y).coef_ != coef).any()


def test_fits_to_data_of_one_shape_compile_once_and_differ():
    X, y = DIABETES.data, DIABETES.target
    CodedRegressor(rounds=300, random_state=0).fit(X, y)
    compiled = compilations()
    try:
        for scale, l2 in ((1.0, 1e-3), (5.0, 0.1), (5.0, 3.0)):
            ours = CodedRegressor(rounds=300, random_state=1, l2=l2).fit(scale * X, y**0.5)
            theirs = Ridge(alpha=l2 * len(y)).fit(scale * X, y**0.5)
            np.testing.assert_allclose(ours.predict(scale * X), theirs.predict(scale * X), rtol=1e-6)
        assert not compiled
        CodedRegressor(rounds=300, random_state=0).fit(X[1:], y[1:])
        assert compiled
    finally:
        jax.monitoring.clear_event_listeners()


def test_a_pickled_model_predicts():
    model = CodedClassifier(delay=Exponential(0.5), random_state=0).fit(IRIS.data, IRIS.target_names[IRIS.target])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(IRIS.data), model.predict_proba(IRIS.data))
    assert again.score(IRIS.data, IRIS.target_names[IRIS.target]) > 0.9
    pd.testing.assert_frame_equal(again.history_, model.history_)


def test_columns_have_names():
    frame: Any = load_iris(as_frame=True)
    model: Any = CodedClassifier(rounds=5).fit(frame.data, frame.target)
    assert list(model.feature_names_in_) == frame.feature_names and model.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.data[frame.feature_names[::-1]])


@pytest.mark.parametrize(
    "setting, rule",
    [
        ({"scheme": "erasurhead"}, "scheme=erasurhead: unknown; did you mean erasurehead?"),
        ({"scheme": "erasurehead", "load": 3}, "load=3: must divide blocks=4"),
        ({"workers": 0}, "workers=0: must be a whole number, at least 1"),
        ({"workers": 200}, "workers=200: 200 blocks, but 150 rows; use fewer workers"),
        ({"wait_for": 0}, "wait_for=0: must be a whole number, at least 1"),
        ({"wait_for": 9}, "wait_for=9: must lie between 1 and workers=4"),
        ({"rounds": 0}, "rounds=0: must be a whole number, at least 1"),
        ({"l2": -1.0}, "l2=-1.0: must be a finite number, 0 or more"),
        ({"batch": 99}, "batch=99: must be at most 37"),
        ({"backend": "cloud"}, "backend=cloud: must be simulate or mpi"),
        ({"delay": 0.5}, r"delay=0.5: must be a straggler model, such as Exponential\(0.5\)"),
        ({"optimizer": "adam"}, "optimizer=adam: must be an optax transformation"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_parameters_that_do_not_fit_are_refused(setting: dict[str, Any], rule: str):
    with pytest.raises(ConfigError, match=rule):
        CodedClassifier().set_params(**setting).fit(IRIS.data, IRIS.target)


def test_numbers_of_numpy_will_do():
    found = [CodedClassifier(random_state=0), CodedClassifier(random_state=0)]
    found[1].set_params(workers=np.int64(4), load=np.int32(2), rounds=np.int64(100), l2=np.float64(1 / 150))
    coefs = [each.fit(IRIS.data, IRIS.target).coef_ for each in found]
    np.testing.assert_array_equal(coefs[0], coefs[1])


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ConfigError, match="y: all 150 targets are of class 1; must be of two or more"):
        CodedClassifier().fit(IRIS.data, np.ones(150, int))
    with pytest.raises(Diverged, match="smaller steps"):
        CodedRegressor(optimizer=optax.sgd(1e6), rounds=200).fit(DIABETES.data, DIABETES.target)


@pytest.mark.mpi
@pytest.mark.parametrize("estimator", [CodedClassifier, CodedRegressor])
@pytest.mark.slow
def test_real_ranks_train_the_same_model(estimator: Any):
    X, y = (IRIS.data, IRIS.target) if estimator is CodedClassifier else (DIABETES.data, DIABETES.target)
    settings: dict[str, Any] = {"rounds": 10, "random_state": 0, "batch": 0.5, "delay": Exponential(0.001)}
    simulated, real = (estimator("egc", **settings, backend=backend).fit(X, y) for backend in ("simulate", "mpi"))
    np.testing.assert_allclose(real.coef_, simulated.coef_, rtol=1e-10)
    np.testing.assert_allclose(real.intercept_, simulated.intercept_, rtol=1e-10)
    assert list(real.history_) == list(simulated.history_) and all(real.history_["exact"])
