"""A rank: `python -m erasurehead_jax.cluster.rank SPEC`, or forked by the fork server. Rank 0 leads, the others work.

More jobs may follow, each in a next.json in the run directory of the previous one; they reuse JAX and the data.
"""

import gc
import logging
import os
import platform
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

import jax
from setproctitle import setproctitle

from erasurehead_jax.caches import keep_compiled
from erasurehead_jax.cluster import transport
from erasurehead_jax.cluster.gpu import take_gpu
from erasurehead_jax.cluster.hosts import introduction, require_alike
from erasurehead_jax.cluster.lead import lead
from erasurehead_jax.cluster.lend import wait_for_jobs
from erasurehead_jax.cluster.parcel import unpack
from erasurehead_jax.cluster.script import lead_script
from erasurehead_jax.cluster.signals import (
    CONNECTED,
    INTERRUPT,
    Connected,
    Failed,
    Outcome,
    Refused,
    end_with_parent,
    send,
)
from erasurehead_jax.cluster.worker import work
from erasurehead_jax.errors import ConfigError, Status, Stopped
from erasurehead_jax.job import Job, JobSpec, build
from erasurehead_jax.rundir.files import NEXT

NEXT_EVERY_S = 0.05

log = logging.getLogger(__name__)


def main(job: str) -> NoReturn:
    """Runs this rank's part of this job, a JobSpec as JSON, and of all jobs that follow.

    An error ends the rank without MPI_Finalize: the other ranks notice the loss, and the launcher ends them.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, INTERRUPT):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
    spec = JobSpec.from_json(job)
    _set_title(spec)
    transport.start()
    try:
        hosts = _connect(spec)
        if spec.script is None:
            _run_jobs(spec, hosts)
        elif transport.rank() == 0:
            lead_script(spec, hosts)
        else:
            wait_for_jobs(_prepared)
        transport.finalize()
        os._exit(Status.OK)
    except BaseException as error:
        master_lost = isinstance(error, transport.Broken) and transport.rank() > 0
        _report(error, "the master (rank 0) is lost" if master_lost else None)
        os._exit(Status.FAILED)


def _run_jobs(spec: JobSpec, hosts: list[str]) -> None:
    while _run(spec, hosts) and (job := _next_job(Path(spec.run_dir))):
        spec = JobSpec.from_json(job)
        if transport.rank() == 0:
            transport.hand_out(job)  # fails if a worker has died: the launcher then starts other ranks


def _connect(spec: JobSpec) -> list[str]:
    """Starts JAX and, on rank 0, collects the workers' hosts. Raises ConfigError if the ranks do not match the job."""
    if transport.size() != (expected := spec.config["workers"] + 1):
        raise ConfigError(
            f"cluster.program={spec.config['cluster']['program']}: mpi4py sees {transport.size()} ranks instead of "
            f"{expected}; use the mpirun of the MPI that mpi4py uses, or srun --mpi=pmix"
        )
    _start_jax(transport.rank())
    introductions = transport.introduce(introduction())
    if transport.rank() > 0:
        return []
    require_alike(introductions)
    if spec.script is None and not Path(spec.run_dir).is_dir():
        raise ConfigError(
            f"hydra.run.dir={spec.run_dir}: rank 0 runs on {platform.node()}, where it does not exist; put it on a "
            "disk that all hosts share, or run rank 0 on this host (the first line of cluster.hosts)"
        )
    log.info(CONNECTED)
    send(Connected())
    return [each["host"] if each else "lost" for each in introductions[1:]]


def _run(spec: JobSpec, hosts: list[str]) -> bool:
    """Runs one job. Returns whether another may follow. `hosts` are the workers', on rank 0."""
    job = _prepared(spec)
    if transport.rank() == 0:
        return lead(job, spec, hosts)
    return work(job, transport.rank() - 1)


def _prepared(spec: JobSpec) -> Job:
    """The objects of a job. Raises ConfigError for those that cannot be had on this host."""
    _set_title(spec)
    jax.config.update("jax_enable_x64", spec.config["x64"])
    job = build(spec.config, unpack(Path(spec.run_dir)) if spec.parts else None, data_checked=True)
    gc.collect()
    gc.freeze()  # the job's objects live until its end, so the collector can skip them
    return job


def _next_job(run_dir: Path) -> str:
    """The next job, which the launcher writes to the last job's run directory; empty if there are no more.

    Rank 0 still has to hand it out to the workers, unless it is empty.
    """
    if transport.rank() > 0:
        return transport.take_job()
    next_job = run_dir / NEXT
    while not next_job.exists():
        time.sleep(NEXT_EVERY_S)
    job = next_job.read_text()
    next_job.unlink()
    if not job:
        transport.hand_out(job)
    return job


def _set_title(spec: JobSpec) -> None:
    """Shows in `ps` and `top` which rank of which run this process is."""
    rank = os.environ.get("PMIX_RANK", "?")
    setproctitle(f"erasurehead-jax rank {rank} of {spec.config['workers'] + 1}: {spec.run_dir}")


def _start_jax(rank: int) -> None:
    """Starts JAX with a single core: it sizes its thread pools by the cores available, and there are many ranks."""
    pinned = hasattr(os, "sched_setaffinity")
    cores = sorted(os.sched_getaffinity(0)) if pinned else []
    if pinned:
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    if os.environ.get("JAX_PLATFORMS") != "cpu":
        take_gpu()
    keep_compiled()
    # For small steps, dispatching to a thread costs more than it saves.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.devices()
    if pinned:
        os.sched_setaffinity(0, cores)


def _report(error: BaseException, instead: str | None) -> None:
    """Reports an error to the launcher, which shows the first one of all ranks; the log gets the traceback."""
    if instead:
        send(Failed(instead))
    elif isinstance(error, ConfigError):
        send(Refused(str(error)))
    elif isinstance(error, Stopped):
        send(Outcome(int(error.status), str(error), [], False))
    else:
        trace = "".join(traceback.format_exception(error))
        print(trace, file=sys.stderr, flush=True)
        send(Failed(f"rank {transport.rank()} failed:\n{trace}"))


if __name__ == "__main__":
    end_with_parent()
    main(sys.argv[1])
