"""What happens when a run has been evaluated: rules that end it early, and a user's own functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.objectives.metrics import Metric
from erasurehead_jax.rundir.targets import reached
from erasurehead_jax.settings import Settings


class Evaluation(NamedTuple):
    """The rounds since the last evaluation, as in history.csv; the last has metrics, and `params` is its model."""

    rows: list[dict[str, Any]]
    params: Any

    @property
    def last(self) -> dict[str, Any]:
        """The evaluated round."""
        return self.rows[-1]


Callback = Callable[[Evaluation], bool | None]  # True ends the run. Called on rank 0 while the clock stands still


class AtTarget:
    """Ends the run once the test metric has reached the target."""

    reason = "target"

    def __init__(self, metric: Metric, target: float):
        self._metric, self._target = metric, target

    def __call__(self, evaluation: Evaluation) -> bool:
        return bool(reached(evaluation.last[f"test_{self._metric.name}"], self._target, self._metric.more_is_better))


class Patience:
    """Ends the run after this many evaluations in a row without a better test metric than before."""

    reason = "patience"

    def __init__(self, metric: Metric, patience: int):
        self._metric, self._patience = metric, patience
        self._best, self._waited = -np.inf, 0

    def __call__(self, evaluation: Evaluation) -> bool:
        value = evaluation.last[f"test_{self._metric.name}"] * (1 if self._metric.more_is_better else -1)
        self._best, self._waited = (value, 0) if value > self._best else (self._best, self._waited + 1)
        return self._waited >= self._patience


def early_stops(metric: Metric, settings: Settings) -> list[Callback]:
    """The rules of these settings that end a run early."""
    rules: list[Callback] = []
    if settings.stop_at_target and settings.target is not None:
        rules.append(AtTarget(metric, settings.target))
    if settings.patience is not None:
        rules.append(Patience(metric, settings.patience))
    return rules


def require_evaluations(settings: Settings, callbacks: int) -> None:
    """Raises ConfigError for what depends on evaluations during training if there are none, or no target."""
    if settings.stop_at_target and settings.target is None:
        raise ConfigError("stop_at_target=true: needs a target; set target=VALUE of the test metric")
    for field, given in (
        ("stop_at_target=true", settings.stop_at_target),
        (f"patience={settings.patience}", settings.patience is not None),
        ("callbacks", callbacks > 0),
    ):
        if given and settings.evaluate_every is None:
            raise ConfigError(f"{field}: needs evaluations while the run goes on; set evaluate_every=10, for example")
