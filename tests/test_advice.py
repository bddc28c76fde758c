"""Advice on recorded stragglers: which scheme, and how sure."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import execute

from erasurehead_jax import ConfigError, Trace, egc, uncoded
from erasurehead_jax.delays.recording import Recording, read_recording
from erasurehead_jax.placement import placed, round_s
from erasurehead_jax.stragglers.advice import Advice, advise
from erasurehead_jax.stragglers.candidates import candidates
from erasurehead_jax.stragglers.rounds import complete_times

TRACES = Path(os.environ.get("ERASUREHEAD_DATA", "nowhere"), "traces")
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="ERASUREHEAD_DATA has no traces")


def recorded(times_s: np.ndarray, load: float | None = None) -> Recording:
    return Recording(np.asarray(times_s, float), [str(j) for j in range(times_s.shape[1])], "s", load, [], "times")


def exponential(rounds: int = 200, workers: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, (rounds, workers))


def rows(found: Advice) -> pd.DataFrame:
    return found.table.set_index(["scheme", "load", "wait_for", "placement"])


@needs_traces
def test_a_job_with_five_slow_workers_of_ten():
    """Fractional repetition with a slow and a fast worker in each group."""
    path = str(TRACES / "pai_job4.csv")
    found = advise(read_recording(path))
    made = found.taken.candidate
    assert (made.scheme, made.load, made.exact) == ("egc", 2, True) and made.placement is not None
    np.testing.assert_array_equal(np.isin(made.placement, [0, 5, 6, 7, 8]).reshape(5, 2).sum(1), 1)
    all_s = round_s_of_all(path, made.placement)
    assert found.taken.round_s == pytest.approx(all_s, rel=0.05)
    assert found.of("uncoded").round_s == pytest.approx(368.5, rel=0.02)
    given = float(rows(found).loc[("egc", 2, 10, "given"), "round_s"])
    assert given > 3 * found.taken.round_s
    assert "Take egc c=2, balanced: " in " ".join(found.lines())
    assert f"scheme=egc workers=10 load=2 placement=[{','.join(map(str, made.placement))}]" in found.command


def round_s_of_all(path: str, order: np.ndarray) -> float:
    times_s = Trace(path).times_s[:, order]
    return float(times_s.reshape(-1, 5, 2).min(2).max(1).mean())


def test_rounds_are_those_of_the_schemes():
    """By the stopping rules in NumPy."""
    times_s = exponential(40)
    for made in candidates(times_s, 0.0, 1 / 12, place=False):
        ordered = np.sort(times_s, axis=1)
        if made.scheme in ("uncoded", "ignore_stragglers"):
            want = ordered[:, made.wait_for - 1]
        elif made.scheme == "cyclic_mds":
            want = ordered[:, 12 - made.load]
        else:
            decodable = times_s.reshape(40, -1, made.load).min(2).max(1)
            want = np.minimum(decodable, ordered[:, made.wait_for - 1])
        np.testing.assert_allclose(made.round_s, want)
        held = np.ones((40, 12)) if made.exact else shares_of(made.scheme, made.load, times_s <= want[:, None])
        np.testing.assert_allclose(made.shares, held)


def shares_of(scheme: str, load: int, got: np.ndarray) -> np.ndarray:
    groups = got.reshape(len(got), -1, load if scheme == "erasurehead" else 1).any(2)
    return np.repeat(groups, load if scheme == "erasurehead" else 1, axis=1).astype(float)


def test_progress_is_theorem_2_s_where_workers_are_alike():
    """1 - p of r workers: that rows of random stragglers are missed by chance is no reason to count less."""
    found = rows(advise(recorded(exponential(300))))
    assert found.loc[("ignore_stragglers", 1, 6, "given"), "progress"] == pytest.approx(0.5, abs=0.06)
    assert found.loc[("ignore_stragglers", 1, 11, "given"), "progress"] == pytest.approx(11 / 12, abs=0.03)


def test_ignoring_the_same_workers_for_ever_is_no_progress():
    times_s = np.random.default_rng(0).uniform(1, 1.1, (60, 12))
    times_s[:, [3, 4]] += 10
    found = advise(recorded(times_s))
    assert np.isinf(rows(found).loc[("ignore_stragglers", 1, 10, "given"), "score_s"])
    assert found.taken.candidate.exact and found.taken.round_s < 1.2
    assert found.taken.candidate.load == 2  # 3 and 4 are in two groups


def test_nothing_is_gained_where_nobody_is_slow():
    found = advise(recorded(np.random.default_rng(0).uniform(1, 1.02, (60, 12))))
    assert found.taken.candidate.scheme == "uncoded"
    assert found.command == "python -m erasurehead_jax.train scheme=uncoded workers=12"
    assert "Take uncoded: no scheme is much faster" in " ".join(found.lines())


def test_computing_that_costs_time_makes_loads_dear():
    times_s = exponential(200)
    free, dear = (advise(recorded(times_s), compute_s=compute_s) for compute_s in (0.0, 60.0))
    assert free.taken.candidate.load > 1 and dear.taken.candidate.load == 1
    assert rows(dear).loc[("egc", 2, 12, "given"), "round_s"] == pytest.approx(
        rows(free).loc[("egc", 2, 12, "given"), "round_s"] + 5.0
    )
    assert "as long as the" in " ".join(free.lines())


def test_chance_is_no_placement():
    """Times that are independent: placements that fit the recorded rounds are not better on others."""
    found = advise(recorded(exponential(60, 30)))
    given, balanced = (
        float(rows(found).loc[("egc", 3, 30, "given"), "round_s"]),
        [score for score in found.scores if score.candidate.name == "egc c=3, balanced"],
    )
    order = np.array([score.candidate.placement for score in balanced]) if balanced else None
    assert order is None or balanced[0].round_s > 0.9 * given


def test_intervals_are_as_wide_as_the_spread_of_recordings():
    gains = []
    for seed in range(8):
        found = advise(recorded(exponential(100, 12, seed)))
        score = next(score for score in found.scores if score.candidate.name == "egc c=3")
        gains.append(score.gain(found.of("uncoded")))
    middle = np.mean([gain for gain, _, _ in gains])
    inside = sum(low <= middle <= high for _, low, high in gains)
    assert inside >= 6
    assert all(low <= gain <= high for gain, low, high in gains)


def test_dead_workers_are_never_waited_for():
    times_s = exponential(100, 6)
    times_s[:, 2] = np.where(np.arange(100) < 30, times_s[:, 2], np.nan)
    found = advise(recorded(times_s))
    assert np.isinf(found.of("uncoded").round_s)
    assert found.taken.candidate.exact and np.isfinite(found.taken.round_s)
    assert "Uncoded waits for ever, because a worker ceases to answer." in found.lines()
    with pytest.raises(ConfigError, match=r"worker 2 has no time; leave it out$"):
        advise(recorded(np.where(np.arange(6) == 2, np.nan, times_s)))


def test_gaps_are_filled_with_the_worker_s_own_times():
    times_s = exponential(60)
    gaps = np.where(np.random.default_rng(1).random(times_s.shape) < 0.05, np.nan, times_s)
    assert np.isnan(gaps).any(1).mean() > 0.3  # more than a few rounds
    whole, holey = (advise(recorded(each)) for each in (times_s, gaps))
    assert holey.of("uncoded").round_s == pytest.approx(whole.of("uncoded").round_s, rel=0.1)
    filled = complete_times(recorded(np.array([[1.0, np.nan], [np.nan, 2.0], [3.0, np.nan], [4.0, 5.0]])))
    np.testing.assert_array_equal(filled, [[1, 2], [1, 2], [3, 2], [4, 5]])
    with pytest.raises(ConfigError, match=r"answers that were not used, .* \(scheme=uncoded\)$"):
        advise(recorded(gaps)._replace(unused=True))


@pytest.mark.parametrize("workers", [4, 24, 90])
def test_fewer_and_more_workers_than_recorded(workers: int):
    times_s = exponential(160)
    found = advise(recorded(times_s), workers)
    want = times_s.max(1).mean() if workers == 12 else np.sum(1 / np.arange(1, workers + 1))  # mean of the largest
    assert found.of("uncoded").round_s == pytest.approx(want, rel=0.15)
    assert ("12 have the recorded times, and the others the same ones in other rounds" in " ".join(found.lines())) == (
        workers > 12
    )


def test_placements_are_searched_on_other_rounds_than_they_are_judged_on():
    times_s = np.random.default_rng(0).uniform(1, 1.1, (80, 12))
    times_s[:, :4] += 5
    made = next(c for c in candidates(times_s, 0.0, 1 / 12, True) if c.scheme == "egc" and c.placement is not None)
    assert made.placement is not None
    own = placed(egc(12, made.load), made.placement)
    assert made.round_s.mean() == pytest.approx(round_s(own, times_s, np.arange(12)), rel=0.02)
    assert made.round_s.mean() < 0.5 * round_s(uncoded(12), times_s, np.arange(12))


def command(folder: Path, *arguments: str):
    return execute([sys.executable, "-m", "erasurehead_jax.advise", *arguments], folder)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Workers 0 and 1, who would share their blocks, are slow."""
    lines = [f"{t},{j},{0.3 + 0.01 * t if j < 2 else 0.01 * (j + 1)}" for t in range(30) for j in range(4)]
    (tmp_path / "times.csv").write_text("\n".join(["iteration,worker,seconds", *lines]))
    return tmp_path


