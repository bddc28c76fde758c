"""Caches of raw and prepared data and of compiled functions. A run never fails because a cache is unusable."""

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import platformdirs

COMPILED_BYTES = 2**30  # upper bound on the compiled functions kept between commands


def cache_dirs() -> list[Path]:
    """The folders that may hold cached files, in the order of search; new files go to the last one.

    The user's cache (XDG_CACHE_HOME is respected) and, if that is not writable, a temporary folder.
    """
    own = Path(platformdirs.user_cache_dir("erasurehead-jax"))
    reason = _why_not_writable(own)
    return [own] if reason is None else [own, _replacement(own, reason)]


def cache_dir() -> Path:
    """The folder for new cached files."""
    return cache_dirs()[-1]


def keep_compiled() -> None:
    """Turns on JAX's compilation cache, in the user's cache unless JAX_COMPILATION_CACHE_DIR names a folder.

    Each kind of processor has its own subfolder: a shared home may serve several kinds.
    """
    import jax  # late: preparing data does not need it

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled" / _processor()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def trim_compiled() -> None:
    """Removes the least recently used compiled functions until COMPILED_BYTES remain; once per command, not by ranks.

    With JAX's own limit all ranks would wait for one lock at every function that they load.
    """
    with contextlib.suppress(OSError):  # another command may be trimming too
        files = [(path, path.stat()) for path in (cache_dir() / "compiled").rglob("*") if path.is_file()]
        size = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda each: max(each[1].st_atime, each[1].st_mtime)):
            if size <= COMPILED_BYTES:
                return
            path.unlink(missing_ok=True)
            size -= stat.st_size


def _processor() -> str:
    """An identifier that is the same on every host or container with the same kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    kinds = ("vendor_id", "model name", "flags", "Features", "CPU implementer", "CPU part")
    described = sorted({line for line in lines if line.split("\t")[0].split(":")[0].strip() in kinds}) or lines
    return f"{platform.machine()}-{hashlib.sha256(repr(described).encode()).hexdigest()[:12]}"


def _why_not_writable(folder: Path) -> str | None:
    """Why the folder, which is created if missing, is not writable; None if it is."""
    if not folder.is_absolute():
        return "HOME is not set"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


@lru_cache
def _replacement(own: Path, reason: str) -> Path:
    """A temporary folder of this user, the same for all processes. Warns once per process."""
    folder = Path(tempfile.gettempdir()) / f"erasurehead-jax-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        stat = folder.lstat()
        trusted = stat.st_uid == os.getuid() and not folder.is_symlink() and _why_not_writable(folder) is None
    except OSError:
        trusted = False
    if not trusted:
        folder = Path(tempfile.mkdtemp(prefix="erasurehead-jax-"))
    print(
        f"warning: {own}: cannot be written ({reason}); data and compiled functions are cached in {folder} instead; "
        "set XDG_CACHE_HOME to a writable folder",
        file=sys.stderr,
    )
    return folder
