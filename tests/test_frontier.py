"""Times to a target, their intervals, and the recommendation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from erasurehead_jax import ByCode, Decodable, FractionalRepetition, NoDelay, Scheme, Uncoded
from erasurehead_jax.delays import AbstractDelay, Exponential, ShiftedExponential, Trace
from erasurehead_jax.errors import Diverged
from erasurehead_jax.rundir.targets import SLACK
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.stopping import AnyOf, Count
from erasurehead_jax.studies.frontier import FEWEST, Estimate, default_target, estimate, frontier, times_to
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.montecarlo import Trainings
from erasurehead_jax.studies.recommendation import Recommendation, recommend

SEEDS = 32
TARGET = 0.8
WORKERS = 6


def point(
    scheme: str,
    load: int = 1,
    wait_for: int = WORKERS,
    late: str = "cancel",
    *,
    sleeps: AbstractDelay = NoDelay(),  # noqa: B008 - immutable
    compute_s: float = 1.0,
    named: str = "",
    **more: Any,
) -> GridPoint:
    """The grid point of this scheme of configs/scheme, labelled `named` if that is given."""
    code = Uncoded(WORKERS, WORKERS) if scheme in ("uncoded", "ignore_stragglers") else None
    code = code or FractionalRepetition(WORKERS, WORKERS, load)
    stop = {
        "ignore_stragglers": Count(wait_for),
        "erasurehead": AnyOf((Decodable(), Count(wait_for))),
    }.get(scheme, Decodable())
    labels = {"scheme": named or scheme, "load": load, "wait_for": wait_for, "late": late} | more
    return GridPoint(labels, Point(Scheme(code, stop, ByCode()), sleeps, late, compute_s))


def race(*time_s: np.ndarray) -> Trainings:
    """Runs in which seed j of point i reaches an AUC of 0.8 after time_s[i][j] seconds, or never (inf)."""
    times = np.array(time_s)[..., None]
    auc = np.where(np.isfinite(times), [0.5, TARGET, 0.9], [0.5, 0.6, 0.7])
    clock_s = np.where(np.isfinite(times), times, 1.0) * [0.5, 1, 2]
    metrics = {"train_loss": 1 - auc, "test_loss": 1 - auc, "test_auc": auc}
    return Trainings(np.array([4, 9, 14]), clock_s, metrics, more_is_better=True)


def around(center: float, seeds: int = SEEDS, seed: int = 0) -> np.ndarray:
    """Times that vary by about a fifth between seeds."""
    return center * np.random.default_rng(seed).uniform(0.8, 1.2, seeds)


def late_in(times_s: np.ndarray, share: float) -> np.ndarray:
    """Times of which the last fraction of the seeds never reaches the target."""
    return np.where(np.arange(len(times_s)) < round((1 - share) * len(times_s)), times_s, np.inf)


def only(recommendations: list[Recommendation]) -> Recommendation:
    (recommendation,) = recommendations
    return recommendation


def margins(found: Recommendation) -> list[tuple[str, bool] | None]:
    """For the next best, uncoded and ignore-stragglers: the point compared with, and whether it is beyond the noise."""
    return [margin and (margin.over, margin.beyond_noise) for margin in found.margins.values()]


@pytest.mark.parametrize("seeds", [FEWEST, 41])
def test_intervals_hold_the_median_as_often_as_they_say(seeds: int):
    """At least 19 times in 20, and not much more often than the steps between order statistics require."""
    rng, runs = np.random.default_rng(0), 1_000
    found = [estimate(rng.exponential(1, seeds)) for _ in range(runs)]
    covered = np.mean([each.low <= math.log(2) <= each.high for each in found])
    noise = 4 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.95 - noise <= covered <= 0.98 + noise


@pytest.mark.parametrize("seeds", [1, 2, 7, 12])
def test_the_estimate_is_the_median(seeds: int):
    values = around(3, seeds)
    assert estimate(values).median == pytest.approx(np.median(values))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40).filter(lambda values: len(values) % 2 == 1))
def test_an_estimate_goes_by_order_alone(values: list[int]):
    """A target that is never reached is therefore just the longest time."""
    finite = np.array(values, float)
    longest = finite.max()
    with_infinite = np.where(finite == longest, np.inf, finite)
    expected = [math.inf if value == longest else value for value in estimate(finite)]
    np.testing.assert_array_equal(estimate(with_infinite), expected)
    np.testing.assert_allclose(estimate(np.exp(finite)), np.exp(estimate(finite)))


def test_estimates_of_times_never_reached():
    assert estimate(np.full(SEEDS, np.inf)) == (math.inf, math.inf, math.inf)
    assert estimate(np.array([1.0, 2, np.inf, np.inf])).median == math.inf
    assert estimate(np.array([1.0, 2, 3, np.inf])).median == 2.5


@pytest.mark.parametrize("seeds", range(FEWEST))
def test_too_few_seeds_have_no_interval(seeds: int):
    found = estimate(np.ones(seeds))
    assert math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(found.median) == (seeds == 0)


@pytest.mark.parametrize("metric", ["test_auc", "test_mse"])
def test_times_to_a_target_against_a_plain_loop(metric: str):
    """Metrics go up and down, tie with the target, and are nan where a run has diverged."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (4, 30, 6)) / 4
    values[rng.random(values.shape) < 0.2] = np.nan
    clock_s, more_is_better = rng.exponential(1, values.shape).cumsum(2), metric == "test_auc"
    found = Trainings(np.arange(6), clock_s, {"test_loss": values, metric: values}, more_is_better)
    expected = np.full((4, 30), np.inf)
    for i, j, t in reversed(list(np.ndindex(values.shape))):
        if values[i, j, t] >= 0.75 if more_is_better else values[i, j, t] <= 0.25:
            expected[i, j] = found.clock_s[i, j, t]
    assert np.isinf(expected).any() and np.isfinite(expected).any()
    np.testing.assert_array_equal(times_to(0.75 if more_is_better else 0.25, found), expected)


