"""What mpirun or srun starts for every rank. It has the rank forked by this host's fork server and stands in for it.

    python -I -S stub.py CONTEXT SPEC

The rank takes over this process's environment, working directory, affinity and standard streams, so that PMIx and
mpirun see it as theirs. Signals go on to the rank; this process ends as the rank did, and the rank never outlives it.
Standard library only: 31 of these start in the time of one `import jax`.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

SERVER = "erasurehead_jax.cluster.launch.forkserver"
RANK = "erasurehead_jax.cluster.rank"
CONNECT_S = 20.0  # for the server to appear; it listens before it imports anything
LOOK_EVERY_S = 1.0  # whether mpirun and the launcher are still there
KILLED = 9  # as a wait status
FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Stands in for the rank until it ends."""
    context, spec = json.loads(sys.argv[1]), sys.argv[2]
    os.environ.update(context["environment"])
    waiting: list[int] = []
    for number in FORWARDED:
        signal.signal(number, lambda number, _: waiting.append(number))
    parents = _Parents(*context["launcher"])
    rank = _forked(context["address"], spec) or _Spawned(spec)
    while (status := rank.ended(LOOK_EVERY_S)) is None:
        while waiting:
            rank.send(waiting.pop(0))
        parents.look()
    _end_like(status)


class _Parents:
    """mpirun, or its daemon, that started this process; and on its host the launcher."""

    def __init__(self, host: str, launcher: int):
        self._parent = os.getppid()
        self._launcher = launcher if host == os.uname().nodename else None

    def look(self) -> None:
        """Ends this process, and with it the rank, when mpirun is gone; ends mpirun when the launcher is."""
        if os.getppid() != self._parent:
            os._exit(1)
        try:
            if self._launcher is not None:
                os.kill(self._launcher, 0)
        except ProcessLookupError:
            try:
                os.kill(self._parent, signal.SIGTERM)
            except PermissionError:  # it is SLURM's, which ends all ranks when one fails
                os._exit(1)


class _Forked:
    """A rank that the fork server has made. Its parent, the server, kills it when this connection closes."""

    def __init__(self, connection: socket.socket):
        self._lines = connection.makefile("rb")
        if not (answer := self._lines.readline()):
            raise ConnectionError("the server could not import")
        self._pid = int(answer)

    def ended(self, within_s: float) -> int | None:
        """Its wait status, if it ends within so many seconds."""
        if not select.select([self._lines], [], [], within_s)[0]:
            return None
        return int(self._lines.readline() or KILLED)  # nothing: the server is gone, and the rank with it

    def send(self, number: int) -> None:
        """Passes a signal on."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)


class _Spawned:
    """A rank that imports everything by itself, where forking is impossible."""

    def __init__(self, spec: str):
        self._process = subprocess.Popen([sys.executable, "-m", RANK, spec])

    def ended(self, within_s: float) -> int | None:
        """Its wait status, if it ends within so many seconds."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None
        return -code if code < 0 else code << 8

    def send(self, number: int) -> None:
        """Passes a signal on."""
        self._process.send_signal(number)


def _forked(address: str, spec: str) -> _Forked | None:
    """None where there is no fork server and none can be started, or where it fails."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        connection = _connect(address)
        request = {
            "spec": spec,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "affinity": sorted(os.sched_getaffinity(0)),
        }
        body = json.dumps(request).encode()
        socket.send_fds(connection, [b"%12d" % len(body)], [0, 1, 2])
        connection.sendall(body)
        return _Forked(connection)
    except OSError:
        return None


def _connect(address: str) -> socket.socket:
    """To the server of this host, which the first rank here starts if the launcher has not."""
    until_s, server = time.monotonic() + CONNECT_S, None
    first = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect("\0" + address)
            _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user != os.getuid():
                raise PermissionError("the server is another user's")
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > until_s:
                raise
        if first and server is None:
            server = subprocess.Popen(
                [sys.executable, "-m", SERVER, address],
                start_new_session=True,  # it outlives this rank
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        time.sleep(0.01)


def _end_like(status: int) -> None:
    """Ends with this wait status, so that mpirun sees how the rank ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


if __name__ == "__main__":
    main()
