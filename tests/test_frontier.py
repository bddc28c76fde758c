"""Times to a target, their intervals, and what is recommended."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from erasurehead_jax import ByCode, Decodable, NoDelay, Scheme, Uncoded
from erasurehead_jax.simulation.engine import Point
from erasurehead_jax.whatif.frontier import (
    Estimate,
    Recommendation,
    default_target,
    estimate,
    frontier,
    recommend,
    times_to,
)
from erasurehead_jax.whatif.grid import GridPoint
from erasurehead_jax.whatif.montecarlo import Trainings

SEEDS = 32
TARGET = 0.8
POINT = Point(Scheme(Uncoded(6, 6), Decodable(), ByCode()), NoDelay(), "cancel")  # what it is plays no part here
FEWEST = 6  # seeds: with fewer, all of them on one side of the median is no rarer than one in twenty


def point(scheme: str, load: int = 1, wait_for: int = 6, late: str = "cancel", **more: Any) -> GridPoint:
    return GridPoint({"scheme": scheme, "load": load, "wait_for": wait_for, "late": late} | more, POINT)


def race(*time_s: np.ndarray) -> Trainings:
    """Runs of which seed j of point i reaches an AUC of 0.8 after time_s[i][j] seconds, or never (inf)."""
    times = np.array(time_s)[..., None]
    auc = np.where(np.isfinite(times), [0.5, TARGET, 0.9], [0.5, 0.6, 0.7])
    clock_s = np.where(np.isfinite(times), times, 1.0) * [0.5, 1, 2]
    return Trainings(np.array([4, 9, 14]), clock_s, {"train_loss": 1 - auc, "test_loss": 1 - auc, "test_auc": auc})


def around(center: float, seeds: int = SEEDS, seed: int = 0) -> np.ndarray:
    """Times that differ by a fifth or so from seed to seed."""
    return center * np.random.default_rng(seed).uniform(0.8, 1.2, seeds)


def late_in(times_s: np.ndarray, share: float) -> np.ndarray:
    """This share of the seeds, the last of them, never arrives."""
    return np.where(np.arange(len(times_s)) < round((1 - share) * len(times_s)), times_s, np.inf)


def only(recommendations: list[Recommendation]) -> Recommendation:
    (recommendation,) = recommendations
    return recommendation


def margins(found: Recommendation) -> list[tuple[str, bool] | None]:
    """Over what, and is it beyond the noise: the next, uncoded, ignore-stragglers."""
    return [margin and (margin.over, margin.beyond_noise) for margin in found.margins.values()]


@pytest.mark.parametrize("seeds", [FEWEST, 41])
def test_intervals_hold_the_median_as_often_as_they_say(seeds: int):
    """19 times in 20 at least, and not much oftener than the steps between order statistics make them."""
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
    """So that a time never reached is just the longest one."""
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
    """Metrics go up and down, tie with the target, and are nan where a run has blown up."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (4, 30, 6)) / 4
    values[rng.random(values.shape) < 0.2] = np.nan
    found = Trainings(np.arange(6), rng.exponential(1, values.shape).cumsum(2), {"test_loss": values, metric: values})
    expected = np.full((4, 30), np.inf)
    for i, j, t in reversed(list(np.ndindex(values.shape))):
        if values[i, j, t] >= 0.75 if metric == "test_auc" else values[i, j, t] <= 0.25:
            expected[i, j] = found.clock_s[i, j, t]
    assert np.isinf(expected).any() and np.isfinite(expected).any()
    np.testing.assert_array_equal(times_to(0.75 if metric == "test_auc" else 0.25, found), expected)


def test_a_better_target_takes_longer():
    rng = np.random.default_rng(0)
    auc = rng.random((3, 20, 8)).cumsum(2) / 8
    found = Trainings(np.arange(8), np.broadcast_to(np.arange(1.0, 9), auc.shape), {"test_auc": auc})
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
    found = Trainings(np.arange(5), auc, {"train_loss": -auc, "test_auc": auc})
    assert default_target([point("egc"), point("uncoded")], found) == np.median(auc[1, :, 2])
    assert default_target([point("egc"), point("erasurehead")], found) == np.median(auc[0, :, 2])


