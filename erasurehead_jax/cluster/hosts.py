"""What a rank says of itself when it starts: where it runs, and with which versions."""

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import erasurehead_jax
from erasurehead_jax.cluster.gpu import local_rank
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.versions import versions

EACH_ITS_OWN = ("platform", "device", "wandb")  # of the versions: these may differ (only rank 0 uses wandb)


def introduction() -> dict[str, Any]:
    """The host, and from the first rank on it the versions there."""
    return {"host": platform.node(), "versions": _versions() if local_rank() == 0 else None}


def require_alike(said: list[dict[str, Any] | None]) -> None:
    """Raises ConfigError if two hosts have different versions. `said` has the introductions by rank; None: it died."""
    told = {each["host"]: each["versions"] for each in said if each and each["versions"]}
    (first, expected), *others = told.items()
    for host, found in others:
        for name, value in expected.items():
            if found.get(name) != value:
                raise ConfigError(
                    f"{name} is {value} on {first} and {found.get(name)} on {host}: all hosts need the same environment"
                )


def _versions() -> Mapping[str, str]:
    """Packages, and the code of this one, which may differ where the number does not."""
    folder = Path(erasurehead_jax.__file__).parent
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))).hexdigest()[:12]
    numbers = {name: value for name, value in versions().items() if name not in EACH_ITS_OWN}
    return numbers | {"the code of erasurehead-jax": code}
