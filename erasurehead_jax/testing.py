"""Checks of anybody's own gradient code, in the manner of scikit-learn's `check_estimator`."""

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Bool, Float

from erasurehead_jax.codes.base import ROUNDING, AbstractCode
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.decoding import ByCode
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.stopping import Decodable

EXACT_IN_FLOAT32 = 1e-3  # |w - 1| of a block; coefficients may be large
TRACED_ALIKE = 1e-8  # of the weights, relative to the largest


def check_code(code: AbstractCode, masks: int = 60, seed: int = 0) -> None:
    """Checks that a code keeps the contract of `AbstractCode`, on `masks` random sets of messages and a few others.

    Raises ConfigError if JAX cannot trace the code or a shape is wrong. Raises AssertionError, in one line with the set
    of messages, if `decodable` promises what `weights` does not do, if weights are not finite or not zero for missing
    messages, if one more message makes a decodable set undecodable, if the code's own decoder beats least squares (G is
    not what it decodes), or if a traced mask, or float32, gives other results than a NumPy mask.
    """
    Scheme(code, Decodable(), ByCode())  # can be traced, with the right shapes
    _check_coefficients(code)
    some = np.array(list(_masks(code.messages, masks, np.random.default_rng(seed))))
    for got in some:
        _check_weights(code, got)
    _check_monotone(code, some)
    _check_traced(code, some)


def _check_coefficients(code: AbstractCode) -> None:
    found, name = code.coefficients, type(code).__name__
    if found.shape != (shape := (code.blocks, code.parts, code.messages)):
        raise AssertionError(f"{name}.coefficients: has shape {found.shape}; must have {shape}")
    if not np.array_equal(found.any(1), code.G != 0) or (code.parts == 1 and not np.array_equal(found[:, 0], code.G)):
        raise AssertionError(f"{name}.coefficients: must be G or, with parts, zero where G is")


def _masks(messages: int, count: int, rng: np.random.Generator) -> Iterator[Bool[np.ndarray, " M"]]:
    """Nothing, everything, all but one, and random sets of every density."""
    yield np.zeros(messages, bool)
    yield np.ones(messages, bool)
    for missing in rng.permutation(messages)[:10]:
        yield np.arange(messages) != missing
    for _ in range(count):
        yield rng.random(messages) < rng.random()


def _check_weights(code: AbstractCode, got: Bool[np.ndarray, " M"]) -> None:
    decodable, a = code.decodable(got), np.asarray(code.weights(got))
    if np.shape(decodable) or np.asarray(decodable).dtype != bool:
        _fail(code, "decodable", got, f"returned {decodable!r}; must return a single bool")
    shape = got.shape if code.parts == 1 else (*got.shape, code.parts)
    if a.shape != shape:
        _fail(code, "weights", got, f"returned shape {a.shape}; must return one weight a message, {shape}")
    if not np.array_equal(a, np.asarray(code.weights(got)), equal_nan=True):
        _fail(code, "weights", got, "returned other weights when called again; must depend on the mask alone")
    if not np.isfinite(a).all():
        _fail(code, "weights", got, f"returned {a[~np.isfinite(a)][0]}; must be finite")
    if (a[~got] != 0).any():
        _fail(code, "weights", got, f"returned {a[~got].max():.3g} for a message that has not arrived; must be 0")
    error = float(code.decode_error(a))
    if decodable and error > ROUNDING:
        _fail(code, "decodable", got, f"is True, but the decode error |G a - 1|^2 is {error:.3g}")
    least = float(code.decode_error(np.asarray(least_squares_weights(code.G, got)))) if code.parts == 1 else 0.0
    if error < least - max(ROUNDING, 1e-6 * least):
        _fail(code, "weights", got, f"has decode error {error:.3g}, below {least:.3g} of least squares: a fault of G")


def _check_monotone(code: AbstractCode, some: Bool[np.ndarray, "masks M"]) -> None:
    for got in some:
        for more in np.flatnonzero(~got)[:3] if code.decodable(got) else ():
            if not code.decodable(got | (np.arange(len(got)) == more)):
                _fail(code, "decodable", got, f"is True, but no more once message {more} has arrived too")


def _check_traced(code: AbstractCode, some: Bool[np.ndarray, "masks M"]) -> None:
    decode = jax.vmap(lambda got: (code.decodable(got), code.weights(got)))
    decodable = np.array([code.decodable(got) for got in some])
    weights = np.array([code.weights(got) for got in some])
    for x64 in (True, False):
        with jax.enable_x64(x64):
            traced, a = (np.asarray(found) for found in jax.jit(decode)(some))
        precision = "float64" if x64 else "float32"
        for got, one, other in zip(some, decodable, traced, strict=True):
            if one != other:
                _fail(code, "decodable", got, f"is {one} for a NumPy mask and {other} for a traced one ({precision})")
        for got, one, other in zip(some, weights, a, strict=True):
            if x64 and np.abs(one - other).max() > TRACED_ALIKE * max(1, np.abs(one).max()):
                _fail(code, "weights", got, "differs between a NumPy mask and a traced one")
        off = np.array([_off(code, each) for each in a])
        for got in some[traced & (off > EXACT_IN_FLOAT32)]:
            _fail(code, "weights", got, f"does not decode exactly in {precision}; decode in float64, as `on_host` does")


def _off(code: AbstractCode, a: Float[np.ndarray, "M *parts"]) -> float:
    """The largest |w - 1| of a block; with parts, at most the root of all errors together, leaks included."""
    if code.parts > 1:
        return float(np.sqrt(code.decode_error(a)))
    return float(np.abs(code.shares(a) - 1).max())


def _fail(code: AbstractCode, method: str, got: Bool[np.ndarray, " M"], what: str) -> None:
    arrived = np.flatnonzero(got).tolist()
    shown = f"messages {arrived}" if len(arrived) <= 20 else f"{len(arrived)} of {len(got)} messages"
    raise AssertionError(f"{type(code).__name__}.{method} for {shown}: {what}")
