"""The process that mpirun or srun starts for every rank. It has the fork server fork the rank and stands in for it.

    python -I -S stub.py ADDRESS HOST PID SPEC NAME=VALUE...

The rank takes over this process's environment, with the variables named, its working directory, affinity and standard
streams, so that PMIx and mpirun treat it as theirs. Signals are forwarded to the rank; this process ends as the rank
did, and the rank never outlives it. HOST and PID are the launcher's.

Dozens of these start at once, so only modules written in C are imported, which is fast.
"""

import _signal as signal  # pyright: ignore[reportMissingImports]
import _socket as socket
import os
import select
import sys
import time

SERVER = "erasurehead_jax.cluster.launch.forkserver"
RANK = "erasurehead_jax.cluster.rank"
CONNECT_S = 20.0  # to wait for the server, which listens before it imports anything
LOOK_EVERY_S = 1.0  # between checks that mpirun and the launcher still exist
FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Stands in for the rank until it ends."""
    address, host, launcher, spec, *variables = sys.argv[1:]
    for variable in variables:
        name, _, value = variable.partition("=")
        os.environ[name] = value
    waiting: list[int] = []
    for number in FORWARDED:
        signal.signal(number, lambda number, _: waiting.append(number))
    parents = _Parents(host, int(launcher))
    rank = _forked(address, spec) or _Spawned(spec)
    while (status := rank.ended(LOOK_EVERY_S)) is None:
        while waiting:
            rank.send(waiting.pop(0))
        parents.look()
    _end_like(status)


class _Parents:
    """The mpirun, or its daemon, that started this process and, if it is on this host, the launcher."""

    def __init__(self, host: str, launcher: int):
        self._parent = os.getppid()
        self._launcher = launcher if host == os.uname().nodename else None

    def look(self) -> None:
        """Ends this process, and with it the rank, if mpirun is gone; ends mpirun if the launcher is gone."""
        if os.getppid() != self._parent:
            os._exit(1)
        try:
            if self._launcher is not None:
                os.kill(self._launcher, 0)
        except ProcessLookupError:
            try:
                os.kill(self._parent, signal.SIGTERM)
            except PermissionError:  # SLURM's, which ends all ranks when one fails
                os._exit(1)


class _Forked:
    """A rank forked by the server, its parent, which kills it when this connection closes."""

    def __init__(self, connection: socket.socket):
        self._connection, self._unread = connection, b""
        pid = self._number()
        if pid is None:
            raise ConnectionError("the fork server failed to start")
        self._pid = pid

    def ended(self, within_s: float) -> int | None:
        """The wait status, or None if the rank does not end within this time."""
        if not self._unread and not select.select([self._connection], [], [], within_s)[0]:
            return None
        status = self._number()
        return signal.SIGKILL if status is None else status  # the server is gone, and the rank with it

    def send(self, number: int) -> None:
        """Forwards a signal to the rank."""
        try:  # noqa: SIM105 - contextlib is slow to import
            os.kill(self._pid, number)
        except ProcessLookupError:
            pass

    def _number(self) -> int | None:
        """The number in the server's next line, or None if the server is gone."""
        while b"\n" not in self._unread:
            if not (more := self._connection.recv(64)):
                return None
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return int(line)


class _Spawned:
    """A rank that imports everything itself, where forking is impossible."""

    def __init__(self, spec: str):
        from subprocess import Popen  # late: slow to import

        self._process = Popen([sys.executable, "-m", RANK, spec])

    def ended(self, within_s: float) -> int | None:
        """The wait status, or None if the rank does not end within this time."""
        from subprocess import TimeoutExpired

        try:
            code = self._process.wait(within_s)
        except TimeoutExpired:
            return None
        return -code if code < 0 else code << 8

    def send(self, number: int) -> None:
        """Forwards a signal to the rank."""
        self._process.send_signal(number)


def _forked(address: str, spec: str) -> _Forked | None:
    """A forked rank, or None if there is no fork server and none can be started, or if it fails."""
    if sys.platform != "linux":
        return None
    cores = ",".join(map(str, os.sched_getaffinity(0)))
    parts = [spec, os.getcwd(), cores, *(f"{name}={value}" for name, value in os.environ.items())]
    request = b"\0".join(map(os.fsencode, parts))
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    try:
        connection = _connect(address)
        connection.sendmsg([b"%12d" % len(request)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        connection.sendall(request)
        return _Forked(connection)
    except OSError:
        return None


def _connect(address: str) -> socket.socket:
    """Connects to the server of this host, which the first rank here starts if the launcher has not."""
    until_s, server = time.monotonic() + CONNECT_S, None
    first = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect("\0" + address)
            break
        except ConnectionRefusedError:
            connection.close()
            if time.monotonic() > until_s:
                raise
        if first and server is None:
            server = _start_server(address)
        time.sleep(0.01)
    process_user_group = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if int.from_bytes(process_user_group[4:8], sys.byteorder) != os.getuid():
        raise PermissionError("the fork server belongs to another user")
    return connection


def _start_server(address: str) -> object:
    """Starts a server in its own session, so that it outlives this rank. If it fails, ranks import for themselves."""
    from subprocess import DEVNULL, Popen

    command = [sys.executable, "-m", SERVER, address]
    return Popen(command, start_new_session=True, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)


def _end_like(status: int) -> None:
    """Ends this process with the rank's wait status, so that mpirun sees how the rank ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


if __name__ == "__main__":
    main()
