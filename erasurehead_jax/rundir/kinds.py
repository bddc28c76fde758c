"""The kind of scheme of a run, derived from its parts and not from its file name. Does not import JAX."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The schemes that the paper compares, in its order; anything else is OTHER."""

    UNCODED = "uncoded"
    EXACT = "exact"
    ERASUREHEAD = "ErasureHead"
    IGNORE_STRAGGLERS = "ignoring stragglers"
    OTHER = "other"


def scheme_kind(code: str, rules: Iterable[str]) -> Kind:
    """Returns the kind of a scheme, given the class names of its code and of its stopping rules (any of which ends a
    round).
    """
    stops = set(rules)
    if code == "Uncoded" and "Count" in stops <= {"Count", "Decodable"}:
        return Kind.IGNORE_STRAGGLERS
    if stops == {"Decodable"}:
        return Kind.UNCODED if code == "Uncoded" else Kind.EXACT
    if code == "FractionalRepetition" and stops == {"Count", "Decodable"}:
        return Kind.ERASUREHEAD
    return Kind.OTHER


def kind_of_run(code: str, scheme: dict[str, Any]) -> Kind:
    """Returns the kind of a recorded run from its code's class name and the scheme group of its resolved config."""
    stop = scheme.get("stop") or {}
    rules = stop.get("rules") if _class_name(stop) == "AnyOf" else [stop]
    return scheme_kind(code, [_class_name(rule) for rule in rules or []])


def _class_name(settings: dict[str, Any]) -> str:
    return str(settings.get("_target_", "")).rpartition(".")[2]
