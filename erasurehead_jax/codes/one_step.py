"""One-step decoding: every answer gets the same weight, which depends on how many have come."""

from jaxtyping import Float, Int

from erasurehead_jax.types import AnyArray, Got, Number, Weights


def one_step_weights(got: Got, copies: Number) -> Weights:
    """a = k / (r * copies) for each of the r messages that have arrived, of k.

    `copies` is the sum of a block's coefficients over all messages, on average: a block's expected share is then 1 if
    the r messages are uniformly random. Charles, Papailiopoulos, Ellenberg 2017, "Approximate Gradient Coding via
    Sparse Random Graphs", section 3.
    """
    heard: Int[AnyArray, ""] = got.sum()
    weight: Float[AnyArray, ""] = got.shape[0] / (copies * (heard + (heard == 0)))
    return got * weight