def test_a_better_target_takes_longer():
    rng = np.random.default_rng(0)
    auc = rng.random((3, 20, 8)).cumsum(2) / 8
    found = Trainings(np.arange(8), np.broadcast_to(np.arange(1.0, 9), auc.shape), {"test_auc": auc}, True)
    times = [times_to(target, found) for target in (0.1, 0.3, 0.5)]
    assert (times[0] <= times[1]).all() and (times[1] <= times[2]).all() and (times[0] < times[2]).any()


def test_the_frontier_has_a_row_for_every_point_and_target():
    points = [point("uncoded", mean_s=0.5), point("egc", load=2, mean_s=0.5)]
    found = race(around(4), late_in(around(2), 0.25))
    table = frontier(points, found, [TARGET, 0.99])
    assert list(table.columns) == [
        *("scheme", "load", "wait_for", "late", "mean_s"),
        *("target", "time_s", "low_s", "high_s", "reached", "seeds"),
    ]
    assert list(zip(table["target"], table["scheme"], strict=True)) == [
        *((TARGET, "uncoded"), (TARGET, "egc")),
        *((0.99, "uncoded"), (0.99, "egc")),
    ]
    never = (math.inf, math.inf, math.inf)
    expected = [*map(estimate, times_to(TARGET, found)), never, never]
    np.testing.assert_array_equal(table[["time_s", "low_s", "high_s"]].to_numpy(), expected)
    assert table["reached"].tolist() == [1, 0.75, 0, 0] and table["seeds"].tolist() == [SEEDS] * 4


def test_the_default_target_is_what_uncoded_has_half_way():
    auc = np.arange(2 * 3 * 5.0).reshape(2, 3, 5)
    found = Trainings(np.arange(5), auc, {"train_loss": -auc, "test_auc": auc}, True)
    assert default_target([point("egc"), point("uncoded")], found) == np.median(auc[1, :, 2])
    assert default_target([point("egc"), point("erasurehead")], found) == np.median(auc[0, :, 2])


def test_the_default_target_is_not_that_of_runs_that_diverged():
    """If uncoded diverges in most seeds, the next point gives the target; if all points do, there is none."""
    auc = np.full((2, 3, 5), 0.7)
    auc[0, :2] = np.nan
    found = Trainings(np.arange(5), np.ones(auc.shape), {"train_loss": -auc, "test_auc": auc}, True)
    assert default_target([point("uncoded"), point("egc")], found) == 0.7
    auc[:] = np.nan
    with pytest.raises(Diverged, match=r"no default target; use a smaller optimizer\.step_size"):
        default_target([point("uncoded"), point("egc")], found)


