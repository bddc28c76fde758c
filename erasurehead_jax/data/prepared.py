"""The prepared cache: one-hot index matrices of raw files, which ranks map into memory instead of parsing again."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.caches import cache_dirs
from erasurehead_jax.data import raw
from erasurehead_jax.data.dataset import Dataset, Rows, split_rows
from erasurehead_jax.data.features import OneHot
from erasurehead_jax.errors import ConfigError, require_whole

FORMAT = 1  # increment when the preprocessing or the layout of the prepared files changes


class Table1(NamedTuple):
    """The sizes in the paper's Table 1, which the preprocessing must reproduce exactly."""

    train_rows: int
    test_rows: int
    dim: int


def one_hot_dataset(
    file: raw.RawFile,
    encode: Callable[[Path], tuple[Int[np.ndarray, "fields rows"], Float[np.ndarray, " rows"]]],
    sizes: Table1,
    split_seed: int,
) -> Dataset:
    """Loads the data set from the prepared cache, which is first created from the raw file if necessary.

    `encode` reads the raw file into category codes (0, 1, ... for each field, over **all** rows) and targets.
    Raises ConfigError for a missing or corrupt file.
    """
    require_whole("data.split_seed", split_seed, 0)
    path = raw.find(file)
    published = path is not None
    if path is None:
        path = raw.download(file)
    stat = path.stat()
    stamp = f"{FORMAT} {path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:12]
    kept = [base / "prepared" / f"{file.data}-split{split_seed}-{digest}" for base in cache_dirs()]
    folder = next((each for each in kept if each.is_dir()), kept[-1])
    if not folder.is_dir():
        if published:
            raw.verify(file, path)
        _prepare(folder, file, path, encode, sizes, split_seed)
    return _load(folder, file.data, sizes.dim)


def category_codes(column: np.ndarray) -> Int[np.ndarray, " rows"]:
    """The rank of each value among the distinct values, sorted."""
    return np.unique(column, return_inverse=True)[1].astype(np.int32)


def _prepare(folder: Path, file: raw.RawFile, path: Path, encode, sizes: Table1, split_seed: int) -> None:
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
    try:
        _keep(folder, codes + offsets[:, None], target, {"train": train, "test": test})
    except OSError as error:
        raise ConfigError(
            f"data={file.data}: {folder.parent} cannot be written ({error.strerror}); set XDG_CACHE_HOME to a "
            "writable folder with free space"
        ) from None


def _keep(folder: Path, index: np.ndarray, target: np.ndarray, parts: dict[str, np.ndarray]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))  # several hosts may prepare the data at once
    try:
        for part, rows in parts.items():
            np.save(partial / f"{part}_index.npy", np.ascontiguousarray(index[:, rows]))
            np.save(partial / f"{part}_target.npy", target[rows])
        partial.replace(folder)
    except OSError:
        shutil.rmtree(partial)
        if not folder.is_dir():  # otherwise another process was first
            raise


def _load(folder: Path, name: str, dim: int) -> Dataset:
    def rows(part: str) -> Rows:
        index = np.load(folder / f"{part}_index.npy", mmap_mode="r", allow_pickle=False)
        return Rows(OneHot(index, dim), np.load(folder / f"{part}_target.npy", allow_pickle=False))

    try:
        return Dataset(name, rows("train"), rows("test"))
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(
            f"data={name}: {folder} is damaged ({error}); remove it, and it will be prepared again"
        ) from None
