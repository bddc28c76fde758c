"""A finished run, as Python sees it."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.files import HISTORY, MODEL, SUMMARY


class Run:
    """The directory of a finished run: its settings, rounds, results and model."""

    def __init__(self, folder: Path, objective: Any = None):
        self.folder, self._objective = folder, objective

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return yaml.safe_load((self.folder / ".hydra" / "config.yaml").read_text())

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return json.loads((self.folder / SUMMARY).read_text())

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row a round."""
        return pd.read_csv(self.folder / HISTORY)

    @cached_property
    def x(self) -> np.ndarray:
        """The parameters as one vector (d,)."""
        with np.load(self.folder / MODEL, allow_pickle=False) as file:
            return file["x"]

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"


def load(folder: str | Path) -> Run:
    """The finished run in a directory. Raises ConfigError if there is none."""
    folder = Path(folder).expanduser()
    if not (folder / SUMMARY).is_file():
        raise ConfigError(f"{folder}: contains no finished run (it has no {SUMMARY})")
    return Run(folder)
