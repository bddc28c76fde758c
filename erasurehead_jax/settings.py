"""The typed settings of a run: everything but the config groups that name objects."""

from typing import Any, NamedTuple

from erasurehead_jax.errors import ConfigError, require_choice, require_number, require_whole
from erasurehead_jax.types import OnLoss


class ClusterSettings(NamedTuple):
    """How ranks are started, and how patient the master is with them."""

    program: str
    options: list[str]
    most_ranks: int | None
    chunk_rows: int
    startup_s: float
    on_loss: OnLoss
    heartbeat_s: float
    lost_s: float
    shutdown_s: float


class CheckpointSettings(NamedTuple):
    """When checkpoints are written, and how many stay."""

    every: int
    keep: int


class Settings(NamedTuple):
    """What a training run is told besides its objects."""

    backend: str
    workers: int
    rounds: int
    seed: int
    late: str
    l2: float | None  # None: 1 / training rows
    x64: bool
    compute_s: float
    overhead_s: float
    target: float | None
    evaluate_every: int | None
    cluster: ClusterSettings
    checkpoint: CheckpointSettings


def read_settings(config: dict[str, Any]) -> Settings:
    """The settings of a resolved `train` config. Raises ConfigError for the first one that breaks a rule."""
    require_choice("backend", config["backend"], ("mpi", "simulate"))
    check_numbers(config)
    if config["target"] is not None:
        require_number("target", config["target"])
    for group in ("cluster", "checkpoint"):
        if not isinstance(config[group], dict):
            raise ConfigError(f"{group}={config[group]}: must be a group of settings")
    cluster, checkpoint = config["cluster"], config["checkpoint"]
    require_whole("cluster.chunk_rows", cluster["chunk_rows"], 1)
    require_choice("cluster.on_loss", cluster["on_loss"], OnLoss)
    for name in ("startup_s", "heartbeat_s", "lost_s", "shutdown_s"):
        require_number(f"cluster.{name}", cluster[name], above=0.0)
    for name in CheckpointSettings._fields:
        require_whole(f"checkpoint.{name}", checkpoint[name], 1)
    own = {name: config[name] for name in Settings._fields}
    own["cluster"] = ClusterSettings(**{name: cluster[name] for name in ClusterSettings._fields})
    own["checkpoint"] = CheckpointSettings(**{name: checkpoint[name] for name in CheckpointSettings._fields})
    return Settings(**own)


def check_numbers(config: dict[str, Any]) -> None:
    """Raises ConfigError for a top-level number, of `train` or `whatif`, outside its range."""
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
