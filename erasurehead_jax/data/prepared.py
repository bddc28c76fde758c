"""The prepared cache: data sets as folders of arrays, which ranks map into memory instead of parsing files again."""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from erasurehead_jax.caches import cache_dirs
from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.data.encoder import load_encoder
from erasurehead_jax.data.features import AbstractFeatures, Dense, OneHot
from erasurehead_jax.data.features.mixed import Mixed
from erasurehead_jax.data.features.sparse import Sparse
from erasurehead_jax.errors import ConfigError

FORMAT = 3  # increment when the preprocessing or the layout of the prepared files changes
KINDS = {kind.__name__: kind for kind in (Dense, OneHot, Sparse, Mixed)}
LAYOUT, ENCODER = "dataset.json", "encoder.json"


def prepared(
    name: str, files: Mapping[str, str | Path | None], settings: dict[str, Any], make: Callable[[], Dataset]
) -> Dataset:
    """The data set `name` from the prepared cache, which first gets what `make` returns if necessary.

    `files` are the paths by the setting that names them, None where it names none. The data set is prepared again if a
    file or a setting changes. Raises ConfigError for a missing file and an unusable cache.
    """
    stamps = [_stamp(field, path) for field, path in files.items() if path is not None]
    stamp = json.dumps([FORMAT, *stamps, settings], sort_keys=True)
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:12]
    kept = [base / "prepared" / f"{name}-{digest}" for base in cache_dirs()]
    folder = next((each for each in kept if each.is_dir()), kept[-1])
    if not folder.is_dir():
        dataset = make()
        try:
            _keep(folder, dataset)
        except OSError as error:
            raise ConfigError(
                f"data={name}: {folder.parent} cannot be written ({error.strerror}); set XDG_CACHE_HOME to a "
                "writable folder with free space"
            ) from None
    return _load(folder, name)


def _stamp(field: str, path: str | Path) -> list[Any]:
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise ConfigError(f"{field}={path}: {error.strerror}") from None
    return [field, str(Path(path).resolve()), stat.st_size, stat.st_mtime_ns]


def _keep(folder: Path, dataset: Dataset) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))  # several hosts may prepare the data at once
    try:
        write_dataset(partial, dataset)
        partial.replace(folder)
    except OSError:
        shutil.rmtree(partial)
        if not folder.is_dir():  # otherwise another process was first
            raise


def _load(folder: Path, name: str) -> Dataset:
    try:
        return read_dataset(folder)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise ConfigError(
            f"data={name}: {folder} is damaged ({error}); remove it, and it will be prepared again"
        ) from None


def write_dataset(folder: Path, dataset: Dataset) -> None:
    """Writes a data set of built-in features into an empty folder: .npy files, and JSON for all else."""
    layout: dict[str, Any] = {"name": dataset.name}
    for part, rows in (("train", dataset.train), ("test", dataset.test)):
        layout[part] = _written(folder, part, rows.features)
        np.save(folder / f"{part}_target.npy", rows.target, allow_pickle=False)
    (folder / LAYOUT).write_text(json.dumps(layout))
    if dataset.encoder is not None:
        dataset.encoder.save(folder / ENCODER)


def read_dataset(folder: Path) -> Dataset:
    """The data set that `write_dataset` wrote, with features that are mapped into memory."""
    layout = json.loads((folder / LAYOUT).read_text())

    def rows(part: str) -> Rows:
        target = np.load(folder / f"{part}_target.npy", allow_pickle=False)
        return Rows(_read(folder, layout[part]), target)

    encoder = load_encoder(folder / ENCODER) if (folder / ENCODER).exists() else None
    return Dataset(layout["name"], rows("train"), rows("test"), encoder=encoder)


def _written(folder: Path, name: str, value: Any) -> Any:
    """The value as JSON, in which arrays are the names of files."""
    if isinstance(value, AbstractFeatures):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        written = {field: _written(folder, f"{name}_{field}", each) for field, each in fields.items()}
        return {"kind": type(value).__name__} | written
    if isinstance(value, tuple):
        return [_written(folder, f"{name}_{i}", each) for i, each in enumerate(value)]
    if isinstance(value, int):
        return value
    np.save(folder / f"{name}.npy", np.ascontiguousarray(value), allow_pickle=False)
    return f"{name}.npy"


def _read(folder: Path, written: Any) -> Any:
    if isinstance(written, dict):
        fields = {name: _read(folder, each) for name, each in written.items() if name != "kind"}
        return KINDS[written["kind"]](**fields)
    if isinstance(written, list):
        return tuple(_read(folder, each) for each in written)
    return np.load(folder / written, mmap_mode="r", allow_pickle=False) if isinstance(written, str) else written
