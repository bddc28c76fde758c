"""Finding raw files: $ERASUREHEAD_DATA, then the user's cache, then a download; checked by sha256."""

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
    home: str  # where a person can get it
    download: Callable[[Path], None]  # writes the file's columns of interest into this path, as CSV


def search_dirs() -> list[Path]:
    """Where raw files are looked for, in order."""
    named = os.environ.get("ERASUREHEAD_DATA")
    return [*([Path(named).expanduser()] if named else []), *(folder / "raw" for folder in cache_dirs())]


def find(raw: RawFile) -> Path | None:
    """The first of `search_dirs` that has the file, compressed or not."""
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
    """Downloads with scikit-learn into the user's cache. Raises ConfigError that says how to get the file by hand."""
    from rich.console import Console

    console = Console(stderr=True)
    path = cache_dir() / "raw" / f"{raw.data}-downloaded.csv"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    looked = ", ".join(str(folder / raw.name) for folder in search_dirs())
    try:
        with console.status(f"downloading {raw.data} ..."), warnings.catch_warnings(action="ignore"):
            raw.download(partial)
        partial.replace(path)
        console.print(
            f"{raw.data}: this copy is checked by its sizes, not by sha256; another order of rows is possible"
        )
    except Exception as error:  # scikit-learn, urllib and pandas each raise their own
        partial.unlink(missing_ok=True)
        raise ConfigError(
            f"data={raw.data}: {raw.name} not found (looked for {looked}, also .gz and .xz) and the download failed "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}); "
            f"get it from {raw.home} and set ERASUREHEAD_DATA to its folder"
        ) from None
    return path
