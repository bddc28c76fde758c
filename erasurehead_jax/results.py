"""A finished run, as Python sees it: its rounds, its results, and its model at work."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.files import ENCODER, HISTORY, MODEL, SUMMARY

if TYPE_CHECKING:
    import pandas as pd

    from erasurehead_jax.data import AbstractEncoder, AbstractFeatures
    from erasurehead_jax.objectives import AbstractObjective

ROWS = 65_536  # predicted at once


class Run:
    """The directory of a finished run. Nothing in it is ever unpickled."""

    def __init__(self, folder: Path, objective: "AbstractObjective | None" = None):
        self.folder, self._given = folder, objective

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings."""
        return yaml.safe_load((self.folder / ".hydra" / "config.yaml").read_text())

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return json.loads((self.folder / SUMMARY).read_text())

    @cached_property
    def history(self) -> "pd.DataFrame":
        """One row a round."""
        import pandas as pd  # late: ranks and simulations wait for these imports

        return pd.read_csv(self.folder / HISTORY)

    @cached_property
    def x(self) -> np.ndarray:
        """The parameters as one vector (d,)."""
        with np.load(self.folder / MODEL, allow_pickle=False) as file:
            return file["x"]

    @property
    def params(self) -> Any:
        """The parameters as the objective's user knows them: a vector, a matrix, or the pytree of a model."""
        return self._objective.params(self._x)

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The names of the classes; None for a regression."""
        found = self.summary.get("classes")
        return None if found is None else tuple(found)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row of the features."""
        return tuple(self.summary.get("row_shape", [self.summary["features"]]))  # version 0.1 had no images

    @cached_property
    def encoder(self) -> "AbstractEncoder | None":
        """What turns a user's columns into features, as fitted on the training rows."""
        from erasurehead_jax.data import load_encoder  # late, like all of JAX: `report` takes runs, too

        path = self.folder / ENCODER
        return load_encoder(path) if path.exists() else None

    def features(self, X: Any) -> "AbstractFeatures":
        """The features of a frame, an array or a file like the training data, as `predict` takes them."""
        from erasurehead_jax.data import AbstractFeatures, Dense

        if isinstance(X, AbstractFeatures):
            return X
        if self.encoder is not None:
            return self.encoder.features(self.encoder.read(X) if isinstance(X, str | Path) else X)
        if isinstance(X, str | Path):
            raise ConfigError(f"{self.folder}: its data came from no file, so that {X} cannot be read like them")
        features = Dense(np.asarray(X))
        if features.row_shape != self.row_shape:
            raise ConfigError(f"X: has rows of shape {features.row_shape}, but the model {self.row_shape}")
        return features

    def predict(self, X: Any) -> np.ndarray:
        """The name of each row's class, or a number. `X` is a frame or an array like the training data, or features.

        Raises ConfigError if a column of the training data is missing. Other columns, and categories that training has
        not seen, are warned of.
        """
        return self._objective.decide(self._scores(self.features(X)), self.classes)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities (m, K) of `classes`. Raises ConfigError for an objective that has none."""
        if (found := self.probabilities(X)) is None:
            raise ConfigError(f"objective={type(self._objective).__name__}: gives no probabilities; use predict")
        return found

    def probabilities(self, X: Any) -> np.ndarray | None:
        """The probabilities (m, K) of `classes`, or None if the objective has none."""
        return self._objective.probabilities(self._scores(self.features(X)))

    @property
    def _x(self) -> Any:
        import jax

        with jax.enable_x64(self.x.dtype == np.float64):
            return jax.numpy.asarray(self.x)

    def _scores(self, features: "AbstractFeatures") -> np.ndarray:
        import jax

        from erasurehead_jax.data import Rows

        objective, x = self._objective, self._x
        with jax.enable_x64(x.dtype == np.float64):
            score = jax.jit(objective.predict)
            parts = [features.take(slice(i, i + ROWS)) for i in range(0, max(len(features), 1), ROWS)]
            return np.concatenate([np.asarray(score(x, Rows(part, np.zeros(len(part))))) for part in parts])

    @cached_property
    def _objective(self) -> "AbstractObjective":
        if self._given is not None:
            return self._given
        from erasurehead_jax.job import instantiate
        from erasurehead_jax.objectives import AbstractObjective

        try:
            made = instantiate("objective", self.config, AbstractObjective)
        except ConfigError as error:
            kind = str(self.config["objective"]["_target_"]).rpartition(".")[2]
            raise ConfigError(
                f"{error}; give objective={kind}(...) to load, or put the class into a module that can be imported"
            ) from error
        return bound_to_template(made, self)


def bound_to_template(objective: "AbstractObjective", run: Run) -> "AbstractObjective":
    """The objective bound to data like those of the run."""
    import jax

    from erasurehead_jax.data import Dataset, Dense, Rows

    blank = run.encoder.blank() if run.encoder else Dense(np.zeros((1, *run.row_shape)))
    rows = Rows(blank, np.zeros(len(blank), int if run.classes else float))
    with jax.enable_x64(run.x.dtype == np.float64):
        return objective.bind(Dataset(run.summary["data"], rows, rows, run.classes))


def load(folder: str | Path, objective: "AbstractObjective | None" = None) -> Run:
    """The finished run in a directory. An `objective` that cannot be imported by its name must be given to predict.

    Raises ConfigError if there is no finished run.
    """
    folder = Path(folder).expanduser()
    if not (folder / SUMMARY).is_file():
        below = sorted(path.parent.name for path in folder.glob(f"*/{SUMMARY}"))
        hint = f"; choose one of {', '.join(below)} in it" if below else f" (it has no {SUMMARY})"
        raise ConfigError(f"{folder}: is no finished run{hint}")
    run = Run(folder)
    return run if objective is None else Run(folder, bound_to_template(objective, run))
