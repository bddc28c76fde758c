"""scikit-learn estimators: linear models that are trained by coded gradients, for pipelines and searches."""

from functools import lru_cache
from typing import Any, no_type_check

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy.sparse import hstack, issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from erasurehead_jax.data import AbstractFeatures, Dataset, Dense, Mixed, Rows, Sparse
from erasurehead_jax.delays import AbstractDelay, NoDelay
from erasurehead_jax.errors import ConfigError, Diverged, require_choice, require_number, require_whole
from erasurehead_jax.fitting import Fit, on_ranks, simulated
from erasurehead_jax.objectives import AbstractObjective, LeastSquares, Logistic, Softmax
from erasurehead_jax.objectives.labels import probabilities_of
from erasurehead_jax.preconditioning import accelerated, penalised, penalties, safe_steps
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.schemes import named_scheme

_named_scheme = lru_cache(named_scheme)  # which reads a file
TEST_ROWS = 100  # a run must have test rows; nobody looks at their metrics


class AbstractCoded(BaseEstimator):
    """A linear model that minimises the mean loss of the rows + l2 * ||W||^2, where W has no intercepts.

    - `scheme`: the name of a file in configs/scheme, for this number of `workers`, this `load` and, at most, this
      many workers to `wait_for` (None: all, and the gradient is exact); or a `Scheme`, which has its own.
    - `delay`: the straggler model (None: no delays).
    - `optimizer`: an optax transformation, or a function that makes one. None is Nesterov's method with steps that suit
      columns of any scale.
    - `rounds`: the number of gradient steps.
    - `l2`: the penalty (None: 1/N for N rows).
    - `batch`: mini-batches, as a share (0.1) or a number of the rows of each block (None: all rows).
    - `backend`: `simulate`, or `mpi` to start a process for each worker.
    - `fit_intercept`: whether the model has intercepts, which are not penalised.
    - `random_state`: determines which rows form a block, the delays and the mini-batches.

    After `fit`, `history_` has a row for each round: its end in seconds, the workers waited for, whether the gradient
    was exact, and the decode error.
    """

    coef_: Float[np.ndarray, "..."]
    intercept_: Any
    n_iter_: int
    history_: pd.DataFrame

    @no_type_check  # scikit-learn wants any value to be taken here, and refused by fit
    def __init__(
        self,
        scheme: str | Scheme = "erasurehead",
        *,
        workers: int = 4,
        load: int = 2,
        wait_for: int | None = None,
        delay: AbstractDelay | None = None,
        optimizer: Any = None,
        rounds: int = 100,
        l2: float | None = None,
        batch: float | int | None = None,
        backend: str = "simulate",
        fit_intercept: bool = True,
        random_state: Any = None,
    ):
        self.scheme = scheme
        self.workers = workers
        self.load = load
        self.wait_for = wait_for
        self.delay = delay
        self.optimizer = optimizer
        self.rounds = rounds
        self.l2 = l2
        self.batch = batch
        self.backend = backend
        self.fit_intercept = fit_intercept
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _checked(self, X: Any, y: Any, **more: Any) -> Any:
        return validate_data(self, X, y, accept_sparse="csr", dtype=np.float64, ensure_min_samples=2, **more)

    def _fit(
        self, X: Any, target: Shaped[np.ndarray, " m"], objective: AbstractObjective, curvature: float
    ) -> tuple[Float[np.ndarray, "columns outputs"], Float[np.ndarray, " outputs"]]:
        """Trains, and sets `n_iter_` and `history_`. Returns the coefficients and the intercepts.

        `curvature` is the largest second derivative of a row's loss with respect to its scores. Raises ConfigError for
        parameters that do not fit, and Diverged if the model is not finite.
        """
        random = check_random_state(self.random_state)
        order, seed = random.permutation(X.shape[0]), int(random.randint(2**31))  # blocks should be alike
        X = _with_ones(X[order]) if self.fit_intercept else X[order]
        rows = Rows(_features(X, self.fit_intercept), target[order])
        some = rows.take(np.unique(rows.target, return_index=True)[1][:TEST_ROWS])  # of every class
        fit = Fit(
            Dataset("arrays", rows, some),
            objective,
            self._made_scheme(X.shape[0]),
            NoDelay() if self.delay is None else self.delay,
            self._made_optimizer(X, curvature),
            _plain(self.rounds),
            _plain(self.batch),
            seed,
        )
        require_choice("backend", self.backend, ("simulate", "mpi"))
        require_whole("rounds", fit.rounds, 1)
        if not isinstance(fit.delay, AbstractDelay):
            raise ConfigError(f"delay={fit.delay}: must be a straggler model, such as Exponential(0.5)")
        x, self.history_ = (simulated if self.backend == "simulate" else on_ranks)(fit)
        if not np.isfinite(x).all():
            raise Diverged(f"the model after round {fit.rounds - 1} is not finite; use an optimizer with smaller steps")
        self.n_iter_, W = fit.rounds, x.reshape(X.shape[1], -1)
        return (W[:-1], W[-1]) if self.fit_intercept else (W, np.zeros(W.shape[1]))

    def _made_scheme(self, rows: int) -> Scheme:
        scheme = self.scheme
        if isinstance(scheme, str):
            sizes = {name: _plain(getattr(self, name)) for name in ("workers", "load", "wait_for")}
            for name, value in sizes.items():
                if name != "wait_for" or value is not None:
                    require_whole(name, value, 1)
            scheme = _named_scheme(scheme, **sizes)
        if not isinstance(scheme, Scheme):
            raise ConfigError(f"scheme={scheme}: must be a Scheme, or the name of a file in configs/scheme")
        if (blocks := scheme.code.blocks) > rows:
            raise ConfigError(f"workers={scheme.code.workers}: {blocks} blocks, but {rows} rows; use fewer workers")
        return scheme

    def _made_optimizer(self, X: Any, curvature: float) -> Any:
        l2 = 1 / X.shape[0] if self.l2 is None else _plain(self.l2)
        require_number("l2", l2)
        if self.optimizer is None:
            return accelerated(safe_steps(X, curvature, l2, self.fit_intercept))
        return penalised(self.optimizer, penalties(X.shape[1], l2, self.fit_intercept))

    def _scores(self, X: Any) -> Float[np.ndarray, "m *outputs"]:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False, dtype=np.float64)
        return safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_


