"""Starts the ranks for a script of the user's, gives rank 0 this process's streams, and passes signals on to it."""

import contextlib
import os
import platform
import secrets
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from erasurehead_jax.cluster.launch.watch import Progress, attend, handling, refusal, start
from erasurehead_jax.cluster.signals import Failed
from erasurehead_jax.errors import ConfigError, Status
from erasurehead_jax.job import JobSpec, Script

STREAMS = (0, 1, 2)
LAST_WORDS_S = 1.0  # after the end of rank 0, for its message to arrive
WORKERS_LOG = "workers.log"  # in a temporary folder, unless the user names a file


def run_script(config: dict[str, Any], path: str, arguments: list[str], log: Path | None) -> int:
    """Runs a script on rank 0, with the config's workers at its service. Returns the script's exit status.

    What workers print goes to `log`, or to a temporary file that is kept if the script does not come to its end. Raises
    ConfigError if the ranks cannot be started for a reason that the user can fix.
    """
    folder = Path(tempfile.mkdtemp(prefix="erasurehead-jax-"))
    log = log or folder / WORKERS_LOG
    requests: list[int] = []
    progress, kept = Progress(), False
    try:
        with handling(requests), _Streams() as streams:
            spec = JobSpec(
                config=config,
                choices={},
                run_dir=str(folder),
                checkpoint=None,
                parts=False,
                launched_s=time.time(),
                launcher=(platform.node(), os.getpid()),
                more=False,
                script=Script(streams.address, path, arguments),
            )
            ranks = start(spec, (), log)
            attend(ranks, spec, lambda: streams.look(progress), requests, progress, streams.pass_on)
        kept = progress.outcome is None and not requests and log.parent == folder
        if kept and (reason := refusal(ranks, progress)):
            raise ConfigError(f"{reason}; see {log}")
        return _status(progress, requests, log)
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _status(progress: Progress, requests: list[int], log: Path) -> int:
    """The exit status; prints why the script did not come to its end."""
    interrupted = signal.SIGINT in requests
    if isinstance(progress.failed, Failed) and not requests:
        sys.stderr.write(f"{progress.failed.text.rstrip()}\n")
    if progress.outcome:
        status = progress.outcome.status
    elif requests:
        status = 128 + requests[0]
    else:
        sys.stderr.write(f"see {log}\n")
        status = Status.FAILED
    if interrupted and status == Status.INTERRUPTED:
        sys.stderr.write("interrupted\n")
    return status


class _Streams:
    """Hands this process's standard streams to rank 0, which connects to `address` and stays connected."""

    def __init__(self):
        self.address = f"erasurehead-jax-script-{os.getpid()}-{secrets.token_hex(8)}"
        self._process: int | None = None
        self._ended_s: float | None = None  # when rank 0 ended
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> "_Streams":
        self._listener.bind("\0" + self.address)
        self._listener.listen()
        threading.Thread(target=self._hand_over, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def pass_on(self, number: int) -> None:
        """Sends a signal to rank 0."""
        if self._process is not None and self._ended_s is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, number)

    def look(self, progress: Progress) -> None:
        """Notices that rank 0 has ended and has not said how, which other ranks may not."""
        if self._ended_s is not None and time.monotonic() > self._ended_s + LAST_WORDS_S:
            progress.take(Failed("the script's process (rank 0) is lost: it was killed, or ended with os._exit"))

    def _hand_over(self) -> None:
        while self._process is None:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with connection:
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                process, user, _ = struct.unpack("3i", credentials)
                if user == os.getuid():
                    self._process = process
                    socket.send_fds(connection, [b"."], STREAMS)
                    connection.recv(1)  # until the process ends
                    self._ended_s = time.monotonic()
