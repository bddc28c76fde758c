"""The grid of a what-if, and the points to simulate."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from erasurehead_jax.codes import Uncoded
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.errors import ConfigError, shown
from erasurehead_jax.job import build_sampling, build_scheme, instantiate, make_optimizer, settled
from erasurehead_jax.rundir.kinds import Kind
from erasurehead_jax.schemes import kind_of
from erasurehead_jax.settings import WhatIfSettings, check_values
from erasurehead_jax.simulation.rounds import Point

GROUPS = ("scheme", "delay")  # axes whose values name config files
SAMPLING = ("batch", "variance_reduction", "snapshot_every", "snapshot")
SETTINGS = (
    "workers",
    "blocks",
    "load",
    "wait_for",
    "late",
    "messages",
    "placement",
    "l2",
    *SAMPLING,
    "compute_s",
    "overhead_s",
)  # axes by their own name
# Labels that are always the user's choice.
CHOICES = ("scheme", "load", "wait_for", "late", "messages", "placement", "step_size")


class GridPoint(NamedTuple):
    """A point and its labels in the grid."""

    labels: dict[str, Any]  # scheme, load, wait_for, late, and every other axis
    point: Point
    own: tuple[str, ...] = ()  # labels of parameters of the scheme or the optimizer, which are choices too

    @property
    def kind(self) -> Kind:
        """The kind of the scheme, independent of the name of its yaml file."""
        return kind_of(self.point.scheme)

    def circumstances(self) -> tuple[tuple[str, Any], ...]:
        """The labels that are not choices. Only points with equal circumstances are compared."""
        chosen = (*CHOICES, *self.own)
        return tuple((name, value) for name, value in self.labels.items() if name not in chosen)

    def name(self) -> str:
        """The name among points of the same circumstances; c and r are omitted where they are not choices."""
        code = self.point.scheme.code
        parts = [str(self.labels["scheme"])]
        if not isinstance(code, Uncoded):
            parts.append(f"c={self.labels['load']}")
        if self.labels["wait_for"] < code.workers:
            parts.append(f"r={self.labels['wait_for']}")
        if self.labels["late"] != "cancel":
            parts.append(f"late={self.labels['late']}")
        names = [name for name in self.labels if name in ("messages", "placement", "step_size") or name in self.own]
        return " ".join([*parts, *(f"{name}={self.labels[name]}" for name in names)])


class Grid(NamedTuple):
    """The points to simulate, and one line per kind of impossible combination."""

    points: list[GridPoint]
    left_out: list[str]


class _Impossible(ConfigError):
    """Settings that are valid by themselves but do not fit together."""


def axes(grid: Any) -> dict[str, list[Any]]:
    """The axes of the grid, each with its values. Raises ConfigError for an axis without values."""
    found = {}
    if not isinstance(grid, DictConfig):
        raise ConfigError(f"grid={shown(grid)}: must name at least one scheme, as grid.scheme=[...]")
    for name, values in grid.items():
        if values is None:
            continue
        found[str(name)] = list(values) if isinstance(values, ListConfig) else [values]
        if not found[str(name)]:
            raise ConfigError(f"grid.{name}=[]: must have at least one value; use null to omit the axis")
        if name in GROUPS and not all(isinstance(value, str) for value in found[str(name)]):
            raise ConfigError(f"grid.{name}={found[str(name)]}: must be names of files in configs/{name}")
    return found


def grid_points(cfg: DictConfig, compose: Callable[[list[str]], DictConfig], train_rows: int | None) -> Grid:
    """Every point of the grid once: an axis that a scheme does not use adds no points.

    `compose` returns the unresolved config with these config files chosen. `train_rows` is N, or None if nothing is
    trained. An impossible combination, such as a load that does not divide the blocks, is left out. Raises ConfigError,
    naming the point, for a setting that is invalid in any combination, and if no point is possible.
    """
    grid = axes(cfg.grid)
    numbers = {name: values for name, values in grid.items() if name not in GROUPS}
    groups = {name: grid[name] for name in GROUPS if name in grid}
    points: dict[str, GridPoint | None] = {}
    impossible: dict[tuple[str, str], list[str]] = {}  # scheme and reason -> points
    known: set[str] = set()
    for chosen in _product(groups):
        base = compose([f"{group}={name}" for group, name in chosen.items()])
        keys = {name: key for name in numbers if (key := _key(base, name))}
        known |= keys.keys()
        own = tuple(name for name, key in keys.items() if key.startswith(("scheme.", "optimizer.")))
        for values in _product({name: numbers[name] for name in keys}):
            for name, value in values.items():
                OmegaConf.update(base, keys[name], value)
            config = cast(dict[str, Any], OmegaConf.to_container(base, resolve=True, throw_on_missing=True))
            seen = _identity(config)
            if seen in points:
                continue
            where = " ".join(f"{name}={value}" for name, value in (chosen | values).items())
            try:
                points[seen] = _grid_point(config, chosen | values, own, train_rows)
            except _Impossible as error:
                points[seen] = None
                impossible.setdefault((str(chosen.get("scheme", "")), str(error)), []).append(where)
            except ConfigError as error:
                raise ConfigError(f"grid point {where}: {error}") from error
    for name in numbers.keys() - known:
        others = ", ".join((*GROUPS, *SETTINGS))
        raise ConfigError(
            f"grid.{name}: no such axis; choose one of {others}, or a parameter of scheme, delay or optimizer"
        )
    found = [point for point in points.values() if point is not None]
    if not found:
        (_, reason), (where, *_) = next(iter(impossible.items()))
        raise ConfigError(f"grid point {where}: {reason}")
    return Grid(found, [_left_out(*what, where) for what, where in impossible.items()])


def _left_out(scheme: str, reason: str, where: list[str]) -> str:
    points = "1 grid point" if len(where) == 1 else f"{len(where)} grid points"
    return f"left out: {points} of {scheme}: {reason}"


def stackable(points: Sequence[GridPoint]) -> list[list[int]]:
    """The indices of the points, grouped so that the points of a group differ only in numbers."""
    groups: dict[Any, list[int]] = {}
    for i, point in enumerate(points):
        leaves, shape = jax.tree.flatten(point.point)
        groups.setdefault((shape, tuple(map(_signature, leaves))), []).append(i)
    return list(groups.values())


def label_columns(points: Sequence[GridPoint]) -> list[str]:
    """The labels of all points; a point need not have all of them, because some axes apply to some delays only."""
    return list(dict.fromkeys(name for point in points for name in point.labels))


def _product(values: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def _key(base: DictConfig, name: str) -> str | None:
    """The config key that an axis sets; None if there is none."""
    if name in SETTINGS:
        return name
    if name.startswith("_"):
        return None
    parts = ("delay", "delay.of", "optimizer", "scheme.code", "scheme.stop", "scheme.decode")
    return next((f"{part}.{name}" for part in parts if name in (OmegaConf.select(base, part) or ())), None)


def _identity(config: dict[str, Any]) -> str:
    parts = (
        "scheme",
        "delay",
        "optimizer",
        "late",
        "messages",
        "placement",
        "placement_times",
        "l2",
        "compute_s",
        "overhead_s",
        "workers",
        "rounds",
        *SAMPLING,
    )
    return json.dumps({part: config[part] for part in (*parts, *SAMPLING)}, sort_keys=True)


def _grid_point(
    config: dict[str, Any], chosen: dict[str, Any], own: tuple[str, ...], train_rows: int | None
) -> GridPoint:
    check_values(WhatIfSettings, config)
    optimizer = make_optimizer(config)
    delay = instantiate("delay", config, AbstractDelay)
    try:
        scheme = build_scheme(settled(config))
        delay.check(config["workers"], config["rounds"])
        sampling = build_sampling(config, train_rows)
    except ConfigError as error:
        raise _Impossible(str(error)) from error
    l2 = 1 / (train_rows or 1) if config["l2"] is None else config["l2"]
    point = Point(scheme, delay, config["late"], config["compute_s"], config["overhead_s"], optimizer, l2, sampling)
    code = scheme.code
    labels = {
        "scheme": chosen.get("scheme", type(code).__name__),
        "load": (config["scheme"].get("code") or {}).get("load", code.load),  # as requested, if the code takes one
        "wait_for": scheme.stop.at_most(code.workers),
        "late": config["late"],
    }
    return GridPoint(labels | {name: value for name, value in chosen.items() if name not in labels}, point, own)


def _signature(leaf: Any) -> Any:
    if type(leaf) in (int, float):
        return "number"
    return (leaf.shape, str(leaf.dtype), leaf.tobytes()) if isinstance(leaf, np.ndarray) else id(leaf)
