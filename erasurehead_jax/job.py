"""Builds the objects of a run from its resolved config, for both backends, the launcher and every rank."""

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

from erasurehead_jax.codes.per_block import PerBlock
from erasurehead_jax.data import Dataset, require_sound
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.delays.recording import read_times
from erasurehead_jax.delays.trace import Trace
from erasurehead_jax.errors import ConfigError, require_choice, shown
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.placement import balanced_order, placed
from erasurehead_jax.sampling import Sampling, make_sampling
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.settings import Settings, read_settings, require_callable


class Script(NamedTuple):
    """A script that rank 0 executes."""

    streams: str  # the address at which the launcher gives away its standard streams
    path: str
    arguments: list[str]


class JobSpec(NamedTuple):
    """What the launcher passes to a backend, as JSON."""

    config: dict[str, Any]  # resolved
    choices: dict[str, str]  # config group -> chosen file
    run_dir: str
    checkpoint: str | None  # to resume from
    parts: bool  # whether the objects come from a parcel in the run directory
    launched_s: float  # since the epoch
    launcher: tuple[str, int]  # its host and process id
    more: bool  # whether another job may follow
    script: Script | None = None  # instead of one job

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "JobSpec":
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(**values | {"script": values["script"] and Script(*values["script"])})


class Problem(NamedTuple):
    """The objective that is minimised: (1/N) * sum of row losses + l2 * ||x||^2."""

    objective: AbstractObjective
    dataset: Dataset
    l2: float

    @property
    def dtype(self) -> np.dtype:
        """The type of parameters, gradients and messages."""
        return np.dtype(np.float64 if jax.config.jax_enable_x64 else np.float32)  # pyright: ignore

    @property
    def parameters(self) -> int:
        """d, the number of parameters; it may differ from the number of columns."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        start = jax.eval_shape(lambda key: self.objective.init(key, self.dataset), key)
        return start.shape[0]

    def start(self, seed: int) -> Float[np.ndarray, " d"]:
        """The starting point, a function of the seed alone."""
        init, _ = run_keys(seed)
        return np.asarray(self.objective.init(init, self.dataset), self.dtype)


class Parts(NamedTuple):
    """Objects of a run that were made in Python, where a config has a `_target_`."""

    dataset: Dataset
    objective: AbstractObjective
    scheme: Scheme
    delay: AbstractDelay
    optimizer: Callable[[], Any]  # makes an optax.GradientTransformation
    tracking: Any
    callbacks: tuple[Callable[..., Any], ...]


class Job(NamedTuple):
    """The objects of one training run, and its settings."""

    problem: Problem
    scheme: Scheme
    delay: AbstractDelay
    settings: Settings
    sampling: Sampling
    optimizer: Callable[[], Any]  # makes the optax transformation. Workers need none, and optax is slow to import
    tracking: Callable[[], Any]
    callbacks: tuple[Callable[..., Any], ...]

    def delays(self) -> Callable[[int], Float[np.ndarray, " k"]]:
        """A function from a round to the seconds that each worker sleeps; the same in both backends."""
        code, (_, key) = self.scheme.code, run_keys(self.settings.seed)
        draw = jax.jit(lambda t: self.delay.sample(key, t, code.workers, code.load / code.blocks))

        def delays_s(round_: int) -> Float[np.ndarray, " k"]:
            with jax.enable_x64(True):  # as in the simulator: in float32 a model may draw other values
                return np.asarray(draw(round_))

        return delays_s


def build(config: dict[str, Any], parts: Parts | None = None, data_checked: bool = False) -> Job:
    """The objects of a resolved config, except those in `parts`. Needs x64 enabled if the config says so.

    With `data_checked` the values of the data set are not checked again: the launcher has done so for its ranks.
    Raises ConfigError for the first setting that breaks a rule.
    """
    config = settled(config, parts)
    settings = read_settings(config)
    scheme = build_scheme(config, parts and parts.scheme)
    delay = build_delay(config, parts and parts.delay)
    if parts is None:
        objective, dataset = build_data(config, data_checked)
    else:
        if not data_checked:
            require_sound(parts.dataset)
        objective, dataset = suited(parts.objective, parts.dataset, data_checked)
    l2 = 1 / len(dataset.train) if settings.l2 is None else settings.l2
    sampling = build_sampling(config, len(dataset.train))
    problem = Problem(objective, dataset, l2)
    if parts:
        made = parts.optimizer, lambda: parts.tracking, parts.callbacks
    else:
        tracking = lambda: instantiate("tracking", config)
        made = lambda: make_optimizer(config)(), tracking, _callbacks(config["callbacks"])
    return Job(problem, scheme, delay, settings, sampling, *made)


def _callbacks(listed: Any) -> tuple[Callable[..., Any], ...]:
    if not isinstance(listed, list):
        raise ConfigError(f"callbacks={shown(listed)}: must be a list of groups with a _target_")
    return tuple(instantiate(f"callbacks.{i}", {f"callbacks.{i}": each}) for i, each in enumerate(listed))


def build_sampling(config: dict[str, Any], rows: int | None) -> Sampling:
    """The rows of each round, of `rows` training rows (None: unknown). Raises ConfigError if they do not fit."""
    svrg = config["variance_reduction"] is not None
    return make_sampling(config["batch"], svrg, config["snapshot_every"], config["snapshot"], rows, config["blocks"])


def build_data(config: dict[str, Any], data_checked: bool = False) -> tuple[AbstractObjective, Dataset]:
    """The objective, bound to its data set, and the data set with targets in the form that it needs.

    Raises ConfigError for a value that is not allowed.
    """
    objective = instantiate("objective", config, AbstractObjective)
    return suited(objective, _dataset(json.dumps(config["data"]), config["x64"], data_checked), data_checked)


def suited(objective: AbstractObjective, dataset: Dataset, data_checked: bool) -> tuple[AbstractObjective, Dataset]:
    """The objective and the data set, each in the form that the other needs. Raises ConfigError if they do not fit."""
    made = objective.check(dataset)
    dataset = dataset if made is None else made  # an objective may only check the data
    objective = objective.bind(dataset)
    if not data_checked:
        objective.try_out(dataset)
    return objective, dataset


@lru_cache(maxsize=1)  # successive jobs mostly share their data
def _dataset(data: str, x64: bool, data_checked: bool) -> Dataset:
    del x64
    dataset = instantiate("data", {"data": json.loads(data)}, Dataset)
    if not data_checked:
        require_sound(dataset)
    return dataset


def build_scheme(config: dict[str, Any], made: Scheme | None = None) -> Scheme:
    """The scheme, with the config's kind of messages and its placement, if that is a list.

    Raises ConfigError if its code has other numbers of workers or blocks than the config.
    """
    scheme: Scheme = instantiate("scheme", config, Scheme) if made is None else made
    if config.get("messages") == "per_block" and not isinstance(scheme.code, PerBlock):
        scheme = Scheme(PerBlock(scheme.code), scheme.stop, scheme.decode)
    for name in ("workers", "blocks"):
        found = getattr(scheme.code, name)
        if found != config[name]:
            raise ConfigError(
                f"{name}={config[name]}: {type(scheme.code).__name__} has {found} {name}; set {name}={found}, "
                f"or define the code in terms of ${{{name}}}"
            )
    return placed(scheme, config["placement"]) if isinstance(config.get("placement"), list) else scheme


def settled(config: dict[str, Any], parts: Parts | None = None) -> dict[str, Any]:
    """The config with the placement as a list, unless it is the given one. Ranks then need not search for it.

    Raises ConfigError if there are no recorded times of these workers for placement=balanced.
    """
    placement = config.get("placement", "given")
    if placement == "given" or isinstance(placement, list):
        return config
    require_choice("placement", placement, ("given", "random", "balanced"))
    workers, seed = config["workers"], config["seed"]
    if placement == "random":
        order = np.random.default_rng(seed).permutation(workers)
    else:
        times_s = _recorded(config, build_delay(config, parts and parts.delay))
        order = balanced_order(build_scheme(config, parts and parts.scheme), times_s, seed)
    return config | {"placement": order.tolist()}


def _recorded(config: dict[str, Any], delay: AbstractDelay) -> Float[np.ndarray, "rounds k"]:
    """The recorded times (s) of the config's workers."""
    path, workers = config["placement_times"], config["workers"]
    if path is not None:
        times_s = read_times(path, "placement_times")
        if times_s.shape[1] != workers:
            raise ConfigError(f"placement_times={path}: has {times_s.shape[1]} workers; must have workers={workers}")
        return times_s
    if isinstance(delay, Trace) and delay.resample is not True:
        times_s = delay.times_s[:, :workers]
        return times_s[np.isfinite(times_s).all(1)]
    raise ConfigError(
        "placement=balanced: needs recorded times of these workers; set placement_times to the arrivals.npz of a run, "
        "or replay a recording with delay=trace"
    )


def build_delay(config: dict[str, Any], made: AbstractDelay | None = None) -> AbstractDelay:
    """The straggler model. Raises ConfigError if it does not cover the config's workers and rounds."""
    delay: AbstractDelay = instantiate("delay", config, AbstractDelay) if made is None else made
    delay.check(config["workers"], config["rounds"])
    return delay


def make_optimizer(config: dict[str, Any]) -> Partial:
    """The optax transformation as a partial call, so that the simulator can map over its numbers."""
    made = instantiate("optimizer", {"optimizer": (config["optimizer"] or {}) | {"_partial_": True}})
    optimizer = Partial(made.func, *made.args, **made.keywords)
    try:
        optimizer()
    except TypeError as error:
        raise ConfigError(f"optimizer: cannot be built from its settings ({error})") from error
    return optimizer


def instantiate(group: str, config: dict[str, Any], kind: type = object) -> Any:
    """The object of one config group.

    Raises ConfigError if the `_target_` cannot be imported, does not take the settings, cannot read a file, raises
    ConfigError itself, or returns another kind of object. Any other error is a programming error in the target and
    keeps its traceback.
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
