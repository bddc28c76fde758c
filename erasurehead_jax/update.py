"""The update shared by both backends: from the decoded sum of gradients to the next iterate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from erasurehead_jax.optimizers import MomentumState
from erasurehead_jax.types import Number, Params, Verdict


class Anchor(NamedTuple):
    """A snapshot of SVRG: a point, and the decoded gradient of (1/N) * sum of row losses there."""

    x: Params
    gradient: Params


class State(NamedTuple):
    """The state of a run between rounds. `x` is the point at which the next gradient is taken."""

    x: Params
    optimizer: optax.OptState
    anchor: Anchor | None = None  # with SVRG


def start(optimizer: optax.GradientTransformation, x: Params, svrg: bool = False) -> State:
    """The state before the first round."""
    x = jnp.asarray(x)
    return State(x, optimizer.init(x), Anchor(x, jnp.zeros_like(x)) if svrg else None)


def apply_gradient(
    optimizer: optax.GradientTransformation,
    l2: Number,
    train_rows: int,
    state: State,
    decoded: Params,
    snapshot: Verdict = False,
) -> tuple[State, Float[Array, ""]]:
    """The state after one step on (1/N) * sum of row losses + l2 * ||x||^2, and the norm of the gradient used.

    `decoded` is the decoded *sum* of the row gradients; the regulariser is exact in every round because the master
    adds it (Algorithm 1, with g/n read as the mean over N rows). With SVRG it is the sum at a `snapshot`, which is
    kept, and in other rounds the sum of the differences to the snapshot.
    """
    gradient, anchor = decoded / train_rows, state.anchor
    if anchor is not None:
        gradient = jnp.where(snapshot, gradient, gradient + anchor.gradient)
        anchor = jax.tree.map(lambda new, old: jnp.where(snapshot, new, old), Anchor(state.x, gradient), anchor)
    gradient = gradient + 2 * l2 * state.x
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.x)
    x = jnp.asarray(optax.apply_updates(state.x, updates))
    return State(x, optimizer_state, anchor), jnp.linalg.norm(gradient)


def iterate(state: State) -> Float[Array, "d *runs"]:
    """The iterate to report and save: for `nesterov` x and not y, for most optimizers the point itself."""
    return jnp.asarray(state.optimizer.iterate if isinstance(state.optimizer, MomentumState) else state.x)
