"""The what-if's figures: what they show, that they state what they omit, and that legends hide nothing."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from rich.console import Console

from erasurehead_jax import ByCode, Decodable, FractionalRepetition, NoDelay, Scheme, Uncoded
from erasurehead_jax.delays import AbstractDelay, Exponential
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.stopping import AnyOf, Count
from erasurehead_jax.studies.figures import decode_errors, round_times
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.heat_map import heat_map
from erasurehead_jax.studies.montecarlo import Timings
from erasurehead_jax.studies.tables import terminal_table

WORKERS = 12


def point(scheme: str, load: int = 1, wait_for: int = WORKERS, delay: AbstractDelay | None = None) -> GridPoint:
    uncoded = scheme in ("uncoded", "ignore_stragglers")
    code = Uncoded(WORKERS, WORKERS) if uncoded else FractionalRepetition(WORKERS, WORKERS, load)
    stop: Any = {"ignore_stragglers": Count(wait_for), "erasurehead": AnyOf((Decodable(), Count(wait_for)))}
    labels = {"scheme": scheme, "load": load, "wait_for": wait_for, "late": "cancel"}
    whole = Scheme(code, stop.get(scheme, Decodable()), ByCode())
    return GridPoint(labels, Point(whole, Exponential(0.5) if delay is None else delay, "cancel"))


@pytest.fixture
def axis() -> Iterator[Axes]:
    figure, axis = plt.subplots(layout="constrained")
    yield axis
    plt.close(figure)


def draw(axis: Axes) -> None:
    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()


def legend(axis: Axes) -> list[str]:
    """The entries of the legend, which must lie below the curves."""
    found = axis.get_legend()
    assert found is not None
    draw(axis)
    assert found.get_window_extent().y1 < axis.get_window_extent().y0
    return [text.get_text() for text in found.get_texts()]


def timings(points: list[GridPoint]) -> Timings:
    round_s = [np.linspace(0.1, 1, 50) * (i + 1) for i in range(len(points))]
    return Timings(pd.DataFrame({"mean_round_s": [each.mean() for each in round_s]}), round_s)


def test_all_round_times_are_shown_or_stated_to_be_left_out(axis: Axes):
    points = [point("erasurehead", 2, r) for r in range(1, 9)]
    round_times(axis, points, timings(points))
    assert legend(axis) == [each.name() for each in points] + ["closed form"] and axis.get_title("left") == ""


def test_round_times_state_what_they_leave_out(axis: Axes):
    points = [point("erasurehead", 2, r) for r in range(1, 12)]
    round_times(axis, points, timings(points))
    assert legend(axis)[:-1] == [each.name() for each in points[:8]]
    assert axis.get_title("left") == "the 8 fastest of 11 points; all are in timing.csv"


def test_closed_forms_are_promised_only_where_there_are_some(axis: Axes):
    points = [point("erasurehead", 2, r, NoDelay()) for r in (3, 5)]
    round_times(axis, points, timings(points))
    assert legend(axis) == [each.name() for each in points]
    axis.clear()
    decode_errors(axis, points, np.array([2.0, 1.0]))
    assert legend(axis) == ["erasurehead c=2"] and axis.get_title("left") == "markers: simulated"
    assert len(axis.lines) == 1


def test_exact_schemes_are_listed_as_exact(axis: Axes):
    """A decode error of 0 cannot be drawn on a logarithmic axis."""
    points = [point("uncoded"), point("egc", 2), *(point("erasurehead", 2, r) for r in (3, 5, 12))]
    decode_errors(axis, points, np.array([0, 1e-12, 4.0, 2.0, 0]))
    assert legend(axis) == ["erasurehead c=2 (exact at r=12)", "exact: uncoded", "exact: egc c=2"]
    assert axis.get_yscale() == "log" and axis.get_title("left") == "markers: simulated; lines: closed form"
    assert np.array_equal(axis.lines[0].get_xdata(), [3, 5])


def test_if_all_schemes_are_exact_the_legend_lists_them(axis: Axes):
    decode_errors(axis, [point("uncoded"), point("egc", 2)], np.zeros(2))
    assert legend(axis) == ["exact: uncoded", "exact: egc c=2"] and axis.get_yscale() == "linear"


def test_the_heat_map_names_the_quickest_scheme_of_every_cell(axis: Axes):
    points = [
        *(point("uncoded"), point("egc", 1), point("erasurehead", 2, 3), point("erasurehead", 1, 3)),
        *(point("ignore_stragglers", 1, 3), point("egc", 2)),
    ]
    medians = [9.0, 10, np.inf, 4, 3, 1234]
    heat_map(axis, points, np.repeat(np.array(medians)[:, None], 5, 1), range(len(points)))
    cells = {(text.get_position()[0], text.get_position()[1]): text.get_text() for text in axis.texts}
    assert cells == {
        (1, 0): "9\nuncoded",
        (0, 0): "3\nignore\nstragglers",
        (0, 1): "not reached\nerasurehead",
        (1, 1): "1234\negc",
    }
    (image,) = axis.images
    assert isinstance(image.norm, LogNorm) and image.colorbar is not None
    assert [label.get_text() for label in axis.get_yticklabels()] == ["1", "2"]


def test_a_terminal_of_80_columns_shows_every_number():
    row = {"scheme": "ignore_stragglers", "load": 1, "wait_for": 11, "late": "cancel", "target": 0.6789}
    times = {"time_s": 123.4, "low_s": 111.2, "high_s": 135.6, "reached": 0.875, "seeds": 8}
    never = {"time_s": np.inf, "low_s": np.inf, "high_s": np.inf, "reached": 0.25, "seeds": 8}
    console = Console(width=80, record=True, file=StringIO())
    console.print(terminal_table(pd.DataFrame([row | times, row | {"load": 2} | never]), "times"))
    shown = console.export_text()
    assert "times, late=cancel, target=0.6789, seeds=8" in shown and "…" not in shown
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "ignore" in line]
    assert lines == [
        ["ignore_stragglers", "1", "11", "123.4", "111.2 to 135.6", "0.875"],
        ["ignore_stragglers", "2", "11", "not reached", "-", "0.25"],
    ]


@pytest.mark.parametrize("time_s", [0.0, np.inf, 2.0])
def test_a_heat_map_of_a_single_value(time_s: float, axis: Axes):
    heat_map(axis, [point("uncoded")], np.full((1, 5), time_s), [0])
    draw(axis)
    assert [text.get_text() for text in axis.texts] == [f"{time_s:g}\nuncoded".replace("inf", "not reached")]
