"""A scheme: a gradient code, a stopping rule and a decoder. `collect` simulates one round of it."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from erasurehead_jax.codes import AbstractCode
from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.decoding import AbstractDecode, ByCode
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.stopping import AbstractStop, Decodable
from erasurehead_jax.types import Got, Number, Seconds, Verdict, Weights

log = logging.getLogger(__name__)


class Scheme(eqx.Module):
    """A gradient code, a stopping rule and a decoder, as run by both backends.

    Raises ConfigError if a part is not valid for the number of workers or cannot be simulated: whatever the backend, a
    scheme must be traceable, and its verdicts and weights must have the right shapes.
    """

    code: AbstractCode
    stop: AbstractStop
    decode: AbstractDecode

    def __check_init__(self):
        self.stop.check(self.code.workers)
        self.decode.check(self.code.workers)
        messages, weights, code = (self.code.messages,), self._shape, self.code
        if not (code.approximates or self.stop.exact):
            raise ConfigError(
                f"scheme.stop: may hold before {type(code).__name__} can decode, which has no approximation to offer; "
                "must be Decodable"
            )
        got, now_s = jax.ShapeDtypeStruct(messages, bool), jax.ShapeDtypeStruct((), np.dtype("float32"))
        _require_traceable(code, "decodable", code.decodable, (got,), (), np.bool_)
        _require_traceable(code, "weights", code.weights, (got,), weights, np.number)
        _require_traceable(self.stop, "__call__", lambda got, s: self.stop(code, got, s), (got, now_s), (), np.bool_)
        _require_traceable(self.decode, "__call__", lambda got: self.decode(code, got), (got,), weights, np.number)

    def enough(self, got: Got, elapsed_s: Number) -> Verdict:
        """Whether the round ends now; it always does once every message has arrived."""
        return self.stop(self.code, got, elapsed_s) | got.all()

    def exactly(self) -> "Scheme":
        """The same code, but each round waits until the exact gradient can be decoded."""
        return Scheme(self.code, Decodable(), ByCode())

    def weights(self, got: Bool[np.ndarray, " M"]) -> Float[np.ndarray, "M *parts"]:
        """The decoding weights a for these messages, checked and in float64, as used by the master.

        Warns once if the code calls a set decodable that is not decoded exactly. Raises ConfigError if the weights have
        the wrong shape, are not finite, or are non-zero for messages that have not arrived.
        """
        a = np.asarray(self.decode(self.code, got), np.float64)
        if a.shape != self._shape:
            raise ConfigError(f"{self._decoder}: returned weights of shape {a.shape}, not {self._shape}")
        self.report(bool(unsound(got, a)), bool(self.breaks_promise(got, self.decode_error(a))))
        return a

    def decode_error(self, a: Float[np.ndarray, "M *parts"]) -> float:
        """||w - 1||^2."""
        return float(self.code.decode_error(a))

    def breaks_promise(self, got: Got, decode_error: Number) -> Verdict:
        """Whether the code calls this set decodable although it is not decoded exactly."""
        if not self.decode.keeps_exact:
            return np.False_
        return self.code.decodable(got) & (decode_error > ROUNDING)

    def report(self, unsound: bool, broken_promise: bool) -> None:
        """Raises ConfigError for unsound weights; warns once if `decodable` was wrong."""
        if unsound:
            raise ConfigError(
                f"{self._decoder}: returned weights that are not finite, or not zero for messages that have not "
                "arrived; must return finite weights that are zero where `got` is False"
            )
        if broken_promise:
            _warn_once(
                f"{self._decoder}: `decodable` is True for messages whose decode error exceeds {ROUNDING:g}; "
                "these rounds are not recorded as exact"
            )

    @property
    def _shape(self) -> tuple[int, ...]:
        """The shape of weights: one per message or, where messages are shorter than the gradient, one per part too."""
        code = self.code
        return (code.messages,) if code.parts == 1 else (code.messages, code.parts)

    @property
    def _decoder(self) -> str:
        return f"{type(self.decode).__name__} of {type(self.code).__name__}"


def unsound(got: Got, a: Weights) -> Verdict:
    """Whether any weight is not finite, or not zero for a message that has not arrived."""
    xp = np if isinstance(got, np.ndarray) else jnp
    return ~xp.isfinite(a).all() | ((a != 0).reshape(len(got), -1).any(1) & ~got).any()


def collect(scheme: Scheme, arrival_s: Seconds) -> tuple[Got, Float[Array, ""]]:
    """Simulates one round: returns the messages that are used and the time at which the stopping rule first holds.

    `arrival_s` (M,) is in seconds from the start of the round, inf for a message that never arrives. Simultaneous
    messages count together. The time is inf if the round never ends. Jittable and vmappable.
    """
    arrival_s = jnp.asarray(arrival_s)
    elapsed_s = jnp.minimum(scheme.stop.first_s(scheme.code, arrival_s), arrival_s.max())
    return (arrival_s <= elapsed_s) & jnp.isfinite(arrival_s), elapsed_s


def _require_traceable(
    part: Any, method: str, call: Callable[..., Any], arguments: tuple, shape: tuple[int, ...], kind: type
) -> None:
    name = f"{type(part).__name__}.{method}"
    try:
        found = jax.eval_shape(lambda *arrays: jnp.asarray(call(*arrays)), *arguments)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise ConfigError(
            f"{name}: cannot be traced by JAX; use operators and methods only (&, |, .any(), .sum(), >=), "
            "no Python `if`, `and`, `or`, `bool()` or NumPy function on the mask; or decode in NumPy, through `on_host`"
        ) from error
    if found.shape != shape or not np.issubdtype(found.dtype, kind):
        wanted = "a single bool" if kind is np.bool_ else f"numbers of shape {shape}"
        raise ConfigError(f"{name}: returned {found.dtype} of shape {found.shape}; must return {wanted}")


@functools.cache
def _warn_once(message: str) -> None:
    log.warning(message)
