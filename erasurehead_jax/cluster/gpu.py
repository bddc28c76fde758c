"""Which GPU a rank uses."""

import os
from pathlib import Path


def local_rank() -> int:
    """This rank's number on its host, as mpirun or srun say."""
    return int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))


def take_gpu() -> None:
    """One GPU a rank where there are some, in turn, and none of its memory in advance. To be called before JAX starts.

    A rank that SLURM has given one of its own (--gpus-per-task=1) sees no other.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))] if seen is None else seen.split(",")
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[local_rank() % len(gpus)]
