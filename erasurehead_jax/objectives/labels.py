"""From scores to the names of classes."""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from erasurehead_jax.types import AnyArray


def class_of(scores: Float[AnyArray, "m *outputs"], classes: tuple[Any, ...] | None) -> Shaped[np.ndarray, " m"]:
    """The class with the largest score, or, for a single score, the second of two classes where it is positive.

    Without names, classes are -1 and +1 for a single score, and their codes otherwise.
    """
    scores = np.asarray(scores)
    codes = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
    if classes is None:
        return 2 * codes - 1 if scores.ndim == 1 else codes
    return np.asarray(classes)[codes]
