"""The environment of the ranks."""

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterator

STANDARD = os.path.dirname(sysconfig.get_path("stdlib"))
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Variables that are passed on to hosts that do not inherit this process's environment.
CARRIED = (
    *THREADS,
    "PYTHONUNBUFFERED",
    "ERASUREHEAD_DATA",
    "PYTHONPATH",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PLATFORMS",
    "XLA_FLAGS",
)


def environment() -> dict[str, str]:
    """One thread per rank, CPU unless the user chooses otherwise, and permission for Open MPI to run as root."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.getuid() == 0 else {}
    xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    defaults = {"JAX_PLATFORMS": "cpu", "OMPI_MCA_mpi_yield_when_idle": "1"}
    one_thread = dict.fromkeys(THREADS, "1") | {"PYTHONUNBUFFERED": "1"}
    return defaults | dict(os.environ) | one_thread | root | {"XLA_FLAGS": xla}


@contextlib.contextmanager
def importable_here() -> Iterator[None]:
    """Lets ranks that are started in the block import what this process can, whatever a script has put on its path."""
    own = [os.path.abspath(each) for each in sys.path if not os.path.abspath(each).startswith((sys.prefix, STANDARD))]
    before = os.environ.get("PYTHONPATH")
    named = [each for each in (before or "").split(os.pathsep) if each]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*own, *named]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
