"""A scheme = a code, when to stop waiting, and how to decode; and one simulated round of it."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from erasurehead_jax.codes import AbstractCode
from erasurehead_jax.decoding import AbstractDecode
from erasurehead_jax.stopping import AbstractStop
from erasurehead_jax.types import Got, Number, Seconds, Verdict


class Scheme(eqx.Module):
    """The object that both backends run. Raises ConfigError if its parts do not fit the number of workers."""

    code: AbstractCode
    stop: AbstractStop
    decode: AbstractDecode

    def __check_init__(self):
        self.stop.check(self.code.workers)
        self.decode.check(self.code.workers)

    def enough(self, got: Got, elapsed_s: Number) -> Verdict:
        """Does the round end now? It always does once every message is in."""
        return self.stop(self.code, got, elapsed_s) | got.all()


def collect(scheme: Scheme, arrival_s: Seconds) -> tuple[Got, Float[Array, ""]]:
    """One round of the simulation: which messages are used, and when the stopping rule first holds.

    `arrival_s` (M,) are seconds from the start of the round, inf for a message that never comes. Messages of one
    instant count together. Jittable and vmappable. Elapsed is inf if the rule never holds.
    """
    arrival_s = jnp.asarray(arrival_s)
    elapsed_s = jnp.minimum(scheme.stop.first_s(scheme.code, arrival_s), arrival_s.max())
    return (arrival_s <= elapsed_s) & jnp.isfinite(arrival_s), elapsed_s
