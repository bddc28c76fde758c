"""Objectives, one module per family."""

from erasurehead_jax.objectives.base import AbstractObjective as AbstractObjective
from erasurehead_jax.objectives.linear import AbstractLinear as AbstractLinear
from erasurehead_jax.objectives.metrics import METRICS as METRICS, Metric as Metric
from erasurehead_jax.objectives.mlp import MLP as MLP
from erasurehead_jax.objectives.model import Model as Model
from erasurehead_jax.objectives.regression import (
    Huber as Huber,
    LeastSquares as LeastSquares,
    Poisson as Poisson,
)
from erasurehead_jax.objectives.softmax import Softmax as Softmax
from erasurehead_jax.objectives.two_classes import Logistic as Logistic, SquaredHinge as SquaredHinge
