"""The interface of gradient codes: which worker computes what, and how messages are decoded."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import AnyArray, Assignment, Got, Owner, Shares, Verdict, Weights

ROUNDING = 1e-9  # a gradient decoded with ||w - 1||^2 below this counts as exact

TRIED = 64  # messages; sorting fewer takes longer than trying all instants at once


class AbstractCode(eqx.Module):
    """A gradient code: n blocks, M messages, message m = sum over i of G[i, m] * gradient of f_i.

    Where messages are shorter than the gradient, `parts` and `coefficients` say what they contain, and G only who holds
    what. `decodable` and `weights` take a NumPy mask (on the master) or a traced one (in the simulator) and depend on
    the mask alone, never on the order of arrival.
    """

    G: eqx.AbstractVar[Assignment]
    owner: eqx.AbstractVar[Owner]

    def __check_init__(self):
        name = type(self).__name__
        if not isinstance(self.G, np.ndarray) or self.G.ndim != 2 or not self.G.size or self.G.dtype.kind != "f":
            raise ConfigError(f"{name}.G: must be a NumPy array of floats (blocks, messages), not {_kind(self.G)}")
        if not np.isfinite(self.G).all():
            raise ConfigError(f"{name}.G: must be finite")
        owner = self.owner
        if not isinstance(owner, np.ndarray) or owner.shape != self.G.shape[1:] or owner.dtype.kind not in "iu":
            raise ConfigError(
                f"{name}.owner: must be a NumPy array of integers, one for each of the {self.messages} messages "
                f"(columns of G), not {_kind(owner)}"
            )
        if owner.min() < 0:
            raise ConfigError(f"{name}.owner: worker {owner.min()} does not exist; workers are numbered from 0")
        silent = np.setdiff1d(np.arange(self.workers), owner)
        if len(silent):
            raise ConfigError(
                f"{name}.owner: worker {silent[0]} of {self.workers} sends no message; "
                "give a worker without blocks an empty message (a column of zeros in G)"
            )

    @property
    def blocks(self) -> int:
        """n, the number of blocks."""
        return self.G.shape[0]

    @property
    def messages(self) -> int:
        """M, the number of messages of a round."""
        return self.G.shape[1]

    @property
    def workers(self) -> int:
        """k, the number of workers."""
        return int(self.owner.max()) + 1

    @property
    def holds(self) -> np.ndarray:
        """Bool (n, k): whether worker j holds block i."""
        holds = np.zeros((self.blocks, self.workers), bool)
        for message, worker in enumerate(self.owner):
            holds[:, worker] |= self.G[:, message] != 0
        return holds

    @property
    def parts(self) -> int:
        """The number of equal parts into which the gradient is cut; a message has the length of one."""
        return 1

    @property
    def coefficients(self) -> Float[np.ndarray, "n parts M"]:
        """Message m is the sum over blocks i and parts p of coefficients[i, p, m] * part p of the gradient of f_i."""
        return self.G[:, None]

    def shares(self, a: Weights) -> Shares:
        """w = G a, the share of each block in the gradient decoded with these weights; a mean over parts."""
        if self.parts == 1:
            return self.G @ a
        return _decoded(self, a).trace(axis1=1, axis2=2) / self.parts

    def decode_error(self, a: Weights) -> Any:
        """||w - 1||^2. With parts, a mean over them that also counts what one part leaks into another."""
        if self.parts == 1:
            return ((self.shares(a) - 1) ** 2).sum()
        return ((_decoded(self, a) - np.eye(self.parts)) ** 2).sum() / self.parts

    @property
    def approximates(self) -> bool:
        """Whether the weights are of use if the exact gradient cannot be decoded."""
        return True

    @property
    def load(self) -> int:
        """c, the largest number of blocks held by any worker."""
        return int(self.holds.sum(0).max())

    @property
    def copies(self) -> Int[np.ndarray, " n"]:
        """The number of workers that hold each block."""
        return self.holds.sum(1)

    @property
    def work_until(self) -> Float[np.ndarray, " M"]:
        """The work that a worker has done when it sends each message, as a fraction of one pass over the data set.

        A worker computes its messages in the order of their indices, and each takes one pass over its own blocks.
        """
        blocks = (self.G != 0).sum(0)
        before = (self.owner[:, None] == self.owner) & np.tri(self.messages, dtype=bool)
        return before @ blocks / self.blocks

    @property
    def costly(self) -> bool:
        """Whether `decodable` takes so long that the simulator bisects the arrivals of a round."""
        return self.messages > TRIED

    def heard(self, got: Got) -> Any:
        """Bool (k,): whether all messages of each worker have arrived."""
        if self.messages == self.workers:
            return got[np.argsort(self.owner)]
        sends = self.owner[:, None] == np.arange(self.workers)
        return (got[:, None] | ~sends).all(0)

    @abstractmethod
    def decodable(self, got: Got) -> Verdict:
        """Whether the exact gradient can be decoded from these messages."""

    @abstractmethod
    def weights(self, got: Got) -> Weights:
        """Decoding weights a; `G @ a == 1` whenever `decodable(got)`, otherwise the code's best approximation.

        With `parts`, a column for each: part p of the decoded gradient is the sum over m of a[m, p] * message m.
        """


def _decoded(code: AbstractCode, a: Weights) -> Float[AnyArray, "n parts parts"]:
    """What each part of a block's gradient contributes to each part of the decoded one."""
    xp = np if isinstance(a, np.ndarray) else jnp
    return xp.einsum("iqm,mp->iqp", code.coefficients, a)


def _kind(value: Any) -> str:
    """The type of a value, with dtype and shape if it is an array."""
    if not hasattr(value, "dtype"):
        return type(value).__name__
    return f"{type(value).__module__}.{type(value).__name__} of {value.dtype} {value.shape}"


def require_multiple(name: str, value: int, of_name: str, of: int, why: str) -> None:
    """Raises ConfigError unless `value` is a positive multiple of `of`."""
    if of < 1 or value < 1 or value % of:
        divisors = [each for each in range(1, value + 1) if value % each == 0]
        near = sorted(sorted(divisors, key=lambda each: abs(each - of))[:2])
        advice = f", as {' and '.join(map(str, near))} do" if len(near) == 2 else ""
        raise ConfigError(f"{of_name}={of}: must divide {name}={value}{advice} ({why})")
