"""A script's loss as ranks know it: a program for the gradient, and nothing else."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float

from erasurehead_jax.data import Dataset, Rows
from erasurehead_jax.loop.rows import Arrays
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.objectives.metrics import LOSS, Metric
from erasurehead_jax.types import AnyArray, Key, Params

ONLY_GRADIENTS = "ranks compute the gradients of a script's loss, and nothing else"


class SentLoss(AbstractObjective):
    """The gradient of somebody's loss, as exported by JAX: no code of hers runs on the ranks."""

    program: bytes = eqx.field(static=True, repr=False)
    parameters: int = eqx.field(static=True)
    metric: ClassVar[Metric] = LOSS

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        return export.deserialize(bytearray(self.program)).call(x, row_weights, *jax.tree.leaves(rows))

    def init(self, key: Key, dataset: Dataset) -> Params:
        return jnp.zeros(self.parameters)  # for their number; a script has its own

    def check(self, dataset: Dataset) -> None:
        """The launcher's rank has checked it."""

    def touched(self, rows: Rows) -> None:
        return None

    def predict(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *scores"]:
        raise TypeError(ONLY_GRADIENTS)

    def row_losses(self, x: Float[AnyArray, "d *models"], rows: Rows) -> Float[Array, "m *models"]:
        raise TypeError(ONLY_GRADIENTS)


def sent_dataset(rows: Rows) -> Dataset:
    """The rows as a data set, as far as ranks need one: the program takes leaves, whatever they were nested in."""
    if isinstance(rows.features, Arrays):
        rows = Rows(Arrays(tuple(jax.tree.leaves(rows.features))), rows.target)
    return Dataset("script", rows, rows.take(slice(1)))
