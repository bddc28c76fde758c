"""Rank 0's part of `run`: executes the script as if Python itself had been started with it."""

import atexit
import logging
import os
import platform
import runpy
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from erasurehead_jax.cluster.lend import Lender
from erasurehead_jax.cluster.signals import Outcome, Started, keep_channel, send
from erasurehead_jax.errors import ConfigError, Status, Stopped
from erasurehead_jax.job import JobSpec


def lead_script(spec: JobSpec, hosts: Sequence[str]) -> None:
    """Executes the script, and then ends the workers. `hosts` are theirs.

    Raises ConfigError if the launcher is on another host.
    """
    from erasurehead_jax.loop import gradient  # late: workers need nothing of it
    from erasurehead_jax.loop.rounds import Backend

    script = spec.script
    assert script is not None
    connection = _take_streams(script.streams)
    _restore_defaults()
    lender = Lender(spec, hosts)
    gradient.use(Backend(lambda: spec.config, lender.rounds))
    send(Started())
    status = _execute(os.path.abspath(script.path), script.arguments)
    if status == Status.OK and not lender.asked:
        print(f"warning: {script.path} has opened no coded_gradient; its workers had nothing to do", file=sys.stderr)
    hanging = lender.hanging
    send(Outcome(status, "", hanging, stay=False))
    while hanging:  # the launcher kills every rank
        time.sleep(1)
    lender.close()
    connection.close()


def _take_streams(address: str) -> socket.socket:
    """Takes over the launcher's standard streams, so that a terminal stays one and nothing is buffered on the way.

    Returns the connection, by whose end the launcher notices that this process has died.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect("\0" + address)
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    except OSError:
        raise ConfigError(
            f"-n: the script would run on {platform.node()}, which is another host; start this command there "
            "(under SLURM from a job script), or list this host first in cluster.hosts"
        ) from None
    keep_channel()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    return connection


def _restore_defaults() -> None:
    """Gives the script Python's signal handlers and an unused root logger; our warnings go to its standard error."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    root, own = logging.getLogger(), logging.getLogger("erasurehead_jax")
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("warning: %(message)s"))
    own.addHandler(shown)
    own.propagate = False


def _execute(path: str, arguments: list[str]) -> int:
    """Runs the script to its end, whatever that is. Returns its exit status."""
    sys.argv[:] = [path, *arguments]
    sys.path.insert(0, os.path.dirname(path))
    status = status_of(path)
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue] - what Python does at its own end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status


def status_of(path: str) -> int:
    """Runs a script. Returns its exit status, and prints what Python would; of a ConfigError or Stopped, one line."""
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return Status.FAILED
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except (ConfigError, Stopped) as error:
        from erasurehead_jax.refusals import report_error

        return report_error(error)
    except BaseException as error:
        error.__traceback__ = _from_script(error.__traceback__, path)
        sys.excepthook(type(error), error, error.__traceback__)
        return Status.FAILED
    return Status.OK


def _from_script(trace: TracebackType | None, path: str) -> TracebackType | None:
    """The traceback from the script's own frame on."""
    while trace is not None and trace.tb_frame.f_code.co_filename != path:
        trace = trace.tb_next
    return trace
