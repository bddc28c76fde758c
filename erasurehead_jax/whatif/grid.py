"""From the grid of a what-if to the points that are simulated."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from erasurehead_jax.data import block_bounds
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import build_delay, build_scheme, make_optimizer
from erasurehead_jax.settings import check_numbers
from erasurehead_jax.simulation.engine import Point

GROUPS = ("scheme", "delay")  # axes whose values name config files
SETTINGS = ("workers", "blocks", "load", "wait_for", "late", "l2", "compute_s", "overhead_s")  # axes by their own name
CHOICES = ("scheme", "load", "wait_for", "late", "step_size")  # what a user decides; other axes are circumstances


class GridPoint(NamedTuple):
    """A point and what the grid calls it."""

    labels: dict[str, Any]  # scheme, load, wait_for, late, and every other axis
    point: Point

    def circumstances(self) -> tuple[tuple[str, Any], ...]:
        """The labels that are no choice: points are compared where these agree."""
        return tuple((name, value) for name, value in self.labels.items() if name not in CHOICES)

    def name(self) -> str:
        """What to call it among points of the same circumstances."""
        scheme = self.labels["scheme"]
        late = "" if self.labels["late"] == "cancel" else f" {self.labels['late']}"
        step = f" step {self.labels['step_size']:g}" if "step_size" in self.labels else ""
        return f"{scheme} c={self.labels['load']} r={self.labels['wait_for']}{late}{step}"


def axes(grid: DictConfig | None) -> dict[str, list[Any]]:
    """The axes that are asked for, each with its values. Raises ConfigError for an axis without values."""
    asked = {}
    if grid is None:
        raise ConfigError("grid=null: name at least one scheme, as grid.scheme=[...]")
    for name, values in grid.items():
        if values is None:
            continue
        asked[str(name)] = list(values) if isinstance(values, ListConfig) else [values]
        if not asked[str(name)]:
            raise ConfigError(f"grid.{name}=[]: an empty grid; give at least one value, or null to leave the axis out")
        if name in GROUPS and not all(isinstance(value, str) for value in asked[str(name)]):
            raise ConfigError(f"grid.{name}={asked[str(name)]}: must be names of files in configs/{name}")
    return asked


def grid_points(cfg: DictConfig, compose: Callable[[list[str]], DictConfig], train_rows: int | None) -> list[GridPoint]:
    """Every point of the grid once: an axis that a scheme does not look at makes no second point.

    `compose` gives the config with these config files chosen, unresolved. `train_rows` is N, None if nothing is to be
    trained. Raises ConfigError, naming the point, for one that breaks a rule.
    """
    asked = axes(cfg.grid)
    numbers = {name: values for name, values in asked.items() if name not in GROUPS}
    groups = {name: asked[name] for name in GROUPS if name in asked}
    points: dict[str, GridPoint] = {}
    known: set[str] = set()
    for chosen in _product(groups):
        base = compose([f"{group}={name}" for group, name in chosen.items()])
        keys = {name: key for name in numbers if (key := _key(base, name))}
        known |= keys.keys()
        for values in _product({name: numbers[name] for name in keys}):
            for name, value in values.items():
                OmegaConf.update(base, keys[name], value)
            config = cast(dict[str, Any], OmegaConf.to_container(base, resolve=True, throw_on_missing=True))
            seen = _identity(config)
            if seen not in points:
                points[seen] = _grid_point(config, chosen | values, train_rows)
    for name in numbers.keys() - known:
        others = ", ".join((*GROUPS, *SETTINGS))
        raise ConfigError(f"grid.{name}: no such axis; choose one of {others}, or a number of the delay or optimizer")
    return list(points.values())


def stackable(points: Sequence[GridPoint]) -> list[list[int]]:
    """The numbers of the points that can be simulated side by side, group by group: they differ in numbers only."""
    groups: dict[Any, list[int]] = {}
    for i, (_, point) in enumerate(points):
        leaves, shape = jax.tree.flatten(point)
        groups.setdefault((shape, tuple(map(_signature, leaves))), []).append(i)
    return list(groups.values())


def label_columns(points: Sequence[GridPoint]) -> list[str]:
    """The labels of all points; some axes belong to some delays only."""
    return list(dict.fromkeys(name for point in points for name in point.labels))


def _product(values: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


def _key(base: DictConfig, name: str) -> str | None:
    """Where in the config an axis is set."""
    if name in SETTINGS:
        return name
    parts = ("delay", "optimizer")
    return next((f"{part}.{name}" for part in parts if name in base[part] and not name.startswith("_")), None)


def _identity(config: dict[str, Any]) -> str:
    parts = ("scheme", "delay", "optimizer", "late", "l2", "compute_s", "overhead_s", "workers", "rounds")
    return json.dumps({part: config[part] for part in parts}, sort_keys=True)


def _grid_point(config: dict[str, Any], chosen: dict[str, Any], train_rows: int | None) -> GridPoint:
    try:
        check_numbers(config)
        scheme = build_scheme(config)
        if train_rows is not None:
            block_bounds(train_rows, scheme.code.blocks)
        l2 = 1 / (train_rows or 1) if config["l2"] is None else config["l2"]
        point = Point(
            scheme,
            build_delay(config),
            config["late"],
            config["compute_s"],
            config["overhead_s"],
            make_optimizer(config),
            l2,
        )
    except ConfigError as error:
        where = " ".join(f"{name}={value}" for name, value in chosen.items())
        raise ConfigError(f"grid point {where}: {error}") from error
    code = scheme.code
    labels = {
        "scheme": chosen.get("scheme", type(code).__name__),
        "load": code.load,
        "wait_for": scheme.stop.at_most(code.workers),
        "late": config["late"],
    }
    return GridPoint(labels | {name: value for name, value in chosen.items() if name not in labels}, point)


def _signature(leaf: Any) -> Any:
    if type(leaf) in (int, float):
        return "number"
    return (leaf.shape, str(leaf.dtype), leaf.tobytes()) if isinstance(leaf, np.ndarray) else id(leaf)