def test_the_command_that_it_gives_runs(table: Path):
    done = command(table, "times.csv")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("python -m "))
    assert "scheme=egc workers=4 load=2 placement=[" in line
    assert (table / "outputs" / "advice-times" / "advice.csv").is_file()
    quick = ["backend=simulate", "rounds=3", "data.rows=1003", "tracking=none", "hydra.run.dir=run"]
    ran = execute([sys.executable, *line.split()[1:], *quick], table)
    assert ran.returncode == 0, ran.stderr


def test_with_data_it_trains(table: Path):
    small = ["data=synthetic", "data.rows=1003", "data.fields=4", "rounds=10", "seeds=6"]
    done = command(table, "times.csv", *small, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "By time to the target on synthetic, which decides:" in done.stdout
    frontier = pd.read_csv(table / "out" / "frontier.csv")
    times = {
        name: frontier.query(f"scheme == '{name}' and placement == '{placement}'")["time_s"].to_numpy().min()
        for name, placement in (("egc", "balanced"), ("uncoded", "given"))
    }
    assert times["egc"] < 0.5 * times["uncoded"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["load=3"], "load=3: has no effect on the advice; "),
        (["rounds=3"], "rounds=3: has no effect on the advice; needs data=...; "),
        (["workers=0"], "workers=0: must be a whole number, at least 1"),
        (["compute_s=-1"], "compute_s=-1: must be a finite number, 0 or more"),
        (["data=nothing"], "data=nothing: "),
        (["workers=1"], "workers=1: must be at least 2"),
        (["workers"], "workers: has no effect on the advice; "),
    ],
)
def test_refusals(settings: list[str], says: str, table: Path):
    done = command(table, "times.csv", *settings)
    assert done.returncode == 2 and f"error: {says}" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (table / "outputs").exists()


def test_computing_is_charged_beyond_what_was_recorded():
    """Of twelve recorded workers each held a twelfth, whatever number is asked for."""
    assert recorded(exponential()).held == 1 / 12 and recorded(exponential(), 0.25).held == 0.25
    times_s = 5 + exponential(60)
    for workers, more_s in ((6, 1.0), (12, 0.0), (24, -0.5)):
        free, paid = (advise(recorded(times_s), workers, compute_s) for compute_s in (0.0, 12.0))
        assert paid.of("uncoded").round_s == pytest.approx(free.of("uncoded").round_s + more_s)
