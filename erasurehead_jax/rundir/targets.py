"""When a run reached a target, for recorder, report and what-if. Does not import JAX: reports start fast."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

SLACK = 1e-4  # relative: exact codes sum in another order, and must not be one evaluation late


def reached(values: Any, target: float | int, more_is_better: bool) -> Bool[np.ndarray, "*shape"]:
    """Returns whether each value of the test metric is at least as good as the target, to within SLACK.

    A value that is nan has not reached the target.
    """
    values, slack = np.asarray(values, float), SLACK * abs(target)
    return np.asarray(values >= target - slack if more_is_better else values <= target + slack)


def time_to(
    values: Any, clock_s: Float[np.ndarray, "*runs rounds"], target: float | int, more_is_better: bool
) -> Float[np.ndarray, "*runs"]:
    """Returns the seconds on the clock until the metric first reached the target, inf where it never did.

    The last axis of `values` and `clock_s` is the round; a round that was not evaluated is nan.
    """
    there = reached(values, target, more_is_better)
    first_s = np.take_along_axis(np.asarray(clock_s, float), there.argmax(-1)[..., None], -1)[..., 0]
    return np.where(there.any(-1), first_s, np.inf)
