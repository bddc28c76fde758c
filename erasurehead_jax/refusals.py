"""Turns an exception into what the user sees, one line or a traceback, and into an exit status."""

import re
import shlex
import sys
import traceback
from typing import Any

import yaml
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from erasurehead_jax.errors import ConfigError, Status, Stopped
from erasurehead_jax.settings import nearest

USER_ERRORS = (ConfigError, HydraException, OmegaConfBaseException, yaml.MarkedYAMLError)


def override(name: str, value: Any) -> str:
    """`name=value`, quoted where needed for Hydra's grammar and for the shell."""
    text = str(value)
    if "/" not in text or not re.fullmatch(r"[A-Za-z0-9_./:\-]+", text):  # without a slash it may be a number, or null
        text = QuotedString(text, Quote.double).with_quotes()
    return shlex.quote(f"{name}={text}")


def report_error(error: Exception) -> Status:
    """Prints the error and returns the exit status."""
    if isinstance(error, Stopped):
        print(f"stopped: {error}", file=sys.stderr)
        return error.status
    refused = _raised_by(error, "hydra") or _raised_by(error, "optuna") or _made_no_run_dir(error)
    if refused or isinstance(error, USER_ERRORS):
        print(f"error: {one_line(error)}", file=sys.stderr)
        return Status.BAD_INPUT
    traceback.print_exception(error)
    return Status.FAILED


def one_line(error: BaseException) -> str:
    """The error as one line: the field, its value, the rule, what to do."""
    text = str(error)
    match error:
        case MissingConfigException() if error.missing_cfg_file and error.options:
            group, _, name = error.missing_cfg_file.rpartition("/")
            text = f"{group}={name}: unknown; choose one of {', '.join(error.options)}"
        case MissingMandatoryValue():
            text = f"{error.full_key}=???: needs a value"
        case OverrideParseException():
            text = _unparsed(error)
        case ConfigCompositionException() if found := re.match(r"Could not override '(.+?)'\.", text):
            text = _unknown(found[1], error.__cause__)
        case yaml.MarkedYAMLError() if error.problem_mark:
            mark = error.problem_mark
            text = f"{mark.name}, line {mark.line + 1}: is not valid YAML ({error.problem})"
        case OSError() if error.filename:
            text = f"{error.filename}: {error.strerror}; choose another folder (hydra.run.dir=...)"
        case ValueError() if _raised_by(error, "hydra"):
            text = f"{' '.join(sys.argv[1:])}: {error}"
        case ValueError() if _raised_by(error, "optuna"):
            text = f"the sweep has no result ({error}); see the messages of its trials above"
    return " ".join(text.split())


def _unparsed(error: OverrideParseException) -> str:
    given = str(error.override)
    name, equals, value = given.partition("=")
    if not equals:
        return f"{given}: has no value; write {given}=VALUE"
    reason = str(error.__cause__ or error).splitlines()[0]
    return f"{given}: is not valid in Hydra's grammar ({reason}); quote the value: {override(name, value)}"


def _unknown(key: str, cause: BaseException | None) -> str:
    """Names the unknown key and suggests the nearest known one."""
    prefix, _, name = key.rpartition(".")
    parent = getattr(cause, "parent_node", None)
    names = [str(each) for each in parent] if isinstance(parent, DictConfig) else []
    known = [each for each in names if not each.startswith("_") and each != "hydra"]
    given = next((each for each in sys.argv[1:] if each.partition("=")[0] == key), key)
    advice = nearest(name, known) if known else f"{prefix or key} has no settings"
    if prefix and any(each.startswith(f"{prefix}._target_=") for each in sys.argv[1:]):
        advice = (
            f"these are the settings of another {prefix}: write the new _target_ and its settings into a file, "
            f"conf/{prefix}/NAME.yaml, and add --config-dir conf {prefix}=NAME"
        )
    return f"{given}: unknown setting; {advice}"


def _raised_by(error: BaseException, package: str) -> bool:
    """Whether `package` raised this ValueError itself: Hydra and Optuna have no class of their own for some errors."""
    frames = list(traceback.walk_tb(error.__traceback__))
    made_in = str(frames[-1][0].f_globals.get("__name__")) if frames else ""
    return isinstance(error, ValueError) and made_in.startswith(f"{package}.")


def _made_no_run_dir(error: BaseException) -> bool:
    """Whether Hydra failed to create the run directory, which it does before the job begins."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    in_job = any(frame.f_code.co_name == "guarded" for frame in frames)
    return isinstance(error, OSError) and not in_job and any(name.startswith("hydra.") for name in modules)
