"""Gradient codes, one module per family."""

from erasurehead_jax.codes.base import AbstractCode as AbstractCode
from erasurehead_jax.codes.bernoulli import Bernoulli as Bernoulli
from erasurehead_jax.codes.bibd import BIBD as BIBD
from erasurehead_jax.codes.block_model import BlockModel as BlockModel
from erasurehead_jax.codes.communication_efficient import CommunicationEfficient as CommunicationEfficient
from erasurehead_jax.codes.coupon_collector import CouponCollector as CouponCollector
from erasurehead_jax.codes.custom import Custom as Custom
from erasurehead_jax.codes.cyclic_mds import CyclicMDS as CyclicMDS
from erasurehead_jax.codes.cyclic_repetition import CyclicRepetition as CyclicRepetition
from erasurehead_jax.codes.fractional_repetition import FractionalRepetition as FractionalRepetition
from erasurehead_jax.codes.graph_code import GraphCode as GraphCode
from erasurehead_jax.codes.on_host import on_host as on_host
from erasurehead_jax.codes.partial import PartialCyclic as PartialCyclic, PartialReplication as PartialReplication
from erasurehead_jax.codes.per_block import PerBlock as PerBlock
from erasurehead_jax.codes.reed_solomon import ReedSolomon as ReedSolomon
from erasurehead_jax.codes.regular_graph import RegularGraph as RegularGraph
from erasurehead_jax.codes.stochastic import StochasticCode as StochasticCode
from erasurehead_jax.codes.uncoded import Uncoded as Uncoded
