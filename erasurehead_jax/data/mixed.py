"""Features of several kinds side by side, each in the layout that is fast for it."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data.features import AbstractFeatures
from erasurehead_jax.types import AnyArray


class Mixed(AbstractFeatures):
    """Parts with the same rows; their columns follow each other."""

    parts: tuple[AbstractFeatures, ...]

    @property
    def rows(self) -> int:
        return self.parts[0].rows

    @property
    def dim(self) -> int:
        return self._bounds()[-1]

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        products = [part.matvec(x[low:high]) for part, (low, high) in self._with_bounds()]
        return sum(products[1:], start=products[0])

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        return jnp.concatenate([part.rmatvec(r) for part in self.parts])

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "Mixed":
        return Mixed(tuple(part.take(rows) for part in self.parts))

    def touched(self) -> Int[np.ndarray, " t"] | None:
        found = [part.touched() for part in self.parts]
        if all(each is None for each in found):
            return None
        bounds = pairwise(self._bounds())
        return np.concatenate(
            [np.arange(low, high) if own is None else own + low for own, (low, high) in zip(found, bounds, strict=True)]
        )

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "Mixed":
        inside = [columns[(columns >= low) & (columns < high)] - low for _, (low, high) in self._with_bounds()]
        return Mixed(tuple(part.restrict(own) for part, own in zip(self.parts, inside, strict=True)))

    def first_bad(self) -> str | None:
        return next((bad for part in self.parts if (bad := part.first_bad())), None)

    def _bounds(self) -> list[int]:
        return [0, *np.cumsum([part.dim for part in self.parts]).tolist()]

    def _with_bounds(self):
        return zip(self.parts, pairwise(self._bounds()), strict=True)
