"""Assigns a GPU to a rank."""

import os
from pathlib import Path


def local_rank() -> int:
    """This rank's number on its host, as set by mpirun or srun."""
    return int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))


def take_gpu() -> None:
    """Assigns the host's GPUs, if any, to its ranks in turn, without preallocation. Call it before JAX starts.

    A rank to which SLURM has assigned a GPU (--gpus-per-task=1) sees no other.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))] if seen is None else seen.split(",")
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[local_rank() % len(gpus)]
