"""Test metrics: how good scores are, for one column of scores a model. Each says itself whether more is better."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

Target = Shaped[np.ndarray, " m"]
Scores = Float[np.ndarray, "m *outputs models"]
Values = Float[np.ndarray, " models"]


class Metric(NamedTuple):
    """`score(target, scores)` judges what an objective predicts on the test rows, for each model.

    `why_not(target)` says in one line why that is impossible with these targets, or is None.
    """

    name: str  # in the column test_NAME
    more_is_better: bool
    score: Callable[[Target, Scores], Values]
    why_not: Callable[[Target], str | None] = lambda target: None


def _auc(target: Target, scores: Scores) -> Values:
    """Area under the ROC curve by ranks (Mann-Whitney), ties shared; nan without both classes or finite scores."""
    from scipy.stats import rankdata  # late: takes a second to import, while all ranks wait

    margin = scores[:, 1] - scores[:, 0] if scores.ndim == 3 else scores
    positive = target > 0
    pairs = positive.sum() * (~positive).sum()
    if not pairs:
        return np.full(margin.shape[1], np.nan)
    least = positive.sum() * (positive.sum() + 1) / 2
    return (rankdata(margin, axis=0, nan_policy="propagate")[positive].sum(0) - least) / pairs


def _why_no_auc(target: Target) -> str | None:
    classes = np.unique(target)
    if len(classes) == 2:
        return None
    what = f"the test rows have {len(classes)} classes"
    if len(classes) == 1:
        what = f"all {len(target)} test rows are of class {'+1' if classes[0] > 0 else '-1'}"
    return f"the test AUC cannot be computed, because {what}; it needs rows of both classes"


def _accuracy(target: Target, scores: Scores) -> Values:
    """The share of rows whose class has the largest score, or whose margin has the right sign; nan if not finite."""
    several = scores.ndim == 3
    right = scores.argmax(1) == target[:, None] if several else (scores > 0) == (target[:, None] > 0)
    finite = np.isfinite(scores.sum(tuple(range(scores.ndim - 1))))
    return np.where(finite, right.mean(0), np.nan)


def _mse(target: Target, scores: Scores) -> Values:
    return ((target[:, None] - scores) ** 2).mean(0)


def _mae(target: Target, scores: Scores) -> Values:
    return np.abs(target[:, None] - scores).mean(0)


def _deviance(target: Target, scores: Scores) -> Values:
    """Mean Poisson deviance of predicted means: 2 (y log(y / mean) - y + mean)."""
    from scipy.special import xlogy  # late, as above

    count = target[:, None].astype(float)
    with np.errstate(divide="ignore"):
        return 2 * (xlogy(count, count) - xlogy(count, scores) - count + scores).mean(0)


AUC = Metric("auc", True, _auc, _why_no_auc)
ACCURACY = Metric("accuracy", True, _accuracy)
MSE = Metric("mse", False, _mse)
MAE = Metric("mae", False, _mae)
DEVIANCE = Metric("deviance", False, _deviance)
LOSS = Metric("loss", False, lambda target, losses: losses.mean(0))  # of row losses, where nothing is predicted

METRICS = {metric.name: metric for metric in (AUC, ACCURACY, MSE, MAE, DEVIANCE, LOSS)}
