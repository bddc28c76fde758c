"""Real training runs in a subprocess, with a time limit, and a delay model and data sets that only tests want."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from erasurehead_jax import AbstractDelay, Dataset
from erasurehead_jax.data import synthetic
from erasurehead_jax.types import Key, Number

TESTS = Path(__file__).parent
LIMIT_S = 120  # a deadlock fails fast; nothing is asserted about the time itself


class Fixed(AbstractDelay):
    """The same seconds in every round, one for each worker."""

    seconds: tuple[float, ...]

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        del key, t, load
        return jnp.array(self.seconds[:k])


class Spaced(AbstractDelay):
    """Multiples of 50 ms in random order: who comes first is beyond doubt."""

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        del load
        return 0.05 * (1.0 + jax.random.permutation(jax.random.fold_in(key, t), k))


def broken_on_rank(rank: int, **sizes: Any) -> Dataset:
    """Data that one rank cannot load."""
    if os.environ.get("OMPI_COMM_WORLD_RANK") == str(rank):
        raise RuntimeError("the disk of this rank is on fire")
    return synthetic(**sizes)


SMALL_DATA = ("data.rows=1003", "data.fields=5", "data.categories=40")  # 803 training rows: 4 does not divide them
SMALL = (*SMALL_DATA, "workers=4", "load=2", "wait_for=2", "rounds=8", "optimizer.step_size=2", "tracking=none")


class Finished(NamedTuple):
    """A run that has ended."""

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
    """So that ranks find this module, whatever their working directory."""
    return os.environ | {"PYTHONPATH": str(TESTS), "COLUMNS": "200"} | more


def train(folder: Path, *overrides: str, **env: str) -> Finished:
    """Runs to the end."""
    run_dir = folder / "run"
    done = subprocess.run(
        command(*overrides, f"hydra.run.dir={run_dir}"),
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr, run_dir)
