"""Imports once for all ranks of a host: `python -m erasurehead_jax.cluster.launch.forkserver ADDRESS`.

The server imports JAX and this package, but starts neither a JAX backend nor MPI, and forks a rank for every stub that
connects. It has a single thread, so that forking is safe. As the parent of its ranks it reports their exit to their
stubs and kills a rank whose stub is gone (even a stopped one); its ranks do not outlive it.

The launcher starts it early, in parallel with its own work, and it ends when the launcher's pipe closes
(`--with-stdin`). On other hosts the first stub starts it, and it ends after its last rank.
"""

import atexit
import contextlib
import gc
import importlib
import os
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

from erasurehead_jax.cluster.launch.environment import THREADS, environment
from erasurehead_jax.cluster.signals import end_with_parent

MODULE = "erasurehead_jax.cluster.launch.forkserver"
WITH_STDIN = "--with-stdin"
# Modules that JAX imports on its first compilation, 15 ms per rank. If a new version imports others, ranks do so.
IMPORTED_BY_JAX_LATER = (
    "jax.experimental.multihost_utils",
    "jaxlib.mlir.dialects.mhlo",
    "jaxlib.mlir.dialects.builtin",
)
NEEDED_AFTER_TRAINING = ("scipy.stats",)  # slow to import, so only when the server is idle
IDLE_S = 3.0
READ_BY_IMPORTS = ("JAX", "XLA", "LD_", "CUDA", *THREADS)  # prefixes of variables; ranks set all others after the fork
UNUSED_S = 60.0  # how long a server that no launcher holds open waits for its first rank
# How an argument begins that shows that no ranks will run here.
UNNEEDED = ("backend=simulate", "hydra/launcher=", "cluster=slurm_srun", "-h", "--h", "-c", "--c", "--i", "-s", "--s")


class Started(NamedTuple):
    """A server that this process, or the one that it was forked from, has started."""

    server: subprocess.Popen
    environment: dict[str, str]
    address: str
    owner: int  # the process that ends it

    def fits(self, environment: dict[str, str]) -> bool:
        """Is it there, and are its imports those of this environment?"""
        try:
            os.kill(self.server.pid, 0)
        except ProcessLookupError:
            return False
        return self.environment == environment and (self.owner != os.getpid() or self.server.poll() is None)


_started: list[Started] = []  # at most one


def start_early(arguments: list[str]) -> None:
    """Starts a server in parallel with this process's imports, unless the arguments show that no ranks will run here.

    A wrong guess costs only time on another core.
    """
    if not any(argument.startswith(UNNEEDED) for argument in arguments):
        address(start=True)


def address(start: bool) -> str:
    """The address of this process's fork servers. With `start`, makes sure that one is started on this host."""
    now = {name: value for name, value in environment().items() if name.startswith(READ_BY_IMPORTS)}
    if _started and not _started[0].fits(now):
        stop()
    if not _started:
        name = f"erasurehead-jax-{os.getpid()}-{secrets.token_hex(8)}"
        if not (start and sys.platform == "linux"):
            return name
        server = subprocess.Popen(
            [sys.executable, "-m", MODULE, name, WITH_STDIN],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # if it fails, ranks import for themselves and show the error
            start_new_session=True,
        )
        _started.append(Started(server, now, name, os.getpid()))
    return _started[0].address


def stop() -> None:
    """Ends the server that this process has started, if any."""
    while _started:
        started = _started.pop()
        if started.owner == os.getpid():
            started.server.kill()  # it may still be importing; ranks do not outlive it
            started.server.wait()


atexit.register(stop)


def main() -> None:
    """Serves until the server is no longer needed."""
    address = sys.argv[1]
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind("\0" + address)
        except OSError:  # another server has the address
            return
        listener.listen(1024)
        _import_everything()
        Server(listener, with_stdin=WITH_STDIN in sys.argv).serve()


