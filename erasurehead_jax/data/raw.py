"""Raw data files: looked up in $ERASUREHEAD_DATA, then in the user's cache, else downloaded; verified by sha256."""

import gzip
import hashlib
import lzma
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from erasurehead_jax.caches import cache_dir, cache_dirs
from erasurehead_jax.errors import ConfigError


class RawFile(NamedTuple):
    """A published file: its name (which may also end in .gz or .xz) and the sha256 of its uncompressed bytes."""

    data: str  # the data set's name
    name: str
    sha256: str
    home: str  # where to get it by hand
    download: Callable[[Path], None]  # writes the file's columns of interest into this path, as CSV


def search_dirs() -> list[Path]:
    """The folders that are searched for raw files, in order."""
    named = os.environ.get("ERASUREHEAD_DATA")
    return [*([Path(named).expanduser()] if named else []), *(folder / "raw" for folder in cache_dirs())]


def find(raw: RawFile) -> Path | None:
    """The path of the file, compressed or not, in the first of `search_dirs` that has it; None if none does."""
    for folder in search_dirs():
        for ending in ("", ".gz", ".xz"):
            path = folder / (raw.name + ending)
            if path.is_file():
                return path
    return None


def verify(raw: RawFile, path: Path) -> None:
    """Raises ConfigError unless the uncompressed bytes have the published sha256."""
    try:
        with open_raw(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ConfigError(f"data={raw.data}: {path} cannot be read ({error}); get it again from {raw.home}") from None
    if digest != raw.sha256:
        raise ConfigError(
            f"data={raw.data}: {path} is corrupt or another version (sha256 {digest[:12]}..., "
            f"expected {raw.sha256[:12]}...); get {raw.name} again from {raw.home}"
        )


def open_raw(path: Path):
    """The file's uncompressed bytes."""
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    return opener(path, "rb")


def download(raw: RawFile) -> Path:
    """Downloads the file with scikit-learn into the user's cache; a ConfigError explains how to get it by hand."""
    from rich.console import Console

    console = Console(stderr=True)
    path = cache_dir() / "raw" / f"{raw.data}-downloaded.csv"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    searched = ", ".join(str(folder / raw.name) for folder in search_dirs())
    try:
        with console.status(f"downloading {raw.data} ..."), warnings.catch_warnings(action="ignore"):
            raw.download(partial)
        partial.replace(path)
        console.print(
            f"{raw.data}: downloaded copies are verified by their sizes, not by sha256; rows may be in another order"
        )
    except Exception as error:  # scikit-learn, urllib and pandas raise errors of their own
        partial.unlink(missing_ok=True)
        raise ConfigError(
            f"data={raw.data}: {raw.name} not found (searched {searched}, also .gz and .xz) and the download failed "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}); "
            f"get it from {raw.home} and set ERASUREHEAD_DATA to its folder"
        ) from None
    return path
