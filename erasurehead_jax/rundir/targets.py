"""When a run reached a target, for recorder, report and what-if. Does not import JAX: reports start fast."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

SLACK = 1e-4  # relative: exact codes sum in another order, and must not be one evaluation late
MORE_IS_BETTER = {"test_auc": True, "test_mse": False}


def reached(metric: str, values: Any, target: float | int) -> Bool[np.ndarray, "*shape"]:
    """Returns whether each value of the test metric is at least as good as the target, to within SLACK.

    A value that is nan has not reached the target.
    """
    values = np.asarray(values, float)
    return np.asarray(values >= target * (1 - SLACK) if MORE_IS_BETTER[metric] else values <= target * (1 + SLACK))


def time_to(
    metric: str, values: Any, clock_s: Float[np.ndarray, "*runs rounds"], target: float | int
) -> Float[np.ndarray, "*runs"]:
    """Returns the seconds on the clock until the metric first reached the target, inf where it never did.

    The last axis of `values` and `clock_s` is the round; a round that was not evaluated is nan.
    """
    there = reached(metric, values, target)
    first_s = np.take_along_axis(np.asarray(clock_s, float), there.argmax(-1)[..., None], -1)[..., 0]
    return np.where(there.any(-1), first_s, np.inf)
