"""Features of several kinds side by side."""

from itertools import accumulate, pairwise

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.data.features.base import AbstractFeatures
from erasurehead_jax.types import AnyArray


class Mixed(AbstractFeatures):
    """Columns of several kinds side by side, each in the layout that is fast for it: dense, one-hot, sparse."""

    parts: tuple[AbstractFeatures, ...]

    @property
    def rows(self) -> int:
        return self.parts[0].rows

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    def matvec(self, x: Float[AnyArray, "d *models"]) -> Float[Array, "m *models"]:
        x = jnp.asarray(x)
        first, *others = (part.matvec(x[a:b]) for part, (a, b) in zip(self.parts, self._bounds(), strict=True))
        return sum(others, first)

    def rmatvec(self, r: Float[AnyArray, "m *models"]) -> Float[Array, "d *models"]:
        return jnp.concatenate([part.rmatvec(r) for part in self.parts])

    def take(self, rows: Int[AnyArray, " taken"] | slice) -> "Mixed":
        return Mixed(tuple(part.take(rows) for part in self.parts))

    def touched(self) -> Int[np.ndarray, " t"] | None:
        touched = [part.touched() for part in self.parts]
        if all(each is None for each in touched):
            return None
        bounds = self._bounds()
        return np.concatenate(
            [np.arange(a, b) if each is None else a + each for each, (a, b) in zip(touched, bounds, strict=True)]
        )

    def restrict(self, columns: Int[np.ndarray, " t"]) -> "Mixed":
        ends = np.searchsorted(columns, [bound for pair in self._bounds() for bound in pair]).reshape(-1, 2)
        return Mixed(
            tuple(
                part.restrict(columns[i:j] - a)
                for part, (a, _), (i, j) in zip(self.parts, self._bounds(), ends, strict=True)
            )
        )

    def first_bad(self) -> str | None:
        if len({part.rows for part in self.parts}) > 1:
            return f"features: parts of {', '.join(str(part.rows) for part in self.parts)} rows; must be equal"
        found = (f"{part_bad} (in part {i})" for i, part in enumerate(self.parts) if (part_bad := part.first_bad()))
        return next(found, None)

    def _bounds(self) -> list[tuple[int, int]]:
        """The first column of each part, and the one after its last."""
        ends = list(accumulate((part.dim for part in self.parts), initial=0))
        return list(pairwise(ends))