@pytest.mark.parametrize(("metric", "sign"), [("test_auc", -1), ("test_mse", 1)])
def test_rounding_does_not_make_an_exact_code_late(metric: str, sign: int):
    """The what-if has the report's slack, because exact codes add the same numbers in another order."""
    values = np.array([[[0.5, 0.5, 0.5]]]) * (1 + sign * np.array([1.01, 0.99, 0]) * SLACK)
    found = Trainings(np.arange(3), np.array([[[1.0, 2.0, 3.0]]]), {metric: values}, sign < 0)
    assert times_to(0.5, found).tolist() == [[2.0]]


def test_the_quickest_point_is_recommended():
    """With margins over the next best, uncoded, and ignore-stragglers at the same r even if it is faster at another."""
    points = [
        point("uncoded"),
        point("ignore_stragglers", wait_for=4),
        point("ignore_stragglers", wait_for=3),
        point("erasurehead", load=2, wait_for=3),
        point("egc", load=2),
    ]
    found = only(recommend(points, race(*(around(center) for center in (8, 2, 4, 1, 3))), TARGET))
    assert found.best == "erasurehead c=2 r=3" and (found.reached, found.seeds, found.circumstances) == (
        SEEDS,
        SEEDS,
        {},
    )
    assert found.time_s == estimate(around(1))
    assert margins(found) == [
        ("ignore_stragglers r=4", True),
        ("uncoded", True),
        ("ignore_stragglers r=3", True),
    ]
    for margin, ratio in zip(found.margins.values(), (2, 8, 4), strict=True):  # the same seeds, the same delays
        assert margin and margin.ratio == pytest.approx((ratio, ratio, ratio))
    lines = found.lines()
    assert lines[0].startswith("target 0.8000: erasurehead c=2 r=3 in ") and " s (" in lines[0]
    assert lines[1:] == [
        "  next best: ignore_stragglers r=4 takes 2 times as long (95 % interval 2 to 2): beyond the noise",
        "  uncoded: uncoded takes 8 times as long (95 % interval 8 to 8): beyond the noise",
        "  ignoring stragglers at the same r=3: ignore_stragglers r=3 takes 4 times as long (95 % interval 4 to 4): "
        "beyond the noise",
    ]


def test_points_that_are_alike_are_within_the_noise():
    points = [point("erasurehead", load=2, wait_for=5), point("egc", load=2)]
    line = only(recommend(points, race(around(1), around(1, seed=1)), TARGET)).lines()[1]
    assert line.startswith("  next best: ") and line.endswith(": within the noise")


def test_the_same_run_under_another_name_is_not_the_next_best():
    """ErasureHead with c = 1 ignores stragglers, so it has the same times and metrics in every seed."""
    points = [point("erasurehead", wait_for=3), point("ignore_stragglers", wait_for=3), point("uncoded")]
    found = only(recommend(points, race(around(1), around(1), around(4)), TARGET))
    assert found.best == "erasurehead c=1 r=3" and found.same == ["ignore_stragglers r=3"]
    assert margins(found) == [("uncoded", True), ("uncoded", True), ("ignore_stragglers r=3", False)]
    assert found.lines()[1] == "  the same run under another name: ignore_stragglers r=3"
    assert found.lines()[4] == "  ignoring stragglers at the same r=3: the recommended point itself"


def test_equal_times_of_different_runs_are_no_same_run():
    """They reach the target at the same time, but one ends with a better metric."""
    found = race(around(1), around(1))
    found.metrics["test_auc"][1, :, 2] += 0.01
    one = only(recommend([point("uncoded"), point("egc", load=2)], found, TARGET))
    assert one.same == [] and one.lines()[1].endswith("takes 1 times as long (95 % interval 1 to 1): within the noise")


@pytest.mark.parametrize(("ignored", "name"), [((2, 4), "at its best r=2"), ((2, 3, 4), "at the same r=3")])
def test_ignoring_stragglers_is_compared_at_its_best_r_if_not_at_the_same(ignored: tuple[int, ...], name: str):
    points = [point("erasurehead", load=2, wait_for=3), *(point("ignore_stragglers", wait_for=r) for r in ignored)]
    found = only(recommend(points, race(around(1), *(around(r) for r in ignored)), TARGET))
    assert list(found.margins)[2] == f"ignoring stragglers {name}"
    assert margins(found)[2] == (f"ignore_stragglers r={name[-1]}", True)


