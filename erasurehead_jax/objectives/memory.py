"""How much memory a computation on rows needs, so that it can be split into parts that fit."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from erasurehead_jax.data import Rows

AT_ONCE = 2**27  # intermediate values at a time: a gigabyte in float64, of which XLA needs a fraction


def rows_at_once(function: Callable[[Any, Rows], Any], x: Any, rows: Rows) -> int:
    """The number of rows, at least one, for which `function(x, rows)` computes AT_ONCE values at most.

    All values in its program count, as if none were fused or freed, so that this is on the safe side. A loop counts
    once.
    """
    one, two = (_values(function, x, rows, count) for count in (1, 2))
    return max(1, AT_ONCE // max(1, two - one))


def _values(function: Callable[[Any, Rows], Any], x: Any, rows: Rows, count: int) -> int:
    """The values that `function` computes on `count` rows."""
    index = jax.ShapeDtypeStruct((count,), jnp.int32)
    program = jax.make_jaxpr(lambda x, rows, index: function(x, rows.take(index)))(x, rows, index)
    return _size(program.jaxpr)


def _size(jaxpr: Any) -> int:
    outputs = (variable.aval.shape for equation in jaxpr.eqns for variable in equation.outvars)
    return sum(map(math.prod, outputs)) + sum(_size(inner) for each in jaxpr.eqns for inner in _inside(each.params))


def _inside(params: dict[str, Any]) -> Iterator[Any]:
    """The programs inside an equation, such as the body of a loop."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                yield each
