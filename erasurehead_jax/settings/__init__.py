"""The typed settings of a run; every key has a rule and a line of documentation."""

from pathlib import Path
from typing import Any

from erasurehead_jax.errors import require_choice
from erasurehead_jax.settings.keys import (
    CheckpointSettings as CheckpointSettings,
    ClusterSettings as ClusterSettings,
    Settings as Settings,
    WhatIfSettings as WhatIfSettings,
)
from erasurehead_jax.settings.policies import Late
from erasurehead_jax.settings.rules import nearest as nearest
from erasurehead_jax.settings.schema import (
    check_values as check_values,
    help_text as help_text,
    json_schema as json_schema,
    require_keys as require_keys,
)
from erasurehead_jax.settings.targets import require_callable as require_callable

_INSTALLED = Path(__file__).parent.parent / "configs"  # in a wheel; elsewhere beside the package
CONFIG_DIR = str(_INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parent.parent / "configs")


def read_settings(config: dict[str, Any]) -> Settings:
    """The settings of a resolved `train` config. Raises ConfigError for the first one that breaks a rule."""
    if config["backend"] == "mpi":
        require_choice("late", config["late"], [each for each in Late if each != Late.QUEUE])
    check_values(Settings, config)
    own = {name: config[name] for name in Settings._fields}
    own["cluster"] = _read(ClusterSettings, config["cluster"])
    own["checkpoint"] = _read(CheckpointSettings, config["checkpoint"])
    return Settings(**own)


def _read(settings: Any, group: dict[str, Any]) -> Any:
    return settings(**{name: group[name] for name in settings._fields if name in group})
