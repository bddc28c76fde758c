"""Which versions made a run."""

import platform
from importlib.metadata import version

import jax


def versions() -> dict[str, str]:
    """Of this package, what it stands on, and the machine."""
    packages = ("erasurehead-jax", "jax", "jaxlib", "equinox", "optax", "numpy", "mpi4py", "hydra-core", "wandb")
    return {name: version(name) for name in packages} | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
    }