def test_a_kind_is_that_of_the_scheme_whatever_its_yaml_is_called():
    points = [
        point("uncoded", named="baseline"),
        point("ignore_stragglers", wait_for=3, named="uncoded"),
        point("erasurehead", load=2, wait_for=3, named="ours"),
    ]
    found = only(recommend(points, race(around(8), around(4), around(1)), TARGET))
    assert margins(found)[1:] == [("baseline", True), ("uncoded r=3", True)]
    assert default_target(points[::-1], race(around(8), around(4), around(1))) == TARGET


def test_what_is_not_in_the_grid_has_no_margin():
    found = only(recommend([point("egc", load=2)], race(around(1)), TARGET))
    assert found.best == "egc c=2" and margins(found) == [None, None, None]
    assert all(line.endswith(": not in the grid") for line in found.lines()[1:])


@pytest.mark.parametrize("seeds", [2, SEEDS])
def test_the_best_has_no_margin_to_itself(seeds: int):
    points = [point("uncoded"), point("ignore_stragglers")]
    found = only(recommend(points, race(around(1, seeds), around(2, seeds)), TARGET))
    assert found.lines()[2] == "  uncoded: the recommended point itself"


def test_too_few_seeds_are_never_beyond_the_noise():
    found = only(recommend([point("uncoded"), point("egc")], race(around(9, 4), around(1, 4)), TARGET))
    assert found.best == "egc c=1" and margins(found)[:2] == [("uncoded", False)] * 2
    assert found.lines()[1].endswith("takes 9 times as long: inconclusive with 4 seeds, at least 6 are needed")
    assert not any("nan" in line or "noise" in line for line in found.lines())


def test_a_target_that_no_point_reaches_is_a_result():
    points = [point("uncoded", mean_s=2), point("egc", mean_s=2)]
    found = only(recommend(points, race(around(1), late_in(around(1), 0.75)), 0.99))
    assert (found.best, found.time_s, found.reached, found.margins, found.notes) == (None, None, 0, {}, [])
    assert found.lines() == ["target 0.9900, mean_s=2: not reached by most seeds at any grid point"]


def test_a_target_that_few_seeds_reach_is_not_reached():
    found = only(recommend([point("egc")], race(late_in(around(1), 0.75)), TARGET))
    assert found.best is None


@pytest.mark.parametrize(("share", "preferred"), [(0.0, "egc"), (0.1, "egc"), (0.2, "uncoded"), (0.4, "uncoded")])
def test_a_quick_point_that_often_fails_is_not_preferred(share: float, preferred: str):
    """A point must reach the target in nine seeds of ten."""
    points = [point("uncoded"), point("egc")]
    found = only(recommend(points, race(around(5, 30), late_in(around(1, 30), share)), TARGET))
    assert found.best == (preferred if preferred == "uncoded" else "egc c=1")
    assert found.reached == (30 if preferred == "uncoded" else round((1 - share) * 30))
    assert (f"; reached by {found.reached} of 30 seeds" in found.lines()[0]) == (found.reached < 30)


def test_among_points_that_often_fail_the_quickest_is_recommended():
    points = [point("uncoded"), point("egc"), point("erasurehead")]
    found = race(late_in(around(5), 0.25), late_in(around(1), 0.375), np.full(SEEDS, np.inf))
    best = only(recommend(points, found, TARGET))
    assert best.best == "egc c=1" and best.reached == 20
    assert best.lines()[0].endswith(" or more); reached by 20 of 32 seeds")


def test_seeds_in_which_only_one_arrives_count_for_it():
    """Seeds in which neither arrives are left out."""
    best, other = around(1), around(3)
    best[:3] = other[:2] = np.inf
    found = only(recommend([point("egc"), point("uncoded")], race(best, other), TARGET))
    margin = found.margins["uncoded"]
    assert margin and margin.ratio == estimate(np.r_[0, other[3:] / best[3:]])
    never = only(recommend([point("egc"), point("uncoded")], race(best, np.full(SEEDS, np.inf)), TARGET))
    margin = never.margins["uncoded"]
    assert margin and margin.ratio == Estimate(math.inf, math.inf, math.inf) and margin.beyond_noise
    assert never.lines()[2] == "  uncoded: uncoded is reached by 0 of 32 seeds: beyond the noise"
    some = only(recommend([point("egc"), point("uncoded")], race(around(1, 8), late_in(around(3, 8), 5 / 8)), TARGET))
    assert some.lines()[2] == "  uncoded: uncoded is reached by 3 of 8 seeds: beyond the noise"


