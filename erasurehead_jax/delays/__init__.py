"""Straggler models and recorded traces, one module per family."""

from erasurehead_jax.delays.base import AbstractDelay as AbstractDelay, NoDelay as NoDelay
from erasurehead_jax.delays.exponential import Exponential as Exponential, ShiftedExponential as ShiftedExponential
from erasurehead_jax.delays.slow_workers import SlowWorkers as SlowWorkers
from erasurehead_jax.delays.trace import Trace as Trace
