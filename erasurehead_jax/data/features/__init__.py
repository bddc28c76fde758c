"""Design matrices, one module a layout: X @ x, X.T @ r, and the columns that rows touch."""

from erasurehead_jax.data.features.base import AbstractFeatures as AbstractFeatures
from erasurehead_jax.data.features.dense import Dense as Dense
from erasurehead_jax.data.features.mixed import Mixed as Mixed
from erasurehead_jax.data.features.one_hot import (
    DENSE_CATEGORIES as DENSE_CATEGORIES,
    OneHot as OneHot,
    SplitOneHot as SplitOneHot,
)
from erasurehead_jax.data.features.sparse import PackedSparse as PackedSparse, Sparse as Sparse