def _import_everything() -> None:
    """Imports everything that a rank needs. This starts neither a JAX backend nor MPI."""
    gc.disable()  # it would take a fifth of the import time and free nothing
    import optax  # noqa: F401
    from setproctitle import setproctitle

    import erasurehead_jax.cluster.hosts
    import erasurehead_jax.cluster.lead
    import erasurehead_jax.cluster.rank
    import erasurehead_jax.cluster.worker
    import erasurehead_jax.optimizers  # noqa: F401

    _import(IMPORTED_BY_JAX_LATER)
    setproctitle(f"erasurehead-jax fork server: {sys.argv[1]}")  # before a rank replaces its environment
    gc.collect()
    gc.freeze()  # keeps the collector of a rank from copying shared pages
    gc.enable()
    if not _forking_is_safe():
        raise RuntimeError("an import has started a thread, so forking is unsafe")


def _forking_is_safe() -> bool:
    """Has this process a single thread?"""
    return len(list(Path("/proc/self/task").iterdir())) == 1


def _import(names: tuple[str, ...]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class Server:
    """Forks ranks and supervises them."""

    def __init__(self, listener: socket.socket, with_stdin: bool):
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._held, self._let_go = with_stdin, False
        if with_stdin:
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._read_stdin)
        self._ranks: dict[int, socket.socket] = {}  # by process id
        self._wake, self._signalled = socket.socketpair()
        for end in (self._wake, self._signalled):
            end.setblocking(False)
        signal.set_wakeup_fd(self._signalled.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wake, selectors.EVENT_READ, self._reap)
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def serve(self) -> None:
        """Serves until the launcher closes its pipe or, without a launcher, until the last rank has ended."""
        patience_s = UNUSED_S
        if not self._selector.select(IDLE_S):
            _import(NEEDED_AFTER_TRAINING)
        while self._held or self._ranks or patience_s:
            events = self._selector.select(None if self._held or self._ranks else patience_s)
            for key, _ in events:
                key.data(key.fileobj)
            if self._ranks or not events or self._let_go:
                patience_s = 0.0

    def _accept(self, _: object) -> None:
        connection, _ = self._listener.accept()
        try:
            _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user != os.getuid():
                raise PermissionError("the stub belongs to another user")
            if not _forking_is_safe():
                raise OSError("the stub has to start the rank by itself")
            size, streams, _, _ = socket.recv_fds(connection, 12, 3)
            request = bytearray()
            while len(request) < int(size):
                request += connection.recv(int(size) - len(request)) or _broken()
            spec, folder, cores, *variables = map(os.fsdecode, bytes(request).split(b"\0"))
        except (OSError, ValueError):
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become_rank(spec, folder, cores, variables, streams)
        for stream in streams:
            os.close(stream)
        self._ranks[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, self._stub_gone)
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % pid)

    def _become_rank(self, spec: str, folder: str, cores: str, variables: list[str], streams: list[int]) -> NoReturn:
        try:
            end_with_parent()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for key in list(self._selector.get_map().values()):
                if key.fd != 0:
                    os.close(key.fd)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            os.environ.clear()
            for variable in variables:
                name, _, value = variable.partition("=")
                os.environ[name] = value
            paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            sys.path[:0] = [path for path in paths if path and path not in sys.path]
            os.chdir(folder)
            os.sched_setaffinity(0, map(int, cores.split(",")))
            from erasurehead_jax.cluster import rank

            rank.main(spec)
        finally:
            os._exit(1)

    def _stub_gone(self, connection: socket.socket) -> None:
        """Kills the rank of a stub that is gone."""
        self._selector.unregister(connection)
        for pid, other in self._ranks.items():
            if other is connection:
                os.kill(pid, signal.SIGKILL)

    def _reap(self, _: object) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                connection = self._ranks.pop(pid)
                with contextlib.suppress(KeyError):
                    self._selector.unregister(connection)
                with contextlib.suppress(OSError):
                    connection.sendall(b"%d\n" % status)
                connection.close()

    def _read_stdin(self, _: object) -> None:
        if not os.read(0, 4096):
            self._selector.unregister(0)
            self._held, self._let_go = False, True
            for pid in self._ranks:  # the launcher has died
                os.kill(pid, signal.SIGKILL)


def _broken() -> bytes:
    raise ConnectionError


if __name__ == "__main__":
    main()