def test_the_quickest_point_is_recommended():
    """With margins to the next, to uncoded, and to ignore-stragglers at the same r, though others of it are quicker."""
    points = [
        point("uncoded"),
        point("ignore_stragglers", wait_for=4),
        point("ignore_stragglers", wait_for=3),
        point("erasurehead", load=2, wait_for=3),
        point("egc", load=2),
    ]
    found = only(recommend(points, race(*(around(center) for center in (8, 2, 4, 1, 3))), TARGET))
    assert found.best == "erasurehead c=2 r=3" and found.reached == 1 and found.circumstances == {}
    assert found.time_s == estimate(around(1))
    assert margins(found) == [
        ("ignore_stragglers c=1 r=4", True),
        ("uncoded c=1 r=6", True),
        ("ignore_stragglers c=1 r=3", True),
    ]
    for margin, ratio in zip(found.margins.values(), (2, 8, 4), strict=True):  # the same seeds, the same delays
        assert margin and margin.ratio == pytest.approx((ratio, ratio, ratio))
    lines = found.lines()
    assert lines[0].startswith("target 0.8000: erasurehead c=2 r=3 in ") and lines[0].endswith(" s")
    assert lines[1:] == [
        "  next best: ignore_stragglers c=1 r=4 takes 2 (2 to 2) times as long: beyond the noise",
        "  uncoded: uncoded c=1 r=6 takes 8 (8 to 8) times as long: beyond the noise",
        "  ignoring stragglers at r=3: ignore_stragglers c=1 r=3 takes 4 (4 to 4) times as long: beyond the noise",
    ]


@pytest.mark.parametrize("other", [around(1), around(1, seed=1)])
def test_points_that_are_alike_are_within_the_noise(other: np.ndarray):
    """Two runs of one distribution, and two points whose rounds are the very same."""
    points = [point("erasurehead", load=2, wait_for=5), point("egc", load=2)]
    found = only(recommend(points, race(around(1), other), TARGET))
    told = found.lines()[1]
    assert not found.margins["next best"].beyond_noise  # pyright: ignore[reportOptionalMemberAccess]
    assert told.startswith("  next best: ") and told.endswith(" times as long: within the noise")


def test_what_is_not_in_the_grid_has_no_margin():
    found = only(recommend([point("egc", load=2)], race(around(1)), TARGET))
    assert found.best == "egc c=2 r=6" and margins(found) == [None, None, None]
    assert all(line.endswith(": not in the grid") for line in found.lines()[1:])


@pytest.mark.parametrize("seeds", [2, SEEDS])
def test_the_best_has_no_margin_to_itself(seeds: int):
    points = [point("uncoded"), point("ignore_stragglers")]
    found = only(recommend(points, race(around(1, seeds), around(2, seeds)), TARGET))
    assert found.lines()[2] == "  uncoded: uncoded c=1 r=6: is the best itself"


def test_too_few_seeds_are_never_beyond_the_noise():
    found = only(recommend([point("uncoded"), point("egc")], race(around(9, 4), around(1, 4)), TARGET))
    assert found.best == "egc c=1 r=6" and margins(found)[:2] == [("uncoded c=1 r=6", False)] * 2
    assert not any("nan" in line for line in found.lines())  # that more seeds are needed can be said in words


def test_a_target_that_no_point_reaches_is_a_result():
    points = [point("uncoded", mean_s=2), point("egc", mean_s=2)]
    found = only(recommend(points, race(around(1), late_in(around(1), 0.75)), 0.99))
    assert (found.best, found.time_s, found.reached, found.margins) == (None, None, 0.0, {})
    assert found.lines() == ["target 0.9900, mean_s=2: no point of the grid reaches it in most seeds"]


