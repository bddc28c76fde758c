"""The exit statuses, the exceptions that lead to them, and the checks of single values."""

import math
from enum import IntEnum
from typing import Any, ClassVar


class Status(IntEnum):
    """The exit statuses of `train`, as documented."""

    OK = 0
    FAILED = 1  # a programming error, or the master was lost
    BAD_INPUT = 2
    UNDECODABLE = 3  # so many workers are lost that the stopping rule can no longer hold
    TERMINATED = 4  # on request: SIGTERM or SIGUSR1
    DIVERGED = 5
    STORAGE = 6  # the run directory cannot be written
    INTERRUPTED = 130  # Ctrl-C


class ConfigError(ValueError):
    """A setting, file or machine that breaks a documented rule.

    The message is one line: the field, its value, the rule, and what to do.
    """


class Stopped(RuntimeError):
    """A run cannot continue: so many workers are lost or faulty that its stopping rule can no longer hold."""

    status: ClassVar[Status] = Status.UNDECODABLE


class Diverged(Stopped):
    """The loss, the gradient or the model is not finite."""

    status: ClassVar[Status] = Status.DIVERGED


class StorageFailed(Stopped):
    """The run directory cannot be written: the disk is full or read-only, or the directory was removed."""

    status: ClassVar[Status] = Status.STORAGE


class JobFailed(Exception):
    """A job of a multirun failed; its message has already been printed."""

    def __init__(self, status: int, reason: str = "see above"):
        super().__init__(status, reason)
        self.status, self.reason = status, reason

    def __str__(self) -> str:
        return self.reason


def shown(value: Any) -> str:
    """The value as written in YAML and on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def require_whole(field: str, value: Any, least: int) -> None:
    """Raises ConfigError unless the value is a whole number from `least` up to, but not including, 2^32."""
    if type(value) is not int or value < least:
        raise ConfigError(f"{field}={shown(value)}: must be a whole number, at least {least}")
    if value >= 2**32:
        raise ConfigError(f"{field}={value}: must be below 2^32")


def require_number(field: str, value: Any, above: float | None = None, at_most: float = math.inf) -> None:
    """Raises ConfigError unless the value is finite, at least 0 (or greater than `above`) and at most `at_most`.

    Arrays pass: the simulator maps over numbers that were checked when the grid was built.
    """
    if hasattr(value, "dtype"):
        return
    fits = type(value) in (int, float) and math.isfinite(value) and (value >= 0 if above is None else value > above)
    if not fits or value > at_most:
        low = "0 or more" if above is None else f"above {above:g}"
        high = "" if at_most == math.inf else f" and at most {at_most:g}"
        raise ConfigError(f"{field}={shown(value)}: must be a finite number, {low}{high}")


def require_choice(field: str, value: Any, choices: Any) -> None:
    """Raises ConfigError unless the value is one of these strings."""
    names = list(choices)
    if value not in names:
        rule = " or ".join(names) if len(names) == 2 else f"one of {', '.join(names)}"
        raise ConfigError(f"{field}={shown(value)}: must be {rule}")
