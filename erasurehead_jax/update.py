"""The update shared by both backends: from the decoded sum of gradients to the next iterate."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from erasurehead_jax.optimizers import MomentumState
from erasurehead_jax.types import Number, Params


class State(NamedTuple):
    """The state of a run between rounds. `x` is the point at which the next gradient is taken."""

    x: Params
    optimizer: optax.OptState


def start(optimizer: optax.GradientTransformation, x: Params) -> State:
    """The state before the first round."""
    return State(jnp.asarray(x), optimizer.init(x))


def apply_gradient(
    optimizer: optax.GradientTransformation, l2: Number, train_rows: int, state: State, decoded: Params
) -> tuple[State, Float[Array, ""]]:
    """The state after one step on (1/N) * sum of row losses + l2 * ||x||^2, and the norm of the gradient used.

    `decoded` is the decoded *sum* of the row gradients; the regulariser is exact in every round because the master
    adds it (Algorithm 1, with g/n read as the mean over N rows).
    """
    gradient = decoded / train_rows + 2 * l2 * state.x
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.x)
    return State(jnp.asarray(optax.apply_updates(state.x, updates)), optimizer_state), jnp.linalg.norm(gradient)


def iterate(state: State) -> Float[Array, "d *runs"]:
    """The iterate to report and save: for `nesterov` x and not y, for most optimizers the point itself."""
    return jnp.asarray(state.optimizer.iterate if isinstance(state.optimizer, MomentumState) else state.x)
