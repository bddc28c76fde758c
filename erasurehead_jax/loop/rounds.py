"""What a loop needs of a backend: gradients, one round at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from erasurehead_jax.data import Rows
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.loop.loss import Loss
from erasurehead_jax.scheme import Scheme

NOT_FINITE = "loss: its gradient at the start is not finite; look for log, sqrt or a quotient at 0"


class Info(NamedTuple):
    """What happened in a round."""

    round: int  # from 0
    exact: bool  # whether the gradient is that of all rows, or of all rows of the mini-batch
    decode_error: float  # ||w - 1||^2, where w has the share of each block
    waited: int  # workers that answered in time
    round_s: float
    clock_s: float  # spent in `gradient` so far, simulated or real
    lost: int  # workers lost so far


class Setup(NamedTuple):
    """Everything that determines the rounds."""

    config: dict[str, Any]
    loss: Loss
    rows: Rows
    scheme: Scheme
    delay: AbstractDelay
    start: Float[np.ndarray, " d"]  # the parameters at which the loss was tried out


class AbstractRounds(ABC):
    """The rounds of one `with` block."""

    @abstractmethod
    def gradient(self, x: Float[np.ndarray, " d"]) -> tuple[Float[np.ndarray, " d"], Info]:
        """Runs the next round: the decoded sum of the gradients of the rows at x.

        Raises Stopped if the round can never end.
        """


class Backend(NamedTuple):
    """Where rounds take place."""

    config: Callable[[], dict[str, Any]]  # the settings by default
    rounds: Callable[[Setup], AbstractContextManager[AbstractRounds]]
