"""What mpirun or srun starts: `python -m erasurehead_jax.cluster.rank SPEC`, SPEC in JSON. Rank 0 leads, others work.

More jobs may follow, each a next.json in the run directory of the one before; they find JAX and the data ready.
"""

import contextlib
import gc
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from erasurehead_jax.cluster.gpu import take_gpu
from erasurehead_jax.cluster.signals import CONNECTED, INTERRUPT, REFUSED
from erasurehead_jax.errors import ConfigError, Status
from erasurehead_jax.job import JobSpec
from erasurehead_jax.rundir.files import ERROR, LOG, NEXT

NEXT_EVERY_S = 0.05

log = logging.getLogger(__name__)


def main() -> None:
    """Runs this rank's part of every job. An error that is not the master's death ends the ranks; the first is kept in
    error.txt.

    A rank that fails does not finalize: the others notice that it is gone, and the launcher ends them.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, INTERRUPT):
        signal.signal(number, signal.SIG_IGN)
    spec = JobSpec.from_json(sys.argv[1])
    gc.disable()  # it takes a fifth of the time of the imports to come, and finds nothing
    threading.Thread(target=_end_with_parents, args=(os.getppid(), *spec.launcher), daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    from erasurehead_jax.cluster import transport

    try:
        hosts = _connect(spec)
        gc.freeze()
        gc.enable()
        while _run(spec, hosts) and (job := _next_job(Path(spec.run_dir))):
            spec = JobSpec.from_json(job)
            _log_to(Path(spec.run_dir) / LOG)
            if transport.rank() == 0:
                transport.hand_out(job)  # fails if a worker has died: the launcher then starts other ranks
        transport.finalize()
        os._exit(Status.OK)
    except BaseException:
        broken = isinstance(sys.exc_info()[1], transport.Broken) and transport.rank() > 0
        _keep_error(Path(spec.run_dir), "rank 0, the master, is lost\n" if broken else _traceback())
        os._exit(Status.FAILED)


def _connect(spec: JobSpec) -> list[str]:
    """What is done once: JAX starts, and rank 0 hears where the workers are. Raises ConfigError if they do not fit."""
    from erasurehead_jax.cluster import transport

    if transport.size() != (expected := spec.config["workers"] + 1):
        raise ConfigError(
            f"cluster.program={spec.config['cluster']['program']}: mpi4py sees {transport.size()} ranks instead of "
            f"{expected}; start them with the mpirun of its MPI, or with srun --mpi=pmix"
        )
    _start_jax(transport.rank())
    from erasurehead_jax.cluster.hosts import introduction, require_alike

    said = transport.introduce(introduction())
    if transport.rank() > 0:
        return []
    require_alike(said)
    if not Path(spec.run_dir).is_dir():
        raise ConfigError(
            f"hydra.run.dir={spec.run_dir}: rank 0 runs on {platform.node()}, which does not have it; put it on a "
            "disk that all hosts share, or let rank 0 run here (the first line of cluster.hosts)"
        )
    log.info(CONNECTED)
    return [each["host"] if each else "lost" for each in said[1:]]


def _run(spec: JobSpec, hosts: list[str]) -> bool:
    """One job; returns whether another may follow. `hosts` are the workers', on rank 0."""
    from erasurehead_jax.cluster import transport
    from erasurehead_jax.job import build

    job = build(spec.config)
    if transport.rank() == 0:
        from erasurehead_jax.cluster.lead import lead

        return lead(job, spec, hosts)
    from erasurehead_jax.cluster.worker import work

    return work(job, transport.rank() - 1)


def _next_job(run_dir: Path) -> str:
    """What the launcher leaves in the run directory of the last job; empty if there are no more.

    Rank 0 has still to hand it out to the workers, unless it is empty.
    """
    from erasurehead_jax.cluster import transport

    if transport.rank() > 0:
        return transport.take_job()
    left = run_dir / NEXT
    while not left.exists():
        time.sleep(NEXT_EVERY_S)
    job = left.read_text()
    left.unlink()
    if not job:
        transport.hand_out(job)
    return job


def _log_to(path: Path) -> None:
    """What this rank says goes to the log of the job at hand, where its disk has that."""
    with contextlib.suppress(OSError), path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _end_with_parents(parent: int, host: str, launcher: int) -> None:
    """No rank outlives mpirun, or its daemon, that started it; nor do these, on its host, what launched them."""
    while True:
        time.sleep(1)
        if os.getppid() != parent:
            os._exit(Status.FAILED)
        try:
            if host == platform.node():
                os.kill(launcher, 0)
        except ProcessLookupError:
            try:
                os.kill(parent, signal.SIGTERM)
            except PermissionError:  # it is SLURM's, which ends all ranks when one fails
                os._exit(Status.FAILED)


def _start_jax(rank: int) -> None:
    """JAX sizes its thread pools by the cores it may use when it starts; with many ranks a machine, one will do."""
    pinned = hasattr(os, "sched_setaffinity")
    cores = sorted(os.sched_getaffinity(0)) if pinned else []
    if pinned:
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    if os.environ.get("JAX_PLATFORMS") != "cpu":
        take_gpu()
    import jax

    from erasurehead_jax.caches import keep_compiled

    keep_compiled()
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # small steps: a hand-over to a thread costs more
    jax.devices()
    if pinned:
        os.sched_setaffinity(0, cores)


def _traceback() -> str:
    from erasurehead_jax.cluster import transport

    if isinstance(error := sys.exc_info()[1], ConfigError):
        return f"{REFUSED}{error}\n"
    return f"rank {transport.rank()} failed:\n{traceback.format_exc()}"


def _keep_error(run_dir: Path, text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    mine = run_dir / f"{ERROR}.{os.getpid()}"
    # Only the first rank to fail gets to tell; train.log has what all said, also those that do not share run_dir.
    with contextlib.suppress(OSError):
        mine.write_text(text)
        os.link(mine, run_dir / ERROR)
    mine.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
