"""The closed forms that correspond to simulated points, where they exist."""

from collections.abc import Callable
from typing import Any

import numpy as np

from erasurehead_jax import theory
from erasurehead_jax.codes import BIBD, FractionalRepetition, RegularGraph, Uncoded
from erasurehead_jax.decoding import ByCode
from erasurehead_jax.delays import Exponential, ShiftedExponential
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.stopping import AnyOf, Count, Decodable


def round_cdf(point: Point) -> Callable[[np.ndarray], Any] | None:
    """P(round <= t seconds) for i.i.d. exponential times and late=cancel; None if no closed form is known."""
    code, stop, delay = point.scheme.code, point.scheme.stop, point.delay
    load = code.load / code.blocks
    if point.late != "cancel" or not isinstance(delay, Exponential | ShiftedExponential) or not delay.mean_s:
        return None
    scale, shift_s = (load, load * delay.shift_s) if isinstance(delay, ShiftedExponential) else (1.0, 0.0)
    mean_s, shift_s = float(scale * delay.mean_s), float(shift_s + point.compute_s * load)
    k, copies = code.workers, int(code.copies[0])
    if isinstance(stop, Count):
        cdf = lambda t: theory.count_cdf(t, k, int(stop.wait_for), mean_s)
    elif isinstance(stop, Decodable) and isinstance(code, Uncoded):
        cdf = lambda t: theory.wait_for_all_cdf(t, k, mean_s)
    elif isinstance(stop, Decodable) and isinstance(code, FractionalRepetition):
        cdf = lambda t: theory.exact_cdf(t, code.groups, copies, mean_s)
    elif (r := _erasurehead(point)) is not None:
        cdf = lambda t: theory.erasurehead_cdf(t, k // copies, copies, r, mean_s)
    else:
        return None
    return lambda t: cdf(np.asarray(t) - shift_s)


def decode_error(point: Point, r: Any) -> Any:
    """E ||w - 1||^2 with answers of r i.i.d. workers (a number or an array); None if no closed form is known."""
    random = isinstance(point.delay, Exponential | ShiftedExponential) and point.late in ("cancel", "wait")
    return uniform_decode_error(point.scheme, r) if random else None


def uniform_decode_error(scheme: Scheme, r: Any) -> Any:
    """E ||w - 1||^2 with answers of r uniformly random workers (a number or an array); None if no form is known."""
    code, decode = scheme.code, scheme.decode
    n, k = code.blocks, code.workers
    rescale = decode.rescale if isinstance(decode, ByCode) else None
    if isinstance(code, FractionalRepetition) and rescale == "none":
        return theory.fractional_repetition_error(n, k, int(code.copies[0]), r)
    if isinstance(code, Uncoded) and rescale == "covered":
        return theory.one_step_error(n, k, 1, r)
    if isinstance(code, BIBD) and rescale == "none":
        return theory.bibd_error(n, code.load, code.shared, r)
    if isinstance(code, RegularGraph) and rescale == "none":
        return theory.one_step_error(n, k, code.load, r)
    return None


def _erasurehead(point: Point) -> Any:
    """r of Algorithm 1's rule (decodable, or answers of r workers); None for other schemes."""
    stop = point.scheme.stop
    if not isinstance(stop, AnyOf) or not isinstance(point.scheme.code, FractionalRepetition):
        return None
    counts = [rule.wait_for for rule in stop.rules if isinstance(rule, Count)]
    return counts[0] if len(counts) == 1 and {type(rule) for rule in stop.rules} == {Decodable, Count} else None
