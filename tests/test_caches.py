"""Caches: per kind of processor, bounded in size, where the user wants them, and never the reason for a failed run."""

import os
import platform
from pathlib import Path

import jax
import pytest
from harness import SMALL, train

from erasurehead_jax import caches
from erasurehead_jax.caches import cache_dir, cache_dirs, keep_compiled, trim_compiled


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "erasurehead-jax"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch):
    """Restores the settings of JAX that keep_compiled changes."""
    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")
    before = {name: getattr(jax.config, f"jax_{name}") for name in names}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield lambda: jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    for name, value in before.items():
        jax.config.update(f"jax_{name}", value)


def test_a_container_with_another_host_name_finds_the_functions_again(cache: Path, compiled, monkeypatch):
    keep_compiled()
    first = compiled()
    monkeypatch.setattr(platform, "node", lambda: "another-host")
    keep_compiled()
    assert compiled() == first and Path(first).parent == cache / "compiled"


def test_another_processor_has_functions_of_its_own(cache: Path, compiled, monkeypatch):
    keep_compiled()
    first = compiled()
    monkeypatch.setattr(Path, "read_text", lambda _: "model name\t: another\nflags\t\t: none\n")
    keep_compiled()
    assert compiled() != first


def test_the_users_folder_is_obeyed(cache: Path, compiled, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", "/chosen")  # as JAX does when it is imported
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/chosen")
    keep_compiled()
    assert compiled() == "/chosen"


def test_what_was_not_used_for_longest_goes(cache: Path, monkeypatch):
    monkeypatch.setattr(caches, "COMPILED_BYTES", 250)
    (folder := cache / "compiled" / "some-processor").mkdir(parents=True)
    for i in range(5):
        (folder / str(i)).write_bytes(bytes(100))
        os.utime(folder / str(i), (1000 + i, 1000 + i))
    os.utime(folder / "0", (5000, 1000))  # written first, read last
    trim_compiled()
    assert sorted(path.name for path in folder.iterdir()) == ["0", "4"]
    trim_compiled()
    assert len(list(folder.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_replaced_with_a_warning(tmp_path: Path, monkeypatch, capfd):
    """It is still read, because a group may share what an administrator has prepared."""
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(caches.tempfile, "tempdir", str(tmp_path / "tmp"))
    caches._replacement.cache_clear()
    own, instead = cache_dirs()
    assert own == tmp_path / "file" / "erasurehead-jax" and instead.parent == tmp_path / "tmp"
    assert cache_dir() == instead and instead.stat().st_mode & 0o077 == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"warning: {own}: cannot be written (Not a directory)") and "set XDG_CACHE_HOME" in line
    caches._replacement.cache_clear()
    assert cache_dir() == instead  # by all processes


def test_somebody_elses_folder_is_not_used(tmp_path: Path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"erasurehead-jax-{os.getuid()}").symlink_to(tmp_path / "theirs")
    monkeypatch.setattr(caches.tempfile, "tempdir", str(tmp_path))
    caches._replacement.cache_clear()
    folder = caches._replacement(Path("/nowhere"), "no reason")
    assert folder.is_dir() and folder.name != f"erasurehead-jax-{os.getuid()}" and not folder.is_symlink()


@pytest.mark.mpi
@pytest.mark.slow
def test_training_without_a_home_or_a_cache(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    no_home = {"XDG_CACHE_HOME": str(tmp_path / "file" / "cache"), "HOME": str(tmp_path / "file" / "home")}
    tracked = [each for each in SMALL if each != "tracking=none"]
    run = train(tmp_path, *tracked, "tracking=wandb", WANDB_MODE="offline", TMPDIR=str(tmp_path / "tmp"), **no_home)
    assert run.status == 0 and len(run.history) == 8, run.err
    (line,) = [line for line in run.err.splitlines() if line.startswith("warning: ")]
    assert str(tmp_path / "file" / "cache" / "erasurehead-jax") in line and "set XDG_CACHE_HOME" in line
    left = [path.name for path in (tmp_path / "tmp").iterdir()]
    assert not [name for name in left if "wandb" in name]
