"""Update rules as optax transformations. Any other optax transformation can be used by its `_target_`."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from erasurehead_jax.errors import require_number
from erasurehead_jax.types import Number, Params


def step_sizes(step_size: Number, decay: Number = 1.0) -> optax.Schedule:
    """Constant, or geometric if decay < 1: step_size * decay^t in round t = 0, 1, ... (Table 1).

    Raises ConfigError unless step_size is positive and decay lies in (0, 1].
    """
    require_number("optimizer.step_size", step_size, above=0.0)
    require_number("optimizer.decay", decay, above=0.0, at_most=1.0)
    return lambda t: step_size * decay**t


def gd(step_size: Number, decay: Number = 1.0) -> optax.GradientTransformation:
    """Gradient descent, x <- x - step * g (the paper's equation 2)."""
    return optax.sgd(step_sizes(step_size, decay))


class MomentumState(NamedTuple):
    """The state of `agd` and `nesterov`. `iterate` is what a run reports: x, not the point of the next gradient."""

    t: Int[Array, ""]
    velocity: Params  # the last step of x
    iterate: Params


def _start(params: Any) -> MomentumState:
    return MomentumState(jnp.zeros((), jnp.int32), jnp.zeros_like(params), params)


def agd(step_size: Number, decay: Number = 1.0) -> optax.GradientTransformation:
    """The published ErasureHead code's "AGD": x <- x + mu_t (x - x_previous) - step * g(x), mu_t = (t - 1)/(t + 2).

    The gradient is taken at x and not at the extrapolated point, so this is the heavy-ball method. Iteration 0 discards
    the starting point: x_1 = -step * g(x_0).
    """
    schedule = step_sizes(step_size, decay)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MomentumState]:
        t = state.t.astype(updates.dtype)
        momentum = jnp.where(state.t == 0, -params, (t - 1) / (t + 2) * state.velocity)
        velocity = momentum - schedule(t) * updates
        return velocity, MomentumState(state.t + 1, velocity, params + velocity)

    return optax.GradientTransformation(_start, update)


def nesterov(step_size: Number, decay: Number = 1.0) -> optax.GradientTransformation:
    """Nesterov's accelerated gradient: x_{t+1} = y_t - step * g(y_t), y_{t+1} = x_{t+1} + t/(t+3) (x_{t+1} - x_t).

    Nesterov 1983, with t = 0, 1, ... and y_0 = x_0. The optax parameters are y, where the gradient is taken; the
    iterate x is part of the state.
    """
    schedule = step_sizes(step_size, decay)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MomentumState]:
        t = state.t.astype(updates.dtype)
        x = params - schedule(t) * updates
        velocity = x - state.iterate
        return x + t / (t + 3) * velocity - params, MomentumState(state.t + 1, velocity, x)

    return optax.GradientTransformation(_start, update)
