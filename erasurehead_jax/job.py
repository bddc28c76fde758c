"""From a resolved config to the objects of a run. Both backends, the launcher and every rank build them here."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import hydra.utils
import jax
import numpy as np
from hydra.errors import InstantiationException
from jax.tree_util import Partial
from jaxtyping import Float

from erasurehead_jax.data import Dataset, block_bounds, require_sound
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.errors import ConfigError, shown
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.settings import Settings, read_settings, require_callable


class JobSpec(NamedTuple):
    """What the launcher hands to a backend. It travels as JSON."""

    config: dict[str, Any]  # resolved
    choices: dict[str, str]  # config group -> chosen file
    run_dir: str
    checkpoint: str | None  # to continue from
    launched_s: float  # since the epoch
    launcher: tuple[str, int]  # its host and process id
    more: bool  # may another job follow?

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "JobSpec":
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


class Problem(NamedTuple):
    """What is minimised: (1/N) * sum of row losses + l2 * ||x||^2."""

    objective: AbstractObjective
    dataset: Dataset
    l2: float

    @property
    def dtype(self) -> np.dtype:
        """Of parameters, gradients and messages."""
        return np.dtype(np.float64 if jax.config.jax_enable_x64 else np.float32)  # pyright: ignore

    @property
    def parameters(self) -> int:
        """d: how many parameters the objective has, which need not be the number of columns."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        start = jax.eval_shape(lambda key: self.objective.init(key, self.dataset), key)
        return start.shape[0]

    def start(self, seed: int) -> Float[np.ndarray, " d"]:
        """The starting point, a function of the seed."""
        init, _ = run_keys(seed)
        return np.asarray(self.objective.init(init, self.dataset), self.dtype)


class Job(NamedTuple):
    """The objects of one training run, and its settings."""

    problem: Problem
    scheme: Scheme
    delay: AbstractDelay
    settings: Settings

    def delays(self) -> Callable[[int], Float[np.ndarray, " k"]]:
        """Round -> seconds that each worker sleeps, the same in both backends."""
        code, (_, key) = self.scheme.code, run_keys(self.settings.seed)
        draw = jax.jit(lambda t: self.delay.sample(key, t, code.workers, code.load / code.blocks))

        def delays_s(round_: int) -> Float[np.ndarray, " k"]:
            with jax.enable_x64(True):  # as the simulator: a model may draw otherwise in float32
                return np.asarray(draw(round_))

        return delays_s


def build(config: dict[str, Any], data_checked: bool = False) -> Job:
    """The objects of a resolved config. Raises ConfigError for the first setting that breaks a rule.

    The values of the data set are not looked at again where somebody has `data_checked`: the launcher, for its ranks.
    """
    settings = read_settings(config)
    jax.config.update("jax_enable_x64", settings.x64)
    scheme = build_scheme(config)
    delay = build_delay(config)
    objective, dataset = build_data(config, data_checked)
    block_bounds(len(dataset.train), scheme.code.blocks)
    l2 = 1 / len(dataset.train) if settings.l2 is None else settings.l2
    return Job(Problem(objective, dataset, l2), scheme, delay, settings)


def build_data(config: dict[str, Any], data_checked: bool = False) -> tuple[AbstractObjective, Dataset]:
    """The objective, and the data set with the targets that it needs. Raises ConfigError for a value that is not
    allowed.
    """
    objective = instantiate("objective", config, AbstractObjective)
    dataset = _dataset(json.dumps(config["data"]), config["x64"], data_checked)
    made = objective.check(dataset)
    return objective, dataset if made is None else made  # an objective that only checks may leave it as it is


@lru_cache(maxsize=1)  # successive jobs mostly have the same
def _dataset(data: str, x64: bool, data_checked: bool) -> Dataset:
    del x64
    dataset = instantiate("data", {"data": json.loads(data)}, Dataset)
    if not data_checked:
        require_sound(dataset)
    return dataset


def build_scheme(config: dict[str, Any]) -> Scheme:
    """The scheme. Raises ConfigError if its code has not the workers and blocks of the config."""
    scheme = instantiate("scheme", config, Scheme)
    for name in ("workers", "blocks"):
        found = getattr(scheme.code, name)
        if found != config[name]:
            raise ConfigError(
                f"{name}={config[name]}: {type(scheme.code).__name__} has {found} {name}; set {name}={found}, "
                f"or define the code in terms of ${{{name}}}"
            )
    return scheme


def build_delay(config: dict[str, Any]) -> AbstractDelay:
    """The straggler model. Raises ConfigError if it cannot serve so many workers and rounds."""
    delay = instantiate("delay", config, AbstractDelay)
    delay.check(config["workers"], config["rounds"])
    return delay


def make_optimizer(config: dict[str, Any]) -> Partial:
    """The optax transformation, still to be called, so that the simulator can map over its numbers.

    Not part of a Job: workers need no optimizer, and optax is slow to import.
    """
    made = instantiate("optimizer", {"optimizer": (config["optimizer"] or {}) | {"_partial_": True}})
    optimizer = Partial(made.func, *made.args, **made.keywords)
    try:
        optimizer()
    except TypeError as error:
        raise ConfigError(f"optimizer: cannot be built from its settings ({error})") from error
    return optimizer


def instantiate(group: str, config: dict[str, Any], kind: type = object) -> Any:
    """The object of one config group.

    Raises ConfigError for a `_target_` that cannot be imported, for settings that it does not take, for files that it
    cannot read, where it raises ConfigError itself, and if it makes another kind of object. Any other error is a
    programming error of the target's, and is raised as it is, with its traceback.
    """
    settings = config[group]
    if not isinstance(settings, dict) or "_target_" not in settings:
        raise ConfigError(f"{group}={shown(settings)}: must be a group of settings with a _target_")
    require_callable(group, settings)
    try:
        made = hydra.utils.instantiate(settings, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.filename is not None:
            raise ConfigError(f"{group}: {cause.filename}: {cause.strerror}") from cause
        if cause is not None:
            raise cause from None
        raise ConfigError(f"{group}: cannot be built from its settings ({error})") from error
    if not isinstance(made, kind):
        raise ConfigError(f"{group}._target_={settings['_target_']}: must create an instance of {kind.__name__}")
    return made
