"""Telemetry against hand computations and closed forms."""

from pathlib import Path

import numpy as np
import pytest

from erasurehead_jax import AnyOf, Count, Decodable, FractionalRepetition, Scheme, Uncoded
from erasurehead_jax.decoding import ByCode
from erasurehead_jax.rundir.progress import RoundsBar
from erasurehead_jax.rundir.telemetry import (
    coverage,
    longest_gaps,
    recurrence,
    slow_now,
    stragglers,
    telemetry,
    worker_times,
)

NAN = np.nan
SCHEME = Scheme(FractionalRepetition(4, 4, 2), AnyOf((Decodable(), Count(2))), ByCode())


def test_a_run_by_hand():
    arrival_s = np.array([[1.0, NAN, 2.0, NAN], [1.0, NAN, NAN, NAN], [3.0, NAN, 2.0, NAN], [1.0, 4.0, NAN, NAN]])
    summary = telemetry(SCHEME, arrival_s)
    assert summary["workers"]["used"] == [4, 1, 2, 0]
    held = [np.flatnonzero(SCHEME.code.holds[:, j]).tolist() for j in (0, 2)]
    assert [summary["blocks"]["covered"][i] for i in held[0]] == [4, 4]
    assert [summary["blocks"]["covered"][i] for i in held[1]] == [2, 2]
    assert [summary["blocks"]["longest_gap"][i] for i in held[1]] == [1, 1]


def test_the_median_without_censoring_is_the_median():
    arrival_s = np.random.default_rng(0).exponential(size=(101, 3))
    summary = telemetry(Scheme(Uncoded(3, 3), Decodable(), ByCode()), arrival_s)
    assert summary["workers"]["median_s"] == pytest.approx(np.median(arrival_s, axis=0).tolist())


def test_an_unused_answer_would_have_come_after_the_round():
    """The Kaplan-Meier estimate by hand: 1 of 4 by 1 s, one censored at 2 s, so 3/4 * 1/2 are later than 3 s."""
    arrival_s = np.array([[1.0, 1.0], [NAN, 2.0], [3.0, 1.0], [4.0, 1.0]])
    summary = telemetry(Scheme(Uncoded(2, 2), Count(1), ByCode("covered")), arrival_s)
    assert summary["workers"]["median_s"] == [3.0, 1.0]
    hardly = np.array([[1.0, 1.0], [NAN, 2.0], [NAN, 1.0], [NAN, 1.0]])
    assert telemetry(Scheme(Uncoded(2, 2), Count(1), ByCode()), hardly)["workers"]["median_s"][0] is None
    never = np.array([[NAN, 1.0]] * 3)
    assert telemetry(Scheme(Uncoded(2, 2), Count(1), ByCode()), never)["workers"]["median_s"] == [None, 1.0]


def test_a_worker_has_answered_with_its_last_message():
    owner = np.array([0, 0, 1, 1])
    times_s = worker_times(np.array([[1.0, 2.0, 3.0, NAN]]), owner)
    np.testing.assert_array_equal(times_s, [[2.0, NAN]])


def test_recurrence():
    same = np.tile([True, False, False, False], (50, 1))
    assert recurrence(same) == 1.0
    rotating = np.random.default_rng(1).random((4000, 10)) < 0.3
    assert abs(recurrence(rotating) or 1) < 0.02
    assert recurrence(np.eye(4, dtype=bool)[np.arange(40) % 4]) == pytest.approx(-1 / 3)
    assert recurrence(np.zeros((9, 3), bool)) is None and recurrence(np.ones((9, 3), bool)) is None
    assert recurrence(same[:1]) is None


def test_stragglers_are_unused_or_twice_as_late():
    times_s = np.array([[1.0, 1.1, 2.5, NAN], [1.0, NAN, NAN, NAN]])
    np.testing.assert_array_equal(stragglers(times_s), [[False, False, False, True], [False, True, True, True]])
    np.testing.assert_array_equal(stragglers(np.array([[1.0, 1.0, 1.0, 2.5]])), [[False, False, False, True]])


def test_gaps():
    covered = np.array([[0, 1], [0, 1], [1, 0], [0, 0], [0, 0], [0, 1]], bool)
    assert longest_gaps(covered).tolist() == [3, 3]
    assert longest_gaps(np.ones((5, 2), bool)).tolist() == [0, 0]


def test_no_rounds():
    none = np.empty((0, 4))
    assert coverage(SCHEME, ~np.isnan(none)).shape == (0, 4)
    summary = telemetry(SCHEME, none)
    nothing = {"median_s": [None] * 4, "times_fastest": [None] * 4, "times_own_best": [None] * 4}
    assert summary["workers"] == {"used": [0] * 4} | nothing and summary["straggler_recurrence"] is None


def test_times_relative_to_the_fastest_and_to_a_worker_s_own_best():
    arrival_s = np.tile([1.0, 3.0, 2.0], (60, 1))
    arrival_s[40:, 2] = 5.0  # it used to take 2 s
    found = telemetry(Scheme(Uncoded(3, 3), Decodable(), ByCode()), arrival_s)["workers"]
    assert found["times_fastest"] == [1.0, 3.0, 2.0] and found["times_own_best"] == [1.0, 1.0, 2.5]
    few = telemetry(Scheme(Uncoded(3, 3), Decodable(), ByCode()), arrival_s[:10])["workers"]
    assert few["times_own_best"] == [None] * 3


def test_who_is_slow_now():
    times_s = np.tile([1.0, 1.1, 1.2, 4.0, NAN], (50, 1))
    times_s[:40, 3] = 1.0
    assert slow_now(times_s[:20]) == [4] and slow_now(times_s[:10]) == []
    assert slow_now(times_s) == [4]  # worker 3 in the last ten rounds only
    times_s[35, 4] = 1.0  # once in time is no more than luck
    times_s[30:, 3] = 4.0
    assert slow_now(times_s) == [3, 4]
    changing = np.where(np.random.default_rng(0).random((20, 30)) < 0.6, NAN, 1.0)
    assert slow_now(changing) == []


def test_the_progress_bar_names_slow_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "checkpoint").mkdir()
    times_s = np.tile([1.0, 1.1, NAN, 1.2], (30, 1))
    (tmp_path / "checkpoint" / "arrivals.bin").write_bytes(times_s.tobytes() + b"half")
    columns = ["round", "waited", "decode_error", "grad_norm", "lost"]
    (tmp_path / "history.csv").write_text(",".join(columns) + "\n29,3,0.0,1.5,0\n")
    owner = np.array([0, 2, 1, 3])
    with RoundsBar(tmp_path, rounds=40, owner=owner, label="erasurehead", starting="compiling"):
        pass
    assert "slow: 1" in capsys.readouterr().err
