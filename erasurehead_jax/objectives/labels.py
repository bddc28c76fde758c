"""From scores to what people read: the names of classes, and probabilities."""

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


def probabilities_of(scores: Float[AnyArray, "m *outputs"]) -> Float[np.ndarray, "m K"]:
    """The softmax of K logits a row; a single score is the log-odds of the second of two classes."""
    scores = np.asarray(scores)
    logits = np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)