class CodedClassifier(ClassifierMixin, AbstractCoded):
    """Logistic regression, or softmax regression for more than two classes, trained by coded gradients.

    The parameters are those of `AbstractCoded`. It is scikit-learn's LogisticRegression with C = 1 / (2 * l2 * N).
    """

    def fit(self, X: Any, y: Any) -> "CodedClassifier":
        """Trains on an array, a frame or a sparse matrix X (m, columns) and the classes y (m,).

        Raises ConfigError for parameters that do not fit each other or the data, and for a single class.
        """
        X, y = self._checked(X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if (K := len(self.classes_)) < 2:
            raise ConfigError(f"y: all {len(y)} targets are of class {self.classes_[0]}; must be of two or more")
        if K == 2:
            W, b = self._fit(X, np.where(codes, 1.0, -1.0), Logistic(), curvature=1 / 4)
        else:
            W, b = self._fit(X, codes, Softmax(classes=K), curvature=1 / 2)
        self.coef_, self.intercept_ = W.T, b
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "m *classes"]:
        """The log-odds of the second of two classes (m,), or the logits of each class (m, K)."""
        scores = self._scores(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> Float[np.ndarray, "m K"]:
        """The probability of each class, in the order of `classes_`."""
        return probabilities_of(self.decision_function(X))

    def predict(self, X: Any) -> Shaped[np.ndarray, " m"]:
        """The most probable class of each row."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]


class CodedRegressor(RegressorMixin, AbstractCoded):
    """Ridge regression, trained by coded gradients.

    The parameters are those of `AbstractCoded`. It is scikit-learn's Ridge with alpha = l2 * N.
    """

    def fit(self, X: Any, y: Any) -> "CodedRegressor":
        """Trains on an array, a frame or a sparse matrix X (m, columns) and the numbers y (m,).

        Raises ConfigError for parameters that do not fit each other or the data.
        """
        X, y = self._checked(X, y, y_numeric=True)
        W, b = self._fit(X, y.astype(float), LeastSquares(), curvature=2.0)
        self.coef_, self.intercept_ = W[:, 0], float(b[0])
        return self

    def predict(self, X: Any) -> Float[np.ndarray, " m"]:
        """The prediction for each row."""
        return self._scores(X)


def _features(X: Any, ones: bool) -> AbstractFeatures:
    if not issparse(X):
        return Dense(X)
    if not ones:
        return Sparse.from_scipy(X)
    return Mixed((Sparse.from_scipy(X[:, :-1]), Dense(np.ones((X.shape[0], 1)))))


def _with_ones(X: Any) -> Any:
    """X and a last column of ones."""
    ones = np.ones((X.shape[0], 1))
    return hstack([X, ones], format="csr") if issparse(X) else np.hstack([X, ones])


def _plain(value: Any) -> Any:
    """A number as Python's: searches set NumPy's."""
    return value.item() if isinstance(value, np.generic) else value
