"""Decoders: weights a for the messages that have arrived. The decoded gradient is the sum of a[m] * y[m]."""

from abc import abstractmethod
from typing import Literal

import equinox as eqx

from erasurehead_jax.codes import AbstractCode
from erasurehead_jax.codes.base import least_squares_weights
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import Got, Number, Weights

Rescale = Literal["none", "expected", "covered"]


class AbstractDecode(eqx.Module):
    """A decoder. Its weights depend on the mask alone, never on the order of arrival."""

    @abstractmethod
    def __call__(self, code: AbstractCode, got: Got) -> Weights:
        """Decoding weights a, zero where `got` is False."""

    @property
    def keeps_exact(self) -> bool:
        """Whether the gradient is decoded exactly whenever the code can decode it."""
        return True

    def check(self, workers: int) -> None:
        """Raises ConfigError if the decoder's parameters are not valid for this number of workers."""


class AbstractRescaled(AbstractDecode):
    """A decoder whose weights are rescaled as a whole.

    `rescale` compensates for missing blocks: `none` is the plain sum of Algorithm 1; `expected` divides by 1 - p, where
    p is the probability that all copies of a block are missing when `wait_for` uniformly random workers have answered
    (section 3 of the paper, Lemma 2), which makes fractional repetition and uncoded unbiased; `covered` divides by the
    fraction of the rows in the sum (the mean of w; block sizes differ by at most one row).
    """

    rescale: Rescale = eqx.field(static=True, default="none")
    wait_for: Number | None = None

    @abstractmethod
    def plain(self, code: AbstractCode, got: Got) -> Weights:
        """The weights before rescaling."""

    @property
    def keeps_exact(self) -> bool:
        """False for `expected`, which divides w by 1 - p whatever has arrived."""
        return self.rescale != "expected"

    def __call__(self, code: AbstractCode, got: Got) -> Weights:
        a = self.plain(code, got)
        if self.rescale == "none":
            return a
        if self.rescale == "covered":
            share = (code.G @ a).mean()
            return a / (share + (share == 0))  # if nothing has arrived, a is zero and remains zero
        return a / expected_coverage(code, self.wait_for)

    def check(self, workers: int) -> None:
        _check(self.rescale, self.wait_for, workers)


class ByCode(AbstractRescaled):
    """The code's own decoder."""

    def plain(self, code: AbstractCode, got: Got) -> Weights:
        return code.weights(got)


class ByLeastSquares(AbstractRescaled):
    """The weights that minimise ||G a - 1|| (optimal decoding; Charles et al. 2017)."""

    def plain(self, code: AbstractCode, got: Got) -> Weights:
        return least_squares_weights(code.G, got)


def expected_coverage(code: AbstractCode, wait_for):
    """1 - p, averaged over blocks: the probability that `wait_for` uniformly random workers hold a copy of a block.

    p = C(k - l, r) / C(k, r) for a block with l copies (Lemma 2), computed as a product of l factors so that r may be
    traced. Scalar.
    """
    k = code.workers
    covered = 0.0
    for copies in code.copies:
        missed = 1.0
        for i in range(copies):
            missed = missed * (k - wait_for - i) * (k - wait_for - i > 0) / (k - i)
        covered = covered + (1 - missed) / code.blocks
    return covered


def _check(rescale: str, wait_for: Number | None, workers: int) -> None:
    if rescale not in ("none", "expected", "covered"):
        raise ConfigError(f"rescale={rescale}: must be none, expected or covered")
    if rescale == "expected" and not hasattr(wait_for, "dtype") and (wait_for is None or not 1 <= wait_for <= workers):
        raise ConfigError(
            f"wait_for={wait_for}: must lie between 1 and workers={workers} for rescale=expected; set wait_for"
        )
