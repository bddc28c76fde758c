"""Straggler models and recorded traces, one module per family."""

from erasurehead_jax.delays.base import AbstractDelay as AbstractDelay, NoDelay as NoDelay
from erasurehead_jax.delays.combined import Constant as Constant, LoadDependent as LoadDependent, Sum as Sum
from erasurehead_jax.delays.exponential import Exponential as Exponential, ShiftedExponential as ShiftedExponential
from erasurehead_jax.delays.gamma import Gamma as Gamma
from erasurehead_jax.delays.log_normal import LogNormal as LogNormal
from erasurehead_jax.delays.pareto import Pareto as Pareto
from erasurehead_jax.delays.slow_downs import Bursts as Bursts, SlowDowns as SlowDowns
from erasurehead_jax.delays.slow_workers import SlowWorkers as SlowWorkers
from erasurehead_jax.delays.speeds import Drift as Drift, SlowRacks as SlowRacks, UnequalWorkers as UnequalWorkers
from erasurehead_jax.delays.trace import Trace as Trace
from erasurehead_jax.delays.weibull import Weibull as Weibull
