"""The config of the `train` command, composed in Python."""

from collections.abc import Sequence
from typing import Any, cast

import hydra
from omegaconf import OmegaConf

from erasurehead_jax.settings import CONFIG_DIR, require_keys


def defaults(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The config with these overrides of the command line, not yet resolved."""
    with hydra.initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        cfg = hydra.compose("train", list(overrides))
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))


def with_settings(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The config with these settings; of a group, such as `cluster`, only those that are given are replaced."""
    groups = {name for name, value in config.items() if isinstance(value, dict)}
    merged = lambda name, value: config[name] | value if name in groups and isinstance(value, dict) else value
    return config | {name: merged(name, value) for name, value in settings.items()}


def resolved(config: dict[str, Any]) -> dict[str, Any]:
    """The config without interpolations. Raises ConfigError for an unknown or missing key."""
    require_keys("train", config)
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(config), resolve=True))
