"""Data sets: from a raw file to a `Dataset`, and from its rows to blocks."""

from erasurehead_jax.data.amazon import amazon as amazon
from erasurehead_jax.data.arrays import array_dataset as array_dataset, arrays as arrays
from erasurehead_jax.data.check import (
    require_counts as require_counts,
    require_numbers as require_numbers,
    require_sound as require_sound,
)
from erasurehead_jax.data.classes import (
    are_classes as are_classes,
    as_classes as as_classes,
    as_signs as as_signs,
    untested_classes as untested_classes,
)
from erasurehead_jax.data.covertype import covertype as covertype
from erasurehead_jax.data.dataset import Dataset as Dataset, Rows as Rows, block_bounds as block_bounds
from erasurehead_jax.data.encoder import AbstractEncoder as AbstractEncoder, load_encoder as load_encoder
from erasurehead_jax.data.features import (
    AbstractFeatures as AbstractFeatures,
    Dense as Dense,
    Mixed as Mixed,
    OneHot as OneHot,
    Sparse as Sparse,
)
from erasurehead_jax.data.kc_housing import kc_housing as kc_housing
from erasurehead_jax.data.svmlight import svmlight as svmlight
from erasurehead_jax.data.synthetic import synthetic as synthetic
from erasurehead_jax.data.table import table as table, table_dataset as table_dataset
