"""Real training runs in a subprocess with a time limit, and delay models and data sets for tests only."""

import atexit
import contextlib
import functools
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jaxtyping import Array, Float

from erasurehead_jax import AbstractDelay, Dataset, Logistic
from erasurehead_jax.data import Rows, synthetic
from erasurehead_jax.types import AnyArray, Key, Number

TESTS = Path(__file__).parent
LIMIT_S = 120  # so that a deadlock fails; no test asserts anything about the time itself


class Fixed(AbstractDelay):
    """The same seconds in every round, one entry per worker."""

    seconds: tuple[float, ...]

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        del key, t, load
        return jnp.array(self.seconds[:k])


class Spaced(AbstractDelay):
    """Multiples of 50 ms in random order, so that the order of arrival is certain."""

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        del load
        return 0.05 * (1.0 + jax.random.permutation(jax.random.fold_in(key, t), k))


class NanOnRank(Logistic):
    """The logistic loss, except that the gradients of one rank are not numbers once training has begun."""

    rank: int = 0

    def gradient(
        self, x: Float[AnyArray, "d *models"], rows: Rows, row_weights: Float[AnyArray, "m *models"]
    ) -> Float[Array, "d *models"]:
        true = super().gradient(x, rows, row_weights)
        mine = os.environ.get("OMPI_COMM_WORLD_RANK") == str(self.rank)
        return true * jnp.nan if mine else true


def broken_on_rank(rank: int, **sizes: Any) -> Dataset:
    """A data set that one rank cannot load."""
    if os.environ.get("OMPI_COMM_WORLD_RANK") == str(rank):
        raise RuntimeError("the disk of this rank is on fire")
    return synthetic(**sizes)


SMALL_DATA = ("data.rows=1003", "data.fields=5", "data.categories=40")  # 803 training rows: 4 does not divide them
SMALL = (*SMALL_DATA, "workers=4", "load=2", "wait_for=2", "rounds=8", "optimizer.step_size=2", "tracking=none")


class Finished(NamedTuple):
    """The result of a run that has ended."""

    status: int
    out: str
    err: str
    run_dir: Path

    @property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.run_dir / "history.csv")

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_dir / "summary.json").read_text())

    @property
    def arrival_s(self) -> np.ndarray:
        return np.load(self.run_dir / "arrivals.npz")["arrival_s"]


def command(*overrides: str) -> list[str]:
    """The command line of a training run."""
    return [sys.executable, "-m", "erasurehead_jax.train", *overrides]


def environment(**more: str) -> dict[str, str]:
    """The environment in which ranks find this module, whatever their working directory."""
    return os.environ | {"PYTHONPATH": str(TESTS), "COLUMNS": "200"} | more


class Live:
    """A run in progress: `with start_run(...) as run`. Its processes are ended on exit, whatever happens."""

    def __init__(self, folder: Path, *overrides: str, name: str = "run", before: tuple[str, ...] = ()):
        self.run_dir = folder / name
        self._ranks: dict[int, int] = {}
        where = (
            () if any(override.startswith("resume=") for override in overrides) else (f"hydra.run.dir={self.run_dir}",)
        )
        self.process = subprocess.Popen(
            [*before, *command(*overrides, *where)],
            cwd=folder,
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for pid in ranks_of(self.run_dir).values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    def wait_for_rows(self, rows: int) -> None:
        """Waits until history.csv has this many rounds."""
        history, until = self.run_dir / "history.csv", time.monotonic() + LIMIT_S
        while not history.exists() or history.read_bytes().count(b"\n") <= rows:
            assert time.monotonic() < until and self.process.poll() is None, f"no {rows} rounds"
            time.sleep(0.005)

    def wait_for_log(self, text: str) -> None:
        """Waits until train.log contains this text."""
        log, until = self.run_dir / "train.log", time.monotonic() + LIMIT_S
        while not log.exists() or text not in log.read_text():
            assert time.monotonic() < until and self.process.poll() is None, f"no {text!r} in the log"
            time.sleep(0.01)

    def send(self, worker: int, number: signal.Signals) -> None:
        """Sends a signal to a worker; -1 is the master."""
        if worker + 1 not in self._ranks:  # a search takes as long as several rounds
            self._ranks = ranks_of(self.run_dir)
        os.kill(self._ranks[worker + 1], number)

    def finish(self) -> Finished:
        """Waits for the end of the run."""
        out, err = self.process.communicate(timeout=LIMIT_S)
        return Finished(self.process.returncode, out, err, self.run_dir)


def ranks_of(run_dir: Path) -> dict[int, int]:
    """Rank -> process id, of the ranks whose titles, as `ps` shows them, name this run directory."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_text().rstrip("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if rank := re.fullmatch(rf"erasurehead-jax rank (\d+) of \d+: {re.escape(str(run_dir))}", title):
                found[int(rank[1])] = int(folder.name)
    return found


class Warm:
    """Runs commands in forks of a process that has imported the package: without the 2 s of every start of Python."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, TESTS / "warm.py"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, overrides: list[str], env: dict[str, str]) -> tuple[int, str, str]:
        """Status, stdout and stderr of `train` with these overrides in this folder."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([str(folder), overrides, env]) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], LIMIT_S)[0]:
            self.close()
            pytest.fail(f"train {' '.join(overrides)} did not end")
        return tuple(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process, and forgets it."""
        self._process.kill()
        self._process.wait()
        warm.cache_clear()


@functools.cache
def warm() -> Warm:
    """The one of this test process."""
    made = Warm()
    atexit.register(made.close)
    return made


def train(folder: Path, *overrides: str, **env: str) -> Finished:
    """Trains to the end."""
    resumes = any(override.startswith("resume=") and override != "resume=auto" for override in overrides)
    where = [] if resumes else [f"hydra.run.dir={folder / 'run'}"]
    status, out, err = warm().run(folder, [*overrides, *where], environment(**env))
    return Finished(status, out, err, folder / "run")


def execute(
    line: Sequence[str | Path], folder: Path, limit_s: float = LIMIT_S, /, **env: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder to its end, whatever its status."""
    return subprocess.run(
        line, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=limit_s, check=False
    )


def train_cold(folder: Path, *overrides: str, **env: str) -> Finished:
    """The same in a process of its own, as a user starts it."""
    run_dir = folder / "run"
    done = execute(command(*overrides, f"hydra.run.dir={run_dir}"), folder, **env)
    return Finished(done.returncode, done.stdout, done.stderr, run_dir)


def train_many(cases: list[tuple[Path, list[str]]], **env: str) -> list[Finished]:
    """Trains one after another."""
    return [train(folder, *overrides, **env) for folder, overrides in cases]
