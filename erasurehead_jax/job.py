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

from erasurehead_jax.data import Dataset, block_bounds
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.errors import ConfigError, require_number, require_whole
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.seeds import run_keys
from erasurehead_jax.tracking import AbstractTracking

KINDS = {
    "scheme": Scheme,
    "delay": AbstractDelay,
    "objective": AbstractObjective,
    "data": Dataset,
    "tracking": AbstractTracking,
}


class Job(NamedTuple):
    """One training run."""

    dataset: Dataset
    objective: AbstractObjective
    scheme: Scheme
    delay: AbstractDelay
    late: str
    rounds: int
    seed: int
    l2: float
    compute_s: float
    overhead_s: float
    evaluate_every: int | None
    chunk_rows: int
    on_loss: str
    heartbeat_s: float
    lost_s: float
    target: float | None

    @property
    def dtype(self) -> np.dtype:
        """Of parameters, gradients and messages."""
        return np.dtype(np.float64 if jax.config.jax_enable_x64 else np.float32)  # pyright: ignore

    def delays(self) -> Callable[[int], Float[np.ndarray, " k"]]:
        """Round -> seconds that each worker sleeps, the same in both backends."""
        code, (_, key) = self.scheme.code, run_keys(self.seed)
        draw = jax.jit(lambda t: self.delay.sample(key, t, code.workers, code.load / code.blocks))
        return lambda round_: np.asarray(draw(round_))


def build(config: dict[str, Any]) -> Job:
    """The objects of a resolved config. Raises ConfigError for the first setting that breaks a rule."""
    check_numbers(config)
    if config["target"] is not None:
        require_number("target", config["target"])
    for group in ("cluster", "checkpoint"):
        if not isinstance(config[group], dict):
            raise ConfigError(f"{group}={config[group]}: must be a group of settings")
    require_whole("cluster.chunk_rows", config["cluster"]["chunk_rows"], 1)
    for name in ("startup_s", "heartbeat_s", "lost_s", "shutdown_s"):
        require_number(f"cluster.{name}", config["cluster"][name], above=0.0)
    for name in ("every", "keep"):
        require_whole(f"checkpoint.{name}", config["checkpoint"][name], 1)
    jax.config.update("jax_enable_x64", config["x64"])
    scheme = instantiate("scheme", config)
    delay = build_delay(config)
    objective = instantiate("objective", config)
    dataset = _dataset(json.dumps(config["data"]), config["x64"])
    objective.check(dataset)
    block_bounds(len(dataset.train), config["blocks"])
    return Job(
        dataset=dataset,
        objective=objective,
        scheme=scheme,
        delay=delay,
        late=config["late"],
        rounds=config["rounds"],
        seed=config["seed"],
        l2=1 / len(dataset.train) if config["l2"] is None else config["l2"],
        compute_s=config["compute_s"],
        overhead_s=config["overhead_s"],
        evaluate_every=config["evaluate_every"],
        chunk_rows=config["cluster"]["chunk_rows"],
        on_loss=config["cluster"]["on_loss"],
        heartbeat_s=config["cluster"]["heartbeat_s"],
        lost_s=config["cluster"]["lost_s"],
        target=config["target"],
    )


@lru_cache(maxsize=1)  # jobs that follow one another mostly have the same
def _dataset(settings: str, x64: bool) -> Dataset:
    del x64
    return instantiate("data", {"data": json.loads(settings)})


def build_delay(config: dict[str, Any]) -> AbstractDelay:
    """The straggler model. Raises ConfigError if it cannot serve so many workers and rounds."""
    delay = instantiate("delay", config)
    delay.check(config["workers"], config["rounds"])
    return delay


def make_optimizer(config: dict[str, Any]) -> Partial:
    """The optax transformation, still to be called, so that the simulator can map over its numbers.

    Not part of a Job: workers need no optimiser, and optax is slow to import.
    """
    made = instantiate("optimizer", {"optimizer": (config["optimizer"] or {}) | {"_partial_": True}})
    optimizer = Partial(made.func, *made.args, **made.keywords)
    try:
        optimizer()
    except TypeError as error:
        raise ConfigError(f"optimizer: cannot be built from its settings ({error})") from error
    return optimizer


def instantiate(group: str, config: dict[str, Any]) -> Any:
    """The object of one config group. Raises ConfigError where its constructor does, or if it is of another kind."""
    settings = config[group]
    if not isinstance(settings, dict) or "_target_" not in settings:
        raise ConfigError(f"{group}={settings}: must be a group of settings with a _target_")
    try:
        made = hydra.utils.instantiate(settings, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, TypeError | ImportError | AttributeError) or error.__cause__ is None:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ConfigError(f"{group}: cannot be built from its settings ({reason})") from error
        raise
    if not isinstance(made, kind := KINDS.get(group, object)):
        raise ConfigError(f"{group}._target_={settings['_target_']}: makes no {kind.__name__}")
    return made


def check_numbers(config: dict[str, Any]) -> None:
    """Raises ConfigError for a top-level number outside its range."""
    for name, least in (("workers", 1), ("blocks", 1), ("load", 1), ("wait_for", 1), ("rounds", 1), ("seed", 0)):
        require_whole(name, config[name], least)
    if config["l2"] is not None:
        require_number("l2", config["l2"])
    for name in ("compute_s", "overhead_s"):
        require_number(name, config[name])
    if config["evaluate_every"] is not None:
        require_whole("evaluate_every", config["evaluate_every"], 1)
    if type(config["x64"]) is not bool:
        raise ConfigError(f"x64={config['x64']}: must be true or false")
