"""One declaration of the settings: the configs, the JSON schemas and the checks agree with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from jsonschema import Draft7Validator
from omegaconf import OmegaConf

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.hydra_app import CONFIG_DIR
from erasurehead_jax.settings import Settings, WhatIfSettings, json_schema, nearest, read_settings, require_keys
from erasurehead_jax.settings.keys import COMMANDS
from erasurehead_jax.settings.rules import Setting
from erasurehead_jax.settings.schema import check_values, keys, known_keys

CONFIGS = Path(CONFIG_DIR)


def composed(command: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        return OmegaConf.to_container(compose(command, list(overrides)), resolve=True)  # pyright: ignore


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_of_the_config_is_declared_and_every_declared_one_is_there(command: str):
    config = composed(command)
    assert set(config) == set(known_keys(command))
    require_keys(command, config)
    check_values(COMMANDS[command], config)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("cluster/*.yaml")), ids=lambda path: path.stem)
def test_every_cluster_has_the_declared_keys(path: Path):
    more = ["cluster.hosts=hosts.txt"] if path.stem == "hostfile" else []
    config = composed("train", f"cluster={path.stem}", *more)
    require_keys("train", config)
    assert read_settings(config).cluster.program in ("mpirun", "srun")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_schema_for_editors_is_up_to_date(command: str):
    """`python -m erasurehead_jax.settings` writes it."""
    kept = json.loads((CONFIGS / f"{command}.schema.json").read_text())
    assert kept == json_schema(command)
    first = (CONFIGS / f"{command}.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={command}.schema.json"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_schema_fits_the_config_as_it_is_written(command: str):
    """Types, ranges and interpolations; and it refuses what the checks refuse."""
    written = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())
    schema = json_schema(command)
    Draft7Validator.check_schema(schema)
    Draft7Validator(schema).validate(written)
    for name, value in {"workers": 0, "rounds": 2.5, "x64": "perhaps", "rouns": 3, "late": "never"}.items():
        assert not fits(written | {name: value}, schema), name


@pytest.mark.parametrize(
    "path", sorted([*CONFIGS.glob("experiment/*.yaml"), *CONFIGS.glob("study/*.yaml")]), ids=lambda path: path.stem
)
def test_the_schema_fits_what_is_shipped(path: Path):
    command = "whatif" if path.parent.name == "study" else "train"
    Draft7Validator(json_schema(command)).validate(yaml.safe_load(path.read_text()))


def fits(value: Any, schema: dict[str, Any]) -> bool:
    return Draft7Validator(schema).is_valid(value)


def declared(settings: type) -> list[tuple[str, Setting]]:
    return [(name, key) for name, key in keys(settings).items() if isinstance(key, Setting)]


@pytest.mark.parametrize(("name", "key"), [*declared(Settings), *declared(WhatIfSettings)])
@pytest.mark.parametrize("value", [None, True, -1, 0, 1, 2.5, "cancel", "mpi", "timing", [], [1], {"a": 1}])
def test_an_editor_and_a_run_refuse_the_same_values(name: str, key: Setting, value: Any):
    if not key.rule.schema:
        return  # checked where it is used
    try:
        key.rule.check(name, value)
    except ConfigError as error:
        passed, told = False, str(error)
        assert told.startswith(f"{name}=") and "\n" not in told and "None" not in told
    else:
        passed = True
    assert passed == fits(value, key.rule.schema)


def test_the_nearest_name():
    assert nearest("rouns", ["rounds", "seed"]) == "did you mean rounds?"
    assert nearest("xyz", ["rounds", "seed"]) == "choose one of rounds, seed"


def test_what_is_read_has_its_types():
    settings = read_settings(composed("train", "workers=6", "checkpoint.keep=3"))
    assert (settings.workers, settings.blocks, settings.checkpoint.keep) == (6, 6, 3)
    assert settings.l2 is None and settings.cluster.hosts is None
