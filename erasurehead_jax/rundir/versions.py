"""Which versions made a run."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import jax

PACKAGES = ("erasurehead-jax", "jax", "jaxlib", "equinox", "optax", "numpy", "mpi4py", "hydra-core")


def versions() -> dict[str, str]:
    """Of this package, what it stands on, and the machine; of wandb, which is an extra, where it is installed."""
    numbers = {name: version(name) for name in PACKAGES}
    with suppress(PackageNotFoundError):
        numbers["wandb"] = version("wandb")
    return numbers | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
    }
