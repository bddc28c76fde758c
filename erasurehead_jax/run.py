"""Runs a script with workers for its coded gradients: `python -m erasurehead_jax.run -n 30 script.py [arguments]`."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

from erasurehead_jax.cluster.launch import forkserver
from erasurehead_jax.errors import ConfigError, Status, require_whole

PROGRAM = "python -m erasurehead_jax.run"


class Arguments(NamedTuple):
    """The command line."""

    workers: int
    log: Path | None
    cluster: list[str]  # settings of the group `cluster`
    script: str
    arguments: list[str]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; usage: {PROGRAM} -n WORKERS SCRIPT [ARGUMENT ...]")


def parsed(given: list[str]) -> Arguments:
    """The arguments. Raises ConfigError for those that are not allowed."""
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} -n WORKERS [--log FILE] [cluster=NAME] [cluster.KEY=VALUE ...] SCRIPT [ARGUMENT ...]",
        description="Run a script on rank 0, and real workers for its `erasurehead_jax.coded_gradient`.",
        epilog="cluster: as for erasurehead_jax.train, by default all ranks on this machine.",
        allow_abbrev=False,
    )
    parser.add_argument("-n", metavar="WORKERS", required=True, help="workers, beside the script's own process")
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="where workers' output goes; by default it is kept only after a failure",
    )
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    workers = int(options.n) if options.n.isdecimal() else options.n
    require_whole("-n", workers, 1)
    settings = [each for each in options.rest if re.match(r"cluster[.\w]*=", each)]
    count = next((i for i, each in enumerate(options.rest) if each not in settings), len(options.rest))
    if count == len(options.rest):
        parser.error("no script is given")
    script, *arguments = options.rest[count:]
    if not Path(script).is_file():
        raise ConfigError(f"{script}: no such file; name a Python script")
    log = options.log and options.log.expanduser().absolute()
    if log and (log.is_dir() or not log.parent.is_dir()):
        raise ConfigError(f"--log={options.log}: must be a file in a folder that exists")
    return Arguments(workers, log, options.rest[:count], script, arguments)


def run(arguments: Arguments) -> int:
    """Starts the ranks and runs the script. Returns its exit status. Raises ConfigError for what the user can fix."""
    from erasurehead_jax.cluster.launch.command import require_startable
    from erasurehead_jax.cluster.launch.script import run_script
    from erasurehead_jax.settings import read_settings
    from erasurehead_jax.settings.compose import defaults, resolved

    config = resolved(defaults([f"workers={arguments.workers}", *arguments.cluster]))
    read_settings(config)
    require_startable(config)
    folder = os.path.dirname(os.path.abspath(arguments.script))
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([folder, *filter(None, named)]))
    return run_script(config, arguments.script, arguments.arguments, arguments.log)


def main() -> NoReturn:
    """Exits with the script's status, or with 2 and one line if it cannot be run like this."""
    try:
        arguments = parsed(sys.argv[1:])
        forkserver.start_early(arguments.cluster)
        from erasurehead_jax.hydra_app import require_one_process  # late: slow, while the server imports

        require_one_process()
        status = run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = Status.INTERRUPTED
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        status = Status.BAD_INPUT
    except Exception as error:
        from erasurehead_jax.refusals import report_error

        status = report_error(error)
    sys.exit(status)


if __name__ == "__main__":
    main()
