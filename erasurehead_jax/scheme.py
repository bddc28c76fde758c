"""A scheme = a code, when to stop waiting, and how to decode; and one simulated round of it."""

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
from erasurehead_jax.decoding import AbstractDecode
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.stopping import AbstractStop
from erasurehead_jax.types import Got, Number, Seconds, Verdict, Weights

log = logging.getLogger(__name__)


class Scheme(eqx.Module):
    """The object that both backends run.

    Raises ConfigError if its parts do not fit the number of workers, or cannot be simulated: whatever the backend, a
    scheme must be traceable, and its verdicts and weights must have the right shapes.
    """

    code: AbstractCode
    stop: AbstractStop
    decode: AbstractDecode

    def __check_init__(self):
        self.stop.check(self.code.workers)
        self.decode.check(self.code.workers)
        messages, code = (self.code.messages,), self.code
        got, now_s = jax.ShapeDtypeStruct(messages, bool), jax.ShapeDtypeStruct((), np.dtype("float32"))
        _require_traceable(code, "decodable", code.decodable, (got,), (), np.bool_)
        _require_traceable(code, "weights", code.weights, (got,), messages, np.number)
        _require_traceable(self.stop, "__call__", lambda got, s: self.stop(code, got, s), (got, now_s), (), np.bool_)
        _require_traceable(self.decode, "__call__", lambda got: self.decode(code, got), (got,), messages, np.number)

    def enough(self, got: Got, elapsed_s: Number) -> Verdict:
        """Does the round end now? It always does once every message is in."""
        return self.stop(self.code, got, elapsed_s) | got.all()

    def weights(self, got: Bool[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
        """The decoding weights a of these messages, in float64 and checked: what the master decodes with.

        A set that is called decodable and is not decoded exactly is reported once. Raises ConfigError for weights of
        another shape, that are not finite, or on messages that have not arrived.
        """
        a = np.asarray(self.decode(self.code, got), np.float64)
        if a.shape != got.shape:
            raise ConfigError(f"{self._decoder}: gives weights of shape {a.shape}, but there are {len(got)} messages")
        self.report(bool(unsound(got, a)), bool(self.breaks_promise(got, self.decode_error(a))))
        return a

    def decode_error(self, a: Float[np.ndarray, " M"]) -> float:
        """||G a - 1||^2."""
        return float(((self.code.G @ a - 1) ** 2).sum())

    def breaks_promise(self, got: Got, decode_error: Number) -> Verdict:
        """Does the code call this set decodable although it is not decoded exactly?"""
        if not self.decode.keeps_exact:
            return np.False_
        return self.code.decodable(got) & (decode_error > ROUNDING)

    def report(self, unsound: bool, broken_promise: bool) -> None:
        """Raises ConfigError for unsound weights; warns once of a code that breaks its promise."""
        if unsound:
            raise ConfigError(
                f"{self._decoder}: gives weights that are not finite or belong to messages that have not arrived; "
                "they must be finite, and zero where `got` is False"
            )
        if broken_promise:
            _warn_once(
                f"{self._decoder}: `decodable` holds for messages whose decode error is above {ROUNDING:g}; "
                "these rounds are not recorded as exact"
            )

    @property
    def _decoder(self) -> str:
        return f"{type(self.decode).__name__} of {type(self.code).__name__}"


def unsound(got: Got, a: Weights) -> Verdict:
    """Are weights not finite, or not zero where nothing has arrived?"""
    xp = np if isinstance(got, np.ndarray) else jnp
    return ~xp.isfinite(a).all() | ((a != 0) & ~got).any()


def collect(scheme: Scheme, arrival_s: Seconds) -> tuple[Got, Float[Array, ""]]:
    """One round of the simulation: which messages are used, and when the stopping rule first holds.

    `arrival_s` (M,) are seconds from the start of the round, inf for a message that never comes. Messages of one
    instant count together. Jittable and vmappable. Elapsed is inf if the rule never holds.
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
            "no Python `if`, `and`, `or`, `bool()` or NumPy function on the mask"
        ) from error
    if found.shape != shape or not np.issubdtype(found.dtype, kind):
        wanted = "one bool" if kind is np.bool_ else f"numbers of shape {shape}"
        raise ConfigError(f"{name}: gives {found.dtype} of shape {found.shape}; must give {wanted}")


@functools.cache
def _warn_once(line: str) -> None:
    log.warning(line)
