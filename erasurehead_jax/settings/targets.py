"""Checks that a `_target_` exists and takes the settings beside it, before it is called."""

import contextlib
import importlib
import inspect
import logging
from collections.abc import Iterator
from typing import Any

import hydra.utils

from erasurehead_jax.errors import ConfigError, shown
from erasurehead_jax.settings.rules import nearest

OF_HYDRA = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


def require_callable(field: str, settings: Any) -> None:
    """Raises ConfigError if a target in these settings cannot be imported, lacks a setting or does not take one.

    An error inside a user's module is raised unchanged.
    """
    if isinstance(settings, list):
        for i, each in enumerate(settings):
            require_callable(f"{field}.{i}", each)
    if not isinstance(settings, dict):
        return
    if "_target_" in settings:
        _require_arguments(field, _locate(field, settings["_target_"]), settings)
    for name, value in settings.items():
        require_callable(f"{field}.{name}", value)


def _locate(field: str, target: Any) -> Any:
    try:
        with _without_log():
            made = hydra.utils.get_object(target)
    except Exception as error:
        cause = error.__cause__
        missing = isinstance(cause, ModuleNotFoundError) and f"{target}.".startswith(f"{cause.name}.")
        if cause is not None and not isinstance(cause, AttributeError) and not missing:
            raise cause from None  # in the user's module
        raise ConfigError(f"{field}._target_={shown(target)}: {_why_not_found(str(target))}") from None
    if not callable(made):
        raise ConfigError(f"{field}._target_={target}: must be a class or a function")
    return made


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Hydra logs what it then raises."""
    log = logging.getLogger(hydra.utils.__name__)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _why_not_found(target: str) -> str:
    """Names the part of the path that is missing and suggests the nearest name."""
    parts = target.split(".")
    if parts[0] == "__main__" or "<locals>" in parts:
        return "was defined in a script, a notebook or a function, where it cannot be found again"
    found: Any = None
    for i, part in enumerate(parts):
        name = ".".join(parts[: i + 1])
        if found is not None and hasattr(found, part):
            found = getattr(found, part)
            continue
        try:
            found = importlib.import_module(name)
        except (ImportError, ValueError):
            if found is None:
                return f"there is no module {name!r} in the working directory or on the PYTHONPATH"
            known = [each for each in dir(found) if not each.startswith("_")]
            return f"{'.'.join(parts[:i])} has no {part!r}; {nearest(part, known)}"
    return "cannot be imported"


def _require_arguments(field: str, target: Any, settings: dict[str, Any]) -> None:
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # a built-in without a signature
        return
    if any(each.kind == inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    named = [name for name, each in parameters.items() if each.kind != inspect.Parameter.VAR_POSITIONAL]
    for name, value in settings.items():
        if name not in (*OF_HYDRA, *named):
            advice = nearest(name, named) if named else f"{settings['_target_']} takes no settings"
            raise ConfigError(f"{field}.{name}={shown(value)}: unknown setting; {advice}")
    if settings.get("_partial_") or settings.get("_args_"):
        return
    for name, each in parameters.items():
        if each.default is each.empty and each.kind != each.VAR_POSITIONAL and name not in settings:
            raise ConfigError(f"{field}.{name}: needs a value; {settings['_target_']} has no default for it")