def test_without_any_time_nothing_is_quicker():
    """With delay=none and compute_s=0 every clock stays at zero."""
    still = race(np.zeros(SEEDS), np.zeros(SEEDS))
    still.metrics["test_auc"][1] += 0.01  # otherwise they would be the same run
    found = only(recommend([point("uncoded"), point("egc")], still, TARGET))
    assert margins(found)[:2] == [("egc c=1", False), ("uncoded", False)]
    assert not any("nan" in line for line in found.lines())


def trace(folder: Path) -> Trace:
    np.savez(folder / "recorded.npz", times_s=np.ones((9, WORKERS)))
    return Trace(str(folder / "recorded.npz"))


def notes(found: Trainings, *points: GridPoint) -> list[str]:
    return only(recommend(points, found, TARGET)).notes


def test_a_load_that_costs_no_time_is_noted(tmp_path: Path):
    """A replay does not depend on the load; with compute_s, or with sleeps that grow with the load, time does."""
    races = race(around(2), around(1))
    pair = lambda sleeps, compute_s: [
        point("egc", load=load, sleeps=sleeps, compute_s=compute_s, named=f"egc{load}") for load in (2, 3)
    ]
    (note,) = notes(races, *pair(trace(tmp_path), 0.0))
    assert note.startswith(
        "the trace replays the same recorded times for every load, so a larger load appears to cost nothing"
    )
    (note,) = notes(races, *pair(Exponential(0.5), 0.0))
    assert note.startswith("the delays of Exponential do not grow with the load")
    assert notes(races, *pair(trace(tmp_path), 1.0)) == notes(races, *pair(ShiftedExponential(0.1, 0.5), 0.0)) == []
    one_load = [point("egc", load=2, sleeps=trace(tmp_path), compute_s=0.0, named=name) for name in ("a", "b")]
    assert notes(races, *one_load) == []


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        (0, ["wait_for=2 is the smallest value of the grid; a smaller one may be better"]),
        (1, []),
        (2, ["wait_for=5 is the largest value of the grid; a larger one may be better"]),
    ],
)
def test_a_best_point_at_the_edge_of_an_axis_is_noted(best: int, expected: list[str]):
    points = [point("erasurehead", load=2, wait_for=r) for r in (2, 3, 5)]
    times = [around(1 if i == best else 3) for i in range(3)]
    found = only(recommend(points, race(*times), TARGET))
    assert found.notes == expected
    assert [line for line in found.lines() if "note" in line] == [f"  note: {note}" for note in expected]


def test_an_edge_that_nothing_lies_beyond_is_not_noted():
    """The limits are one or all workers and one or all blocks; an axis with a single value has no edge."""
    points = [point("erasurehead", load=load, wait_for=WORKERS) for load in (1, WORKERS)]
    assert notes(race(around(1), around(3)), *points) == notes(race(around(3), around(1)), *points) == []
    points = [point("ignore_stragglers", wait_for=r, step_size=step) for r, step in ((1, 0.1), (3, 0.2), (2, 0.3))]
    assert notes(race(around(1), around(2), around(3)), *points) == [
        "step_size=0.1 is the smallest value of the grid; a smaller one may be better"
    ]


def test_circumstances_are_never_mixed():
    """The recommendation for one delay does not depend on the runs under another."""
    here: list[dict[str, Any]] = [
        {"delay": "exponential", "mean_s": 0.5},
        {"delay": "exponential", "mean_s": 2},
        {"delay": "slow_workers"},
    ]
    points = [point(scheme, **where) for scheme in ("uncoded", "ignore_stragglers", "egc") for where in here]
    times = [around(center) for center in (1, 9, 8, 2, 2, 1, 3, 1, np.inf)]
    together = recommend(points, race(*times), TARGET)
    assert [each.circumstances for each in together] == here
    assert [each.best for each in together] == ["uncoded", "egc c=1", "ignore_stragglers"]
    for i, where in enumerate(here):
        alone = only(recommend(points[i::3], race(*times[i::3]), TARGET))
        assert alone == together[i]
        assert all(f", {name}={value}" in alone.lines()[0] for name, value in where.items())


def test_step_sizes_and_late_policies_are_choices():
    points = [point("egc", late=late, step_size=step) for late in ("cancel", "skip") for step in (0.1, 10)]
    found = only(recommend(points, race(*(around(center) for center in (3, 4, 2, 1))), TARGET))
    assert (found.best, found.circumstances) == ("egc c=1 late=skip step_size=10", {})
    assert margins(found)[0] == ("egc c=1 late=skip step_size=0.1", True)
