"""The paper's data sets: columns of a raw file, each distinct value a category."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.data import raw
from erasurehead_jax.data.dataset import Dataset, Rows, split_rows
from erasurehead_jax.data.features import OneHot
from erasurehead_jax.data.prepared import prepared
from erasurehead_jax.errors import ConfigError, require_whole

Encode = Callable[[Path], tuple[Int[np.ndarray, "fields rows"], Float[np.ndarray, " rows"]]]


class Table1(NamedTuple):
    """The sizes in the paper's Table 1, which the preprocessing must reproduce exactly."""

    train_rows: int
    test_rows: int
    dim: int


def one_hot_dataset(file: raw.RawFile, encode: Encode, sizes: Table1, split_seed: int) -> Dataset:
    """Loads the data set from the prepared cache, which is first created from the raw file if necessary.

    `encode` reads the raw file into category codes (0, 1, ... for each field, over **all** rows) and targets.
    Raises ConfigError for a missing or corrupt file.
    """
    require_whole("data.split_seed", split_seed, 0)
    path = raw.find(file)
    published = path is not None
    if path is None:
        path = raw.download(file)

    def make() -> Dataset:
        if published:
            raw.verify(file, path)
        return _made(file, path, encode, sizes, split_seed)

    return prepared(file.data, {file.data: path}, {"split_seed": split_seed}, make)


def category_codes(column: np.ndarray) -> Int[np.ndarray, " rows"]:
    """The rank of each value among the distinct values, sorted."""
    return np.unique(column, return_inverse=True)[1].astype(np.int32)


def _made(file: raw.RawFile, path: Path, encode: Encode, sizes: Table1, split_seed: int) -> Dataset:
    try:
        codes, target = encode(path)
    except (ValueError, KeyError, OSError) as error:
        raise ConfigError(f"data={file.data}: {path} cannot be parsed ({error}); get it from {file.home}") from None
    categories = codes.max(1) + 1
    offsets = np.concatenate([[0], np.cumsum(categories)[:-1]]).astype(np.int32)
    train, test = split_rows(codes.shape[1], split_seed)
    found = Table1(len(train), len(test), int(categories.sum()))
    if found != sizes:
        raise ConfigError(f"data={file.data}: {path} has {found}, the paper {sizes}; get {file.name} from {file.home}")
    everything = Rows(OneHot(codes + offsets[:, None], sizes.dim), target)
    return Dataset(file.data, everything.take(train), everything.take(test))
