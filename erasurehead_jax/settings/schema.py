"""Derives the checks, the JSON schemas in configs/ and the text of --help from the keys."""

import textwrap
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from erasurehead_jax.errors import ConfigError, shown
from erasurehead_jax.settings.keys import COMMANDS, OBJECTS
from erasurehead_jax.settings.rules import Setting, nearest

INTERPOLATION = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}  # resolved later; ??? is a required value
OPEN = ("grid",)  # groups with further keys: the grid checks numbers of the delay and optimizer itself


def keys(settings: type) -> dict[str, Setting | type]:
    """Maps each name to its setting or, for a group, to the class of its settings."""
    hints = get_type_hints(settings, include_extras=True)
    return {name: next((a for a in get_args(hint) if isinstance(a, Setting)), hint) for name, hint in hints.items()}


def known_keys(command: str) -> list[str]:
    """The top-level keys of a command's config."""
    groups = [name for name in OBJECTS if not (command == "whatif" and name == "tracking")]
    return [*keys(COMMANDS[command]), *groups]


def require_keys(command: str, config: dict[str, Any]) -> None:
    """Raises ConfigError for an unknown key, with the nearest known name, and for a missing one."""
    _require_keys(config, known_keys(command), known_keys(command), "")
    for name, group in keys(COMMANDS[command]).items():
        if not isinstance(group, Setting) and isinstance(config[name], dict):
            known = [*keys(group), *(config[name] if name in OPEN else ())]
            optional: dict[str, Any] = group._field_defaults  # pyright: ignore[reportAttributeAccessIssue]
            _require_keys(config[name], known, [each for each in keys(group) if each not in optional], f"{name}.")


def _require_keys(config: dict[str, Any], known: Iterable[str], needed: Iterable[str], prefix: str) -> None:
    for name, value in config.items():
        if name not in known:
            raise ConfigError(f"{prefix}{name}={shown(value)}: unknown setting; {nearest(str(name), known)}")
    for name in needed:
        if name not in config:
            raise ConfigError(f"{prefix}{name}: is missing; the config must define it")


def check_values(settings: type, config: dict[str, Any], prefix: str = "") -> None:
    """Raises ConfigError for the first value that breaks its rule, and KeyError for a missing setting.

    An open group checks its own values.
    """
    for name, key in keys(settings).items():
        if name in settings._field_defaults and name not in config:  # pyright: ignore[reportAttributeAccessIssue]
            continue
        value = config[name]
        if isinstance(key, Setting):
            key.rule.check(prefix + name, value)
        elif name in OPEN:
            continue
        elif isinstance(value, dict):
            check_values(key, value, f"{name}.")
        else:
            raise ConfigError(f"{name}={shown(value)}: must be a group of settings")


def json_schema(command: str) -> dict[str, Any]:
    """The JSON schema (draft 7) for editors."""
    properties = _properties(COMMANDS[command])
    groups = [name for name in known_keys(command) if name in OBJECTS]
    properties |= {name: {"description": OBJECTS[name], "type": "object"} for name in groups}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"The settings of python -m erasurehead_jax.{command}",
        "type": "object",
        "properties": properties | {"defaults": {"type": "array"}, "hydra": {"type": "object"}},
        "additionalProperties": False,
    }


def _properties(settings: type) -> dict[str, Any]:
    properties = {}
    for name, key in keys(settings).items():
        if isinstance(key, Setting):
            allowed = {"anyOf": [key.rule.schema, INTERPOLATION]} if key.rule.schema else {}
            properties[name] = {"description": key.doc} | allowed
        else:
            properties[name] = {
                "description": _summary(key),
                "type": "object",
                "properties": _properties(key),
                "additionalProperties": name in OPEN,
            }
    return properties


def help_text(command: str) -> str:
    """The text of --help; Hydra replaces $APP_CONFIG_GROUPS by the list of config files."""
    lines = _help_lines(COMMANDS[command], "")
    groups = [f"  {name:24} {OBJECTS[name]}" for name in known_keys(command) if name in OBJECTS]
    return "\n".join(
        [
            f"usage: python -m erasurehead_jax.{command} [GROUP=FILE ...] [KEY=VALUE ...]",
            "",
            "Groups; choose one of the files below for each (GROUP.KEY=VALUE overrides a key of the chosen file):",
            *groups,
            "",
            "$APP_CONFIG_GROUPS",
            "Keys:",
            *lines,
            "",
            "--cfg job prints the whole config; -m runs every combination of comma-separated values.",
            "",
        ]
    )


def _help_lines(settings: type, prefix: str) -> list[str]:
    lines = []
    for name, key in keys(settings).items():
        if isinstance(key, Setting):
            indent = " " * 27
            line = f"{key.doc} ({key.rule.words})"
            lines.append(textwrap.fill(line, 118, initial_indent=f"  {prefix + name:24} ", subsequent_indent=indent))
        else:
            lines += _help_lines(key, f"{name}.")
    return lines


def _summary(settings: type) -> str:
    return (settings.__doc__ or "").splitlines()[0]
