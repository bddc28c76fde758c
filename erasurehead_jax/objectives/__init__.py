"""Objectives, one module per family."""

from erasurehead_jax.objectives.base import AbstractObjective as AbstractObjective
from erasurehead_jax.objectives.linear import (
    AbstractLinear as AbstractLinear,
    LeastSquares as LeastSquares,
    Logistic as Logistic,
)
