"""Gradient codes, one module per family."""

from erasurehead_jax.codes.base import AbstractCode as AbstractCode
from erasurehead_jax.codes.cyclic_repetition import CyclicRepetition as CyclicRepetition
from erasurehead_jax.codes.fractional_repetition import FractionalRepetition as FractionalRepetition
from erasurehead_jax.codes.uncoded import Uncoded as Uncoded
