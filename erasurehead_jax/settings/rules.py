"""The rules that values of settings must obey, each with an equivalent JSON schema for editors."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from erasurehead_jax.errors import ConfigError, require_choice, require_number, require_whole, shown

MANY = 12  # longer lists of names do not fit in a one-line message


class Rule(NamedTuple):
    """`check(field, value)` raises ConfigError; `words` and `schema` describe the values that pass."""

    check: Callable[[str, Any], None]
    words: str
    schema: dict[str, Any]


class Setting(NamedTuple):
    """One key of a config: its rule and one line of documentation."""

    rule: Rule
    doc: str


def whole(least: int) -> Rule:
    """A whole number, at least `least`."""
    schema = {"type": "integer", "minimum": least}
    return Rule(lambda field, value: require_whole(field, value, least), "whole number", schema)


def number(above: float | None = None) -> Rule:
    """A finite number, 0 or more, or more than `above`."""
    schema = {"type": "number", "minimum": 0} if above is None else {"type": "number", "exclusiveMinimum": above}
    return Rule(lambda field, value: require_number(field, value, above), "number", schema)


def share_or_whole() -> Rule:
    """A fraction between 0 and 1, or a whole number, at least 1."""

    def check(field: str, value: Any) -> None:
        if not ((type(value) is float and 0 < value < 1) or (type(value) is int and value >= 1)):
            raise ConfigError(
                f"{field}={shown(value)}: must be a share between 0 and 1, such as 0.1, or a whole number of rows"
            )

    schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, whole(1).schema]}
    return Rule(check, "share | whole number", schema)


def choice(*values: str) -> Rule:
    """One of these strings."""
    schema = {"type": "string", "enum": list(values)}
    return Rule(lambda field, value: require_choice(field, value, values), " | ".join(values), schema)


def choice_or_list(*values: str) -> Rule:
    """One of these strings, or a list of whole numbers."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, list):
            require_choice(field, value, values)
            return
        for each in value:
            require_whole(field, each, 0)

    schema = {"anyOf": [choice(*values).schema, {"type": "array", "items": whole(0).schema}]}
    return Rule(check, f"{' | '.join(values)} | list of workers", schema)


def switch() -> Rule:
    """true or false."""

    def check(field: str, value: Any) -> None:
        if type(value) is not bool:
            raise ConfigError(f"{field}={shown(value)}: must be true or false")

    return Rule(check, "true | false", {"type": "boolean"})


def text(what: str) -> Rule:
    """A string, described by `what`."""

    def check(field: str, value: Any) -> None:
        if not isinstance(value, str):
            raise ConfigError(f"{field}={shown(value)}: must be {what}")

    return Rule(check, what, {"type": "string"})


def listed(of: Rule, or_one: bool = False) -> Rule:
    """A list of values that obey `of`; with `or_one` also a single value."""

    def check(field: str, value: Any) -> None:
        values = value if isinstance(value, list) else [value]
        if not values or not (or_one or isinstance(value, list)):
            raise ConfigError(f"{field}={shown(value)}: must be a list with at least one value")
        for each in values:
            of.check(field, each)

    schema = {"type": "array", "items": of.schema, "minItems": 1}
    return Rule(check, f"list of: {of.words}", {"anyOf": [of.schema, schema]} if or_one else schema)


def anything(words: str) -> Rule:
    """Any value; it is checked where it is used."""
    return Rule(lambda field, value: None, words, {})


def optional(rule: Rule) -> Rule:
    """null, or a value that obeys the rule."""

    def check(field: str, value: Any) -> None:
        if value is not None:
            rule.check(field, value)

    schema = {"anyOf": [rule.schema, {"type": "null"}]} if rule.schema else {}
    return Rule(check, f"{rule.words} | null", schema)


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion in place of an unknown name."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose one of {', '.join(known)}" if len(known) <= MANY else "--help lists the known ones"
