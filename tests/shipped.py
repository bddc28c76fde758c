"""The schemes of configs/scheme, built on demand, so that one that cannot be built fails only its own tests."""

import itertools
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from erasurehead_jax import ConfigError, Scheme
from erasurehead_jax.job import instantiate
from erasurehead_jax.settings import CONFIG_DIR

# workers, load, wait_for: the first sizes that a scheme accepts, with as many or twice as many blocks as workers, are
# the ones it is tested with
SIZES = ((6, 2, 3), (7, 3, 4), (4, 2, 2), (9, 3, 5), (8, 2, 4), (12, 3, 6), (5, 1, 3), (16, 4, 8), (13, 4, 7))
REQUIRED = {"custom": [f"scheme.code.G={Path(__file__).with_name('data')}/fano.csv"]}  # what a yaml sets to ???


def names(config_dir: str = CONFIG_DIR) -> list[str]:
    """The names of all schemes, whether they can be built or not."""
    return sorted(path.stem for path in Path(config_dir, "scheme").glob("*.yaml"))


def scheme_of(name: str, config_dir: str = CONFIG_DIR) -> Scheme:
    """The scheme of this name with the first of SIZES that it accepts, or with its own sizes if it sets them."""
    return _found(name, config_dir)[1]


def settings_of(name: str) -> tuple[str, ...]:
    """The settings of the command line for `scheme_of(name)`, without its name."""
    return _found(name, CONFIG_DIR)[0]


@cache
def _found(name: str, config_dir: str) -> tuple[tuple[str, ...], Scheme]:
    refusals = []
    for (workers, load, wait_for), double in itertools.product(SIZES, (False, True)):
        sizes = (f"workers={workers}", f"load={load}", f"wait_for={wait_for}", f"blocks={workers * (1 + double)}")
        settings = (*sizes, *REQUIRED.get(name, ()))
        with initialize_config_dir(config_dir, version_base="1.3"):
            config = compose("train", [f"scheme={name}", *settings])
        try:
            resolved = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
            return settings, instantiate("scheme", resolved, Scheme)
        except ConfigError as error:
            refusals.append(f"{', '.join(sizes)}: {error}")
    raise ConfigError("; ".join(refusals))
