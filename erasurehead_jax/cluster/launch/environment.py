"""The environment of the ranks."""

import os

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What hosts that do not get this process's environment need of it.
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
    """One thread a rank, CPU unless the user says otherwise, and Open MPI as root where that is who we are."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.getuid() == 0 else {}
    xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    defaults = {"JAX_PLATFORMS": "cpu", "OMPI_MCA_mpi_yield_when_idle": "1"}
    one_thread = dict.fromkeys(THREADS, "1") | {"PYTHONUNBUFFERED": "1"}
    return defaults | dict(os.environ) | one_thread | root | {"XLA_FLAGS": xla}
