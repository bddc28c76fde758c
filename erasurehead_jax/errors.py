"""How a command can end otherwise than well, and with which exit status."""

import math
from typing import Any


class ConfigError(ValueError):
    """A setting, file or machine that breaks a documented rule.

    The message is one line: the field, its value, the rule, and what to do.
    """


OK, FAILED, BAD_INPUT, STOPPED, ASKED, DIVERGED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class Stopped(RuntimeError):
    """A run cannot go on: so many workers are lost or faulty that its stopping rule can no longer hold."""

    status = STOPPED


class Diverged(Stopped):
    """The loss, the gradient or the model is not finite."""

    status = DIVERGED


class JobFailed(Exception):
    """One job of several has not ended well; it has said why."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


def require_whole(field: str, value: Any, least: int) -> None:
    """Raises ConfigError unless the value is a whole number, at least `least` and below 2^32."""
    if type(value) is not int or value < least:
        raise ConfigError(f"{field}={value}: must be a whole number, at least {least}")
    if value >= 2**32:
        raise ConfigError(f"{field}={value}: must be below 2^32")


def require_number(field: str, value: Any, above: float | None = None, at_most: float = math.inf) -> None:
    """Raises ConfigError unless the value is a finite number, 0 or more (or more than `above`) and `at_most`.

    Arrays pass: the simulator maps over numbers that were checked when the grid was made.
    """
    if hasattr(value, "dtype"):
        return
    fits = type(value) in (int, float) and math.isfinite(value) and (value >= 0 if above is None else value > above)
    if not fits or value > at_most:
        low = "0 or more" if above is None else f"above {above:g}"
        high = "" if at_most == math.inf else f" and at most {at_most:g}"
        raise ConfigError(f"{field}={value}: must be a finite number, {low}{high}")
