"""What each rank reports when it starts: its host and the versions there."""

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import erasurehead_jax
from erasurehead_jax.cluster.gpu import local_rank
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.versions import versions

EACH_ITS_OWN = ("platform", "device", "wandb")  # versions that may differ (only rank 0 uses wandb)


def introduction() -> dict[str, Any]:
    """The host and, from the first rank on each host, the versions there."""
    return {"host": platform.node(), "versions": _versions() if local_rank() == 0 else None}


def require_alike(introductions: list[dict[str, Any] | None]) -> None:
    """Raises ConfigError if two hosts have different versions. The introductions are by rank, None if it died."""
    by_host = {each["host"]: each["versions"] for each in introductions if each and each["versions"]}
    (first, expected), *others = by_host.items()
    for host, found in others:
        for name, value in expected.items():
            if found.get(name) != value:
                raise ConfigError(
                    f"{name} is {value} on {first} and {found.get(name)} on {host}: all hosts need the same environment"
                )


def _versions() -> Mapping[str, str]:
    """Versions of the packages, and a hash of this package's code, which may differ where its version does not."""
    folder = Path(erasurehead_jax.__file__).parent
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))).hexdigest()[:12]
    numbers = {name: value for name, value in versions().items() if name not in EACH_ITS_OWN}
    return numbers | {"the code of erasurehead-jax": code}
