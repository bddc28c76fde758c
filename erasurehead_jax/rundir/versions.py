"""The versions that a run used."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import jax

PACKAGES = ("erasurehead-jax", "jax", "jaxlib", "equinox", "optax", "numpy", "mpi4py", "hydra-core")


def versions() -> dict[str, str]:
    """Versions of this package, its dependencies (wandb only if installed) and the machine."""
    numbers = {name: version(name) for name in PACKAGES}
    with suppress(PackageNotFoundError):
        numbers["wandb"] = version("wandb")
    return numbers | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
    }
