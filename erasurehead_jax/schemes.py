"""The schemes of configs/scheme by name: a scheme is defined once, in its yaml."""

from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import instantiate
from erasurehead_jax.rundir.kinds import Kind, scheme_kind
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.settings import CONFIG_DIR, nearest
from erasurehead_jax.stopping import AnyOf

FOLDER = Path(CONFIG_DIR) / "scheme"


def names() -> list[str]:
    """The names of the schemes in configs/scheme."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def named_scheme(
    name: str,
    workers: int,
    load: int = 1,
    wait_for: int | None = None,
    blocks: int | None = None,
    **changes: dict[str, Any],
) -> Scheme:
    """The scheme of configs/scheme/NAME.yaml for these sizes; a size that it does not use is ignored.

    `blocks` is `workers` and `wait_for` all of them unless given. `changes` replace settings of the yaml, such as
    `decode={"rescale": "covered"}`. Raises ConfigError for an unknown name, and for sizes that the scheme cannot have.
    """
    if name not in (known := names()):
        raise ConfigError(f"scheme={name}: unknown; {nearest(name, known)}")
    path = FOLDER / f"{name}.yaml"
    sizes = {"workers": workers, "load": load, "wait_for": wait_for or workers, "blocks": blocks or workers}
    config = OmegaConf.merge(sizes, {"scheme": OmegaConf.load(path)}, {"scheme": changes})
    return instantiate("scheme", cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)), Scheme)


def uncoded(workers: int, blocks: int | None = None) -> Scheme:
    """Plain distributed gradient descent: no replication, wait for everybody."""
    return named_scheme("uncoded", workers, blocks=blocks)


def egc(workers: int, load: int, blocks: int | None = None) -> Scheme:
    """Exact gradient coding with fractional repetition: wait until the exact gradient can be decoded."""
    return named_scheme("egc", workers, load, blocks=blocks)


def erasurehead(workers: int, load: int, wait_for: int, blocks: int | None = None, rescale: str = "none") -> Scheme:
    """ErasureHead (Algorithm 1): wait until decodable, or for at most `wait_for` workers."""
    return named_scheme("erasurehead", workers, load, wait_for, blocks, decode={"rescale": rescale})


def ignore_stragglers(workers: int, wait_for: int, blocks: int | None = None, rescale: str = "covered") -> Scheme:
    """No replication: wait for the first `wait_for` workers (the paper's Remark 1)."""
    return named_scheme("ignore_stragglers", workers, wait_for=wait_for, blocks=blocks, decode={"rescale": rescale})


def sizes_of(scheme: Scheme) -> dict[str, int]:
    """The settings that a scheme determines."""
    code = scheme.code
    at_most = int(scheme.stop.at_most(code.workers))
    return {"workers": code.workers, "blocks": code.blocks, "load": code.load, "wait_for": at_most}


NAMES = {
    Kind.UNCODED: "uncoded",
    Kind.EXACT: "egc",
    Kind.ERASUREHEAD: "erasurehead",
    Kind.IGNORE_STRAGGLERS: "ignore_stragglers",
}


def kind_of(scheme: Scheme) -> Kind:
    """The kind of a scheme, which its parts determine."""
    rules = scheme.stop.rules if isinstance(scheme.stop, AnyOf) else (scheme.stop,)
    return scheme_kind(type(scheme.code).__name__, [type(rule).__name__ for rule in rules])


def name_of(scheme: Scheme) -> str:
    """The name under which a scheme appears in reports: that of its yaml for the paper's, else of its code."""
    return NAMES.get(kind_of(scheme), type(scheme.code).__name__)
