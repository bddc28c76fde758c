"""Which worker takes which part of a code, and where that matters: where slow workers stay slow."""

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import SMALL_DATA, execute, train

from erasurehead_jax import ConfigError, Scheme, Trace, egc, erasurehead, named_scheme
from erasurehead_jax.placement import balanced_order, placed, round_s
from erasurehead_jax.testing import check_code

TRACES = Path(os.environ.get("ERASUREHEAD_DATA", ""), "traces")
SLOW = np.array([5.0, 5, 1, 1, 5, 1])  # seconds of six workers, always the same


def mean_round_s(scheme: Scheme, times_s: np.ndarray) -> float:
    """By trying every instant, with NumPy; all messages of a worker arrive at once."""
    arrival_s = times_s[:, scheme.code.owner]
    firsts = [min(s for s in each if scheme.enough(each <= s, s)) for each in arrival_s]
    return float(np.mean(firsts))


@pytest.mark.parametrize(
    "scheme", [egc(6, 2), egc(6, 3), erasurehead(6, 2, 3), named_scheme("graph_code", 6, blocks=4)]
)
def test_the_best_of_all_placements(scheme: Scheme):
    times_s = np.random.default_rng(0).exponential(SLOW, (2, 6))
    found = balanced_order(scheme, times_s)
    orders = map(np.array, itertools.permutations(range(6)))
    best = min(mean_round_s(placed(scheme, order), times_s) for order in orders)
    assert mean_round_s(placed(scheme, found), times_s) == pytest.approx(best) == round_s(scheme, times_s, found)


def test_every_group_gets_a_fast_worker():
    """Thirty workers, ten of them slow throughout: no group of three is all slow, although it begins with ten slow."""
    times_s = np.random.default_rng(0).exponential(np.where(np.arange(30) < 10, 50.0, 1.0), (40, 30))
    scheme = egc(30, 3)
    order = balanced_order(scheme, times_s)
    groups = np.asarray(order).reshape(10, 3)
    assert (groups >= 10).any(1).all()
    assert round_s(scheme, times_s, order) < round_s(scheme, times_s, np.arange(30)) / 5


def test_workers_that_are_alike_stay_where_they_are():
    scheme = egc(12, 3)
    np.testing.assert_array_equal(balanced_order(scheme, np.ones((5, 12))), np.arange(12))
    mds = named_scheme("cyclic_mds", 12, 4)  # any nine decode: nobody's place matters
    times_s = np.random.default_rng(0).exponential(1, (20, 12))
    np.testing.assert_array_equal(balanced_order(mds, times_s), np.arange(12))


def test_a_placed_code_is_a_code():
    order = np.array([3, 0, 5, 1, 4, 2])
    for scheme in (egc(6, 2), named_scheme("partial_replication", 6, 3, blocks=12)):
        other = placed(scheme, order)
        check_code(other.code)
        np.testing.assert_array_equal(other.code.holds[:, order], scheme.code.holds)
        heard = np.arange(6) < 3
        np.testing.assert_array_equal(other.code.heard(heard[other.code.owner]), heard)


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 5, 6]])
def test_no_permutation_is_refused(order: list[int]):
    with pytest.raises(ConfigError, match=r"^placement=\[.*\]: must have each worker from 0 to 5 once$"):
        placed(egc(6, 2), np.array(order))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Workers 0 and 1, who would share their blocks, are slow."""
    path = tmp_path / "times.csv"
    rows = [f"{t},{j},{0.3 if j < 2 else 0.01 * (j + 1)}" for t in range(8) for j in range(4)]
    path.write_text("\n".join(["iteration,worker,seconds", *rows]))
    return path


@pytest.mark.mpi
def test_a_run_is_placed_alike_on_both_backends(tmp_path: Path, recording: Path):
    replay = ("delay=trace", f"delay.path={recording}", "placement=balanced", "scheme=egc", "workers=4", "load=2")
    settings = (*SMALL_DATA, *replay, "rounds=8", "x64=true", "tracking=none")
    runs = []
    for backend in ("mpi", "simulate"):
        (tmp_path / backend).mkdir()
        runs.append(train(tmp_path / backend, *settings, f"backend={backend}"))
        assert runs[-1].status == 0, runs[-1].err
    real, simulated = runs
    assert real.summary["placement"] == simulated.summary["placement"]
    pairs = [set(real.summary["placement"][i : i + 2]) for i in (0, 2)]
    assert {0, 1} not in pairs and simulated.summary["clock_s"] < 8 * 0.05
    np.testing.assert_array_equal(np.isnan(real.arrival_s), np.isnan(simulated.arrival_s))
    np.testing.assert_allclose(real.history["train_loss"], simulated.history["train_loss"], rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("placement=balanced",), "placement=balanced: needs recorded times of these workers; set placement_times"),
        (("placement=best",), "placement=best: must be one of given, random, balanced"),
        (("placement=[0,1,2,2]",), "placement=[0, 1, 2, 2]: must have each worker from 0 to 3 once"),
        (("placement=balanced", "placement_times=nowhere.csv"), "nowhere.csv: no such file"),
    ],
)
def test_refusals(tmp_path: Path, settings: tuple[str, ...], says: str):
    run = train(tmp_path, *SMALL_DATA, "scheme=egc", "workers=4", "load=2", "backend=simulate", *settings)
    assert run.status == 2 and says in run.err, run.err


def test_placements_are_an_axis_of_a_grid(tmp_path: Path, recording: Path):
    grid = ["grid.scheme=[egc]", "grid.placement=[given,random,balanced]", "delay=trace", f"delay.path={recording}"]
    sizes = ["workers=4", "load=2", "rounds=8", "seeds=2", "hydra.run.dir=run"]
    done = execute([sys.executable, "-m", "erasurehead_jax.whatif", "mode=timing", *grid, *sizes], tmp_path)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "run" / "timing.csv").set_index("placement")["mean_round_s"].to_dict()
    assert found["given"] == pytest.approx(0.3) and found["balanced"] == pytest.approx(0.04)


@pytest.mark.skipif(not (TRACES / "pai_job4.csv").is_file(), reason="ERASUREHEAD_DATA has no traces")
def test_a_job_with_five_slow_workers_of_ten():
    """The figures of the recording: all 368, neighbours in a group 228, slow and fast ones 70 a round."""
    times_s = Trace(str(TRACES / "pai_job4.csv")).times_s
    np.testing.assert_array_equal(times_s, Trace(str(TRACES / "pai_job4.npz")).times_s)
    order = balanced_order(egc(10, 2), times_s)
    slow = np.isin(order, [0, 5, 6, 7, 8]).reshape(5, 2)
    np.testing.assert_array_equal(slow.sum(1), 1)
    groups = np.asarray(order).reshape(5, 2)
    assert times_s.max(1).mean() == pytest.approx(368.5, abs=0.1)
    assert times_s.reshape(-1, 5, 2).min(2).max(1).mean() == pytest.approx(228, abs=0.1)
    assert times_s[:, groups].min(2).max(1).mean() == pytest.approx(70, abs=0.5)
