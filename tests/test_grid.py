"""The points of a grid: each occurs once, is labelled from the code, and is stacked with others of equal sizes."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from erasurehead_jax import ConfigError, FractionalRepetition, NoDelay
from erasurehead_jax.delays import SlowWorkers
from erasurehead_jax.rundir.kinds import Kind
from erasurehead_jax.settings import CONFIG_DIR
from erasurehead_jax.simulation.rounds import stack
from erasurehead_jax.studies.grid import CHOICES, Grid, GridPoint, grid_points, stackable
from erasurehead_jax.types import Late

ROWS = 250
ALL = "grid.scheme=[uncoded,ignore_stragglers,egc,egc_cyclic,erasurehead]"


def whole_grid(*overrides: str) -> Grid:
    """The grid of configs/whatif.yaml with six workers, load 2, wait_for 3, two schemes, and these overrides."""
    given = ["workers=6", "load=2", "wait_for=3", "rounds=10", "grid.scheme=[uncoded,erasurehead]", *overrides]
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        return grid_points(compose("whatif", given), lambda chosen: compose("whatif", [*given, *chosen]), ROWS)


def grid(*overrides: str) -> list[GridPoint]:
    """The points, all of which are possible."""
    points, left_out = whole_grid(*overrides)
    assert not left_out
    return points


def labels(points: Sequence[GridPoint], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(point.labels[name] for name in names) for point in points]


def test_an_axis_that_a_scheme_does_not_look_at_makes_no_second_point():
    points = grid(ALL, "grid.load=[2,3]", "grid.wait_for=[2,3,4]")
    assert labels(points, "scheme", "load", "wait_for") == [
        ("uncoded", 1, 6),
        *[("ignore_stragglers", 1, r) for r in (2, 3, 4)],
        *[("egc", c, 6) for c in (2, 3)],
        *[("egc_cyclic", c, 6) for c in (2, 3)],
        *[("erasurehead", c, r) for c in (2, 3) for r in (2, 3, 4)],
    ]
    assert {point.labels["late"] for point in points} == {"cancel"}


@pytest.mark.parametrize("values", ["egc", "[egc]", "[egc,egc]"])
def test_one_value_is_a_grid_and_a_value_counts_once(values: str):
    assert labels(grid(f"grid.scheme={values}"), "scheme") == [("egc",)]


def test_axes_multiply():
    """Each combination occurs once; load and wait_for are the only axes that a scheme may not use."""
    values = {"mean_s": [0.5, 1, 2], "late": ["cancel", "skip"], "step_size": [0.1, 3], "wait_for": [3, 4]}
    overrides = [f"grid.{name}=[{','.join(map(str, some))}]" for name, some in values.items()]
    points = grid("grid.scheme=[uncoded,erasurehead]", *overrides)
    found = labels(points, "scheme", *values)
    without_r = [(*rest, 6) for *rest, _ in itertools.product(["uncoded"], *values.values())]
    assert len(set(found)) == len(found)
    assert set(found) == {*without_r, *itertools.product(["erasurehead"], *values.values())}


def test_the_labels_say_what_the_code_is():
    """Load and r are those of the code, whatever the setting of that name."""
    assert labels(grid("grid.scheme=uncoded", "blocks=12"), "load", "wait_for") == [(2, 6)]
    points = grid("grid.scheme=[uncoded,egc]", "grid.workers=[4,8]")
    assert labels(points, "scheme", "workers", "load", "wait_for") == [
        ("uncoded", 4, 1, 4),
        ("uncoded", 8, 1, 8),
        ("egc", 4, 2, 4),
        ("egc", 8, 2, 8),
    ]
    for point in points:
        code = point.point.scheme.code
        assert (code.workers, code.blocks) == (point.labels["workers"], point.labels["workers"])


def number(point: GridPoint, name: str) -> Any:
    """The value of the setting in the simulated point."""
    optimizer: Any = point.point.optimizer
    places = point.point.__dict__, point.point.delay.__dict__, optimizer.keywords
    return next(place[name] for place in places if name in place)


@pytest.mark.parametrize("name", ["mean_s", "step_size", "l2", "compute_s", "+decay", "+overhead_s"])
def test_a_number_reaches_the_part_that_uses_it(name: str):
    plus, _, bare = name.rpartition("+")
    points = grid("grid.scheme=[uncoded,egc]", f"{plus}+grid.{bare}=[0.25,0.75]")
    assert labels(points, bare) == [(0.25,), (0.75,)] * 2
    assert [number(point, bare) for point in points] == [0.25, 0.75] * 2


def test_late_reaches_the_point():
    points = grid("grid.scheme=uncoded", f"grid.late=[{','.join(tuple(Late))}]")
    assert labels(points, "late") == [(late,) for late in tuple(Late)]
    assert [point.point.late for point in points] == list(tuple(Late))


def test_l2_is_one_over_the_training_rows_unless_given():
    assert [point.point.l2 for point in grid("grid.scheme=uncoded")] == [1 / ROWS]
    assert [point.point.l2 for point in grid("grid.scheme=uncoded", "l2=0.5")] == [0.5]


def test_delays_are_an_axis_and_their_numbers_too():
    points = grid("grid.scheme=uncoded", "grid.delay=[none,exponential]", "grid.mean_s=[0.5,1]")
    assert [(point.labels["delay"], point.labels.get("mean_s")) for point in points] == [
        ("none", None),
        ("exponential", 0.5),
        ("exponential", 1),
    ]
    assert isinstance(points[0].point.delay, NoDelay)


def test_any_number_of_the_delay_is_an_axis():
    points = grid("grid.scheme=[uncoded,egc]", "delay=slow_workers", "+grid.factor=[2,20]", "+grid.slow=[0,6]")
    assert labels(points, "scheme", "factor", "slow") == list(itertools.product(["uncoded", "egc"], [2, 20], [0, 6]))
    for point in points:
        assert isinstance(point.point.delay, SlowWorkers)
        assert (point.point.delay.factor, point.point.delay.slow) == (point.labels["factor"], point.labels["slow"])


def test_circumstances_are_what_nobody_chooses():
    points = grid(ALL, "grid.load=[2,3]", "grid.mean_s=[0.5,1]", "grid.step_size=[1,2]", "grid.late=[cancel,wait]")
    assert {point.circumstances() for point in points} == {(("mean_s", 0.5),), (("mean_s", 1),)}
    assert all(point.labels.keys() == {*CHOICES, "mean_s"} - {"messages", "placement"} for point in points)
    for same in ({point.name() for point in points if point.labels["mean_s"] == mean_s} for mean_s in (0.5, 1)):
        assert 2 * len(same) == len(points)  # names distinguish them


def generous(blocks: int, workers: int, load: int) -> FractionalRepetition:
    """A code whose workers hold twice what was requested."""
    return FractionalRepetition(blocks, workers, 2 * load)


def test_a_load_is_labelled_as_it_was_requested():
    """It is not the load of the resulting code; only a code that takes no load is labelled with its own."""
    points = grid("grid.scheme=egc", "scheme.code._target_=test_grid.generous", "grid.load=[1,3]")
    assert labels(points, "load") == [(1,), (3,)]
    assert [point.point.scheme.code.load for point in points] == [2, 6]
    assert [point.name() for point in grid("grid.load=[2,3]")] == [
        "uncoded",
        "erasurehead c=2 r=3",
        "erasurehead c=3 r=3",
    ]


def test_a_number_of_the_scheme_is_an_axis_and_a_choice():
    points = grid(
        *("grid.scheme=erasurehead", "scheme.stop._target_=erasurehead_jax.stopping.Deadline"),
        *("~scheme.stop.rules", "+scheme.stop.seconds=1", "+grid.seconds=[0.25,0.75]"),
    )
    assert [point.point.scheme.stop.seconds for point in points] == [0.25, 0.75]  # pyright: ignore
    assert [point.name() for point in points] == ["erasurehead c=2 seconds=0.25", "erasurehead c=2 seconds=0.75"]
    assert {point.circumstances() for point in points} == {()}


def test_numbers_of_the_optimizer_are_choices():
    points = grid("grid.scheme=egc", "+grid.decay=[1,0.9]", "grid.mean_s=[1]")
    assert [point.name() for point in points] == ["egc c=2 decay=1", "egc c=2 decay=0.9"]
    assert {point.circumstances() for point in points} == {(("mean_s", 1),)}


def test_kinds_are_those_of_the_objects():
    assert {point.labels["scheme"]: point.kind for point in grid(ALL)} == {
        "uncoded": Kind.UNCODED,
        "ignore_stragglers": Kind.IGNORE_STRAGGLERS,
        "egc": Kind.EXACT,
        "egc_cyclic": Kind.EXACT,
        "erasurehead": Kind.ERASUREHEAD,
    }


@pytest.mark.parametrize(
    ("overrides", "points", "line"),
    [
        (("grid.load=[2,4]",), 2, "left out: 1 grid point of erasurehead: load=4: must divide blocks=6"),
        (("grid.wait_for=[3,7,8]",), 2, "left out: 1 grid point of erasurehead: wait_for=7: must lie between 1 and"),
        (
            ("grid.load=[2,4]", "grid.wait_for=[2,3]"),
            3,
            "left out: 2 grid points of erasurehead: load=4: must divide blocks=6",
        ),
        (
            ("grid.workers=[6,900]", "grid.wait_for=1"),
            2,
            "left out: 1 grid point of uncoded: blocks=900: must be at most",
        ),
        (("delay=slow_workers", "+grid.slow=[1,7]"), 2, "left out: 1 grid point of uncoded: delay.slow=7: must be"),
    ],
)
def test_impossible_combinations_are_left_out_with_a_line(overrides: tuple[str, ...], points: int, line: str):
    found = whole_grid(*overrides)
    assert len(found.points) == points
    assert found.left_out[0].startswith(line) and "\n" not in "".join(found.left_out)


EMPTY = "must have at least one value"
UNKNOWN = "no such axis; choose one of"
BAD = {
    "grid.scheme=[]": f"grid.scheme=[]: {EMPTY}",
    "grid.load=[]": f"grid.load=[]: {EMPTY}",
    "+grid.nonsense=[1]": f"grid.nonsense: {UNKNOWN}",
    "+grid.factor=[2]": f"grid.factor: {UNKNOWN}",
    "grid.mean_s=[1] delay=none": f"grid.mean_s: {UNKNOWN}",
    "grid.scheme=erasurehead grid.wait_for=[7,8]": "grid point scheme=erasurehead wait_for=7: wait_for=7: must lie",
    "grid.wait_for=[0,3]": "grid point scheme=uncoded wait_for=0: wait_for=0: must be a whole number, at least 1",
    "grid.wait_for=[2.5]": "grid point scheme=uncoded wait_for=2.5: wait_for=2.5: must be a whole number",
    "grid.scheme=erasurehead grid.workers=2 load=1": "workers=2: wait_for=3: must lie between 1 and workers=2",
    "grid.scheme=egc grid.load=[4,5]": "grid point scheme=egc load=4: load=4: must divide blocks=6",
    "grid.load=[null]": "grid point scheme=uncoded load=None: load=null: must be a whole number",
    "grid.mean_s=[1,-1]": "grid point scheme=uncoded mean_s=-1: delay.mean_s=-1: must be a finite number, 0 or more",
    "grid.mean_s=[nan]": "grid point scheme=uncoded mean_s=nan: delay.mean_s=nan: must be a finite number, 0 or more",
    "grid.step_size=[0]": "step_size=0: optimizer.step_size=0: must be a finite number, above 0",
    "grid.l2=[-1]": "grid point scheme=uncoded l2=-1: l2=-1: must be a finite number, 0 or more",
    "grid.compute_s=[inf]": "compute_s=inf: compute_s=inf: must be a finite number, 0 or more",
    "grid.late=[cancel,later]": "scheme=uncoded late=later: late=later: must be one of cancel, skip, queue, wait",
    "delay=slow_workers +grid.slow=7": "scheme=uncoded slow=7: delay.slow=7: must be a whole number between 0 and",
    "delay=trace delay.path=missing.npz": "grid point scheme=uncoded: delay.path=missing.npz: cannot be read",
    "+delay.pace=1": "grid point scheme=uncoded: delay.pace=1: unknown setting; choose one of mean_s",
    # settings of the whole command, and groups that are not axes
    "+grid.rounds=[5,10]": "grid.rounds",
    "+grid.seeds=[2,4]": "grid.seeds",
    "+grid.seed=[0,1]": "grid.seed",
    "+grid.x64=[true]": "grid.x64",
    "+grid.evaluate_every=[1]": "grid.evaluate_every",
    "+grid.optimizer=[gd,agd]": "grid.optimizer",
    "+grid.data=[synthetic]": "grid.data",
    "+grid.mode=[timing]": "grid.mode",
}


@pytest.mark.parametrize("overrides", BAD)
def test_refusals(overrides: str):
    with pytest.raises(ConfigError) as refused:
        grid(*overrides.split())
    assert BAD[overrides] in str(refused.value) and "\n" not in str(refused.value)


def fit_together(a: GridPoint, b: GridPoint) -> bool:
    try:
        stack([a.point, b.point])
    except ValueError:
        return False
    return True


def test_points_that_differ_in_numbers_only_are_stacked():
    points = grid(
        ALL,
        "grid.load=[2,3]",
        "grid.wait_for=[3,4]",
        "grid.late=[cancel,skip]",
        "grid.delay=[none,exponential]",
        "grid.mean_s=[0.5,1]",
    )
    groups = stackable(points)
    assert sorted(i for group in groups for i in group) == list(range(len(points)))
    group_of = {i: number for number, group in enumerate(groups) for i in group}
    for i, j in itertools.combinations(range(len(points)), 2):
        assert (group_of[i] == group_of[j]) == fit_together(points[i], points[j]), (points[i].labels, points[j].labels)
        alike = all(points[i].labels[name] == points[j].labels[name] for name in ("scheme", "load", "late", "delay"))
        assert (group_of[i] == group_of[j]) == alike


@pytest.mark.parametrize(
    "axis", ["grid.step_size=[1,2]", "grid.l2=[0,0.1]", "grid.compute_s=[0,1.5]", "+grid.decay=[1,0.9]"]
)
def test_other_numbers_are_stacked_too(axis: str):
    assert stackable(grid("grid.scheme=[egc,erasurehead]", axis)) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("axis", ["grid.workers=[4,8]", "+grid.blocks=[6,12]", "grid.late=[skip,queue]"])
def test_sizes_and_policies_are_not(axis: str):
    assert stackable(grid("grid.scheme=egc", axis)) == [[0], [1]]


def test_points_that_replay_one_recording_are_stacked(tmp_path: Path):
    times_s = np.random.default_rng(0).exponential(1, (12, 7))
    np.savez(tmp_path / "recording.npz", times_s=times_s)
    points = grid(
        "grid.scheme=[uncoded,erasurehead]",
        "grid.wait_for=[2,3,4]",
        "delay=trace",
        f"delay.path={tmp_path}/recording.npz",
    )
    assert stackable(points) == [[0], [1, 2, 3]]
    common, numbers = stack([point.point for point in points[1:]])
    assert math.prod(common.delay.times_s.shape) == times_s.size and numbers.delay.times_s is None
