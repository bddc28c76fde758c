"""Gradient coding for distributed training: real MPI runs and simulated ones from the same objects."""

from erasurehead_jax.codes import (
    AbstractCode as AbstractCode,
    CyclicRepetition as CyclicRepetition,
    FractionalRepetition as FractionalRepetition,
    Uncoded as Uncoded,
)
from erasurehead_jax.data import Dataset as Dataset, Dense as Dense, OneHot as OneHot, Rows as Rows
from erasurehead_jax.decoding import (
    AbstractDecode as AbstractDecode,
    ByCode as ByCode,
    ByLeastSquares as ByLeastSquares,
)
from erasurehead_jax.delays import (
    AbstractDelay as AbstractDelay,
    Exponential as Exponential,
    NoDelay as NoDelay,
    ShiftedExponential as ShiftedExponential,
    SlowWorkers as SlowWorkers,
    Trace as Trace,
)
from erasurehead_jax.errors import ConfigError as ConfigError
from erasurehead_jax.objectives import (
    AbstractObjective as AbstractObjective,
    LeastSquares as LeastSquares,
    Logistic as Logistic,
)
from erasurehead_jax.scheme import Scheme as Scheme, collect as collect
from erasurehead_jax.stopping import (
    AbstractStop as AbstractStop,
    AllOf as AllOf,
    AnyOf as AnyOf,
    Count as Count,
    Deadline as Deadline,
    Decodable as Decodable,
    DecodeError as DecodeError,
)