def test_a_target_that_few_seeds_reach_is_not_reached():
    found = only(recommend([point("egc")], race(late_in(around(1), 0.75)), TARGET))
    assert found.best is None


@pytest.mark.parametrize(("share", "preferred"), [(0.0, "egc"), (0.1, "egc"), (0.2, "uncoded"), (0.4, "uncoded")])
def test_a_quick_point_that_often_fails_is_not_preferred(share: float, preferred: str):
    """Not below nine seeds in ten."""
    points = [point("uncoded"), point("egc")]
    found = only(recommend(points, race(around(5, 30), late_in(around(1, 30), share)), TARGET))
    assert found.best == f"{preferred} c=1 r=6"
    assert found.reached == pytest.approx(1 if preferred == "uncoded" else 1 - share)
    assert ("of the seeds reach it" in found.lines()[0]) == (found.reached < 1)


def test_among_points_that_often_fail_the_quickest_is_recommended():
    points = [point("uncoded"), point("egc"), point("erasurehead")]
    found = race(late_in(around(5), 0.25), late_in(around(1), 0.375), np.full(SEEDS, np.inf))
    best = only(recommend(points, found, TARGET))
    assert best.best == "egc c=1 r=6" and best.reached == 0.625
    assert best.lines()[0].endswith(" s; 62% of the seeds reach it")


def test_seeds_in_which_only_one_arrives_count_for_it():
    """And those in which neither does say nothing."""
    best, other = around(1), around(3)
    best[:3] = other[:2] = np.inf
    found = only(recommend([point("egc"), point("uncoded")], race(best, other), TARGET))
    margin = found.margins["uncoded"]
    assert margin and margin.ratio == estimate(np.r_[0, other[3:] / best[3:]])
    never = only(recommend([point("egc"), point("uncoded")], race(best, np.full(SEEDS, np.inf)), TARGET))
    margin = never.margins["uncoded"]
    assert margin and margin.ratio == Estimate(math.inf, math.inf, math.inf) and margin.beyond_noise


def test_without_any_time_nothing_is_quicker():
    """delay=none, compute_s=0: every clock stands at zero."""
    found = only(recommend([point("uncoded"), point("egc")], race(np.zeros(SEEDS), np.zeros(SEEDS)), TARGET))
    assert margins(found)[:2] == [("egc c=1 r=6", False), ("uncoded c=1 r=6", False)]
    assert not any("nan" in line for line in found.lines())


def test_circumstances_are_never_mixed():
    """What is recommended for one delay does not depend on the runs under another."""
    here: list[dict[str, Any]] = [
        {"delay": "exponential", "mean_s": 0.5},
        {"delay": "exponential", "mean_s": 2},
        {"delay": "slow_workers"},
    ]
    points = [point(scheme, **where) for scheme in ("uncoded", "ignore_stragglers", "egc") for where in here]
    times = [around(center) for center in (1, 9, 8, 2, 2, 1, 3, 1, np.inf)]
    together = recommend(points, race(*times), TARGET)
    assert [each.circumstances for each in together] == here
    assert [each.best for each in together] == [f"{name} c=1 r=6" for name in ("uncoded", "egc", "ignore_stragglers")]
    for i, where in enumerate(here):
        alone = only(recommend(points[i::3], race(*times[i::3]), TARGET))
        assert alone == together[i]
        assert all(f", {name}={value}" in alone.lines()[0] for name, value in where.items())


def test_step_sizes_and_late_policies_are_choices():
    points = [point("egc", late=late, step_size=step) for late in ("cancel", "skip") for step in (0.1, 10)]
    found = only(recommend(points, race(*(around(center) for center in (3, 4, 2, 1))), TARGET))
    assert (found.best, found.circumstances) == ("egc c=1 r=6 skip step 10", {})
    assert margins(found)[0] == ("egc c=1 r=6 skip step 0.1", True)
