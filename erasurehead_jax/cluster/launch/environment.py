"""The environment of the ranks."""

import os

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
