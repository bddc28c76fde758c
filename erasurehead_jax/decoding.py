"""Decoders: weights a for the messages that have arrived. The decoded gradient, or each of its parts, is the sum of
a[m] * y[m].
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import numpy as np

from erasurehead_jax.codes import AbstractCode
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.codes.one_step import one_step_weights
from erasurehead_jax.errors import ConfigError, require_number
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
            share = code.shares(a).mean()
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
        _require_whole_messages(self, code)
        return least_squares_weights(code.G, got)


class OneStep(AbstractDecode):
    """The same weight for every answer, k / (r copies): unbiased if the r answers are uniformly random, and needs no
    knowledge of who has answered (one-step decoding; Charles et al. 2017).
    """

    @property
    def keeps_exact(self) -> bool:
        """False: the weights ignore what has arrived."""
        return False

    def __call__(self, code: AbstractCode, got: Got) -> Weights:
        _require_whole_messages(self, code)
        return one_step_weights(got, code.G.sum() / code.blocks)


class Unbiased(AbstractDecode):
    """Weights that do not depend on who else has answered: those for all messages, divided by 1 - straggling.

    `straggling` is the probability that a worker is late, one for all or one for each. The expectation of w is then 1
    for any code that decodes all messages. The fixed decoders of Bitar et al. 2020, for every code.
    """

    straggling: Number | tuple[Number, ...] = eqx.field(
        converter=lambda value: tuple(value) if isinstance(value, Sequence) else value
    )

    @property
    def keeps_exact(self) -> bool:
        """False: the weights ignore what has arrived."""
        return False

    def __call__(self, code: AbstractCode, got: Got) -> Weights:
        _require_whole_messages(self, code)
        complete = np.asarray(code.weights(np.ones(code.messages, bool)))
        straggling = self.straggling
        late = np.array(straggling)[code.owner] if isinstance(straggling, tuple) else straggling
        return got * complete / (1 - late)

    def check(self, workers: int) -> None:
        each = self.straggling if isinstance(self.straggling, tuple) else (self.straggling,) * workers
        if len(each) != workers:
            raise ConfigError(
                f"straggling={list(each)}: must be one probability, or one for each of the {workers} workers"
            )
        for value in each:
            require_number("straggling", value)
            if not hasattr(value, "dtype") and value >= 1:
                raise ConfigError(f"straggling={value}: must be below 1: a worker that never answers has no weight")


def _require_whole_messages(decoder: AbstractDecode, code: AbstractCode) -> None:
    if code.parts > 1:
        raise ConfigError(
            f"scheme.decode: {type(decoder).__name__} has one weight a message, but those of {type(code).__name__} are "
            "combinations of parts of the gradient; use ByCode"
        )


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
