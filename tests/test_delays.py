"""Delay models draw from the distribution they name, as a function of the key."""

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from erasurehead_jax import AbstractDelay, ConfigError, Exponential, NoDelay, ShiftedExponential
from erasurehead_jax.delays import SlowWorkers, Trace

WORKERS = 5
MODELS = [NoDelay(), Exponential(0.5), ShiftedExponential(1.0, 3.0), SlowWorkers(0.5, 2, 10)]
RECORDINGS = sorted(Path(os.environ.get("ERASUREHEAD_DATA", "nowhere"), "traces").glob("*.npz"))
RECORDED_S = np.arange(24.0).reshape(6, 4)  # each time identifies its round and worker


def draws(delay: AbstractDelay, load: float, rounds: int = 4_000, workers: int = WORKERS, seed: int = 0) -> np.ndarray:
    """(rounds, workers) seconds, as in a run."""
    sample = jax.vmap(lambda t: delay.sample(jax.random.key(seed), t, workers, load))
    return np.asarray(sample(jnp.arange(rounds)))


def first_rounds(delay: AbstractDelay, runs: int = 2_000, workers: int = WORKERS) -> np.ndarray:
    """(runs, workers) seconds."""
    keys = jax.random.split(jax.random.key(0), runs)
    return np.asarray(jax.vmap(lambda key: delay.sample(key, 0, workers, 0.1))(keys))


def save(path: Path, **arrays: Any) -> str:
    np.savez(path / "recording.npz", **arrays)
    return str(path / "recording.npz")


def fits(seconds: np.ndarray, shift_s: float, mean_s: float) -> bool:
    """Whether a Kolmogorov-Smirnov test accepts shift + exponential."""
    return stats.kstest(seconds.ravel(), stats.expon(shift_s, mean_s).cdf).pvalue > 0.01


@pytest.mark.parametrize("mean_s", [0.5, 2.0])
@pytest.mark.parametrize("load", [0.1, 1.0])
def test_exponential_has_its_mean_whatever_the_load(mean_s: float, load: float):
    seconds = draws(Exponential(mean_s), load)
    assert fits(seconds, 0, mean_s)
    assert not fits(seconds, 0, 1.1 * mean_s)


@pytest.mark.parametrize("load", [1 / 30, 0.1, 1.0])
def test_shifted_exponential_scales_with_the_load(load: float):
    seconds = draws(ShiftedExponential(1.0, 3.0), load)
    assert fits(seconds, load, 3 * load)
    assert load <= seconds.min() < 1.001 * load


@pytest.mark.parametrize("worker", range(WORKERS))
def test_each_worker_has_the_distribution(worker: int):
    assert fits(draws(Exponential(0.5), 1.0)[:, worker], 0, 0.5)


def test_workers_of_a_round_are_independent():
    assert fits(draws(Exponential(0.5), 1.0).min(1), 0, 0.5 / WORKERS)


def test_no_delay_is_none():
    np.testing.assert_array_equal(draws(NoDelay(), 1.0, rounds=3), 0)


@pytest.mark.parametrize("delay", MODELS)
def test_delays_are_a_function_of_the_key(delay: AbstractDelay):
    key, other = jax.random.split(jax.random.key(1))
    once = delay.sample(key, 0, WORKERS, 0.1)
    assert once.shape == (WORKERS,)
    np.testing.assert_array_equal(once, delay.sample(key, 0, WORKERS, 0.1))
    assert isinstance(delay, NoDelay) or not np.isin(once, delay.sample(other, 0, WORKERS, 0.1)).any()


@pytest.mark.parametrize("delay", [Exponential(0.0), ShiftedExponential(0.0, 0.0)])
def test_a_mean_of_zero_is_no_delay(delay: AbstractDelay):
    np.testing.assert_array_equal(draws(delay, 1.0, rounds=3), 0)


def test_models_vmap_over_their_numbers():
    key, means = jax.random.key(0), jnp.array([0.5, 1.0, 4.0])
    models = jax.tree.map(lambda _: means, Exponential(1.0))
    seconds = jax.vmap(lambda delay: delay.sample(key, 0, WORKERS, 1.0))(models)
    np.testing.assert_allclose(seconds, means[:, None] * Exponential(1.0).sample(key, 0, WORKERS, 1.0)[None])


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("field", "build"),
    [
        ("mean_s", Exponential),
        ("mean_s", lambda bad: ShiftedExponential(1.0, bad)),
        ("shift_s", lambda bad: ShiftedExponential(bad, 1.0)),
    ],
)
def test_seconds_must_be_finite_and_not_negative(field: str, build, bad: float):
    with pytest.raises(ConfigError, match=rf"^delay\.{field}={bad}: must be a finite number, 0 or more"):
        build(bad)


def times_slower(slow: int, factor: float, seed: int = 0, rounds: int = 50) -> np.ndarray:
    """(rounds, workers): how many times longer than without slow workers."""
    slowed, usual = (
        draws(delay, 0.1, rounds, seed=seed) for delay in (SlowWorkers(0.5, slow, factor), Exponential(0.5))
    )
    return slowed / usual


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slow", [1, 3, WORKERS])
def test_slow_workers_are_slow_in_every_round(slow: int, seed: int):
    slower = times_slower(slow, 10, seed)
    np.testing.assert_allclose(slower, np.broadcast_to(slower[0], slower.shape))
    np.testing.assert_allclose(np.sort(slower[0]), [1] * (WORKERS - slow) + [10] * slow)


@pytest.mark.parametrize(("slow", "factor"), [(0, 10), (3, 1)])
def test_without_slow_workers_sleeps_are_exponential(slow: int, factor: float):
    np.testing.assert_array_equal(times_slower(slow, factor), 1)


def test_every_worker_is_as_likely_to_be_slow():
    slower = first_rounds(SlowWorkers(0.5, 2, 10)) / first_rounds(Exponential(0.5))
    assert stats.chisquare((slower > 5).sum(0)).pvalue > 0.01


@pytest.mark.parametrize("slow", [-1, WORKERS + 1, 1.5, True, math.nan])
def test_slow_must_count_workers(slow: float):
    with pytest.raises(ConfigError, match=rf"^delay\.slow={slow}: must be a whole number between 0 and workers=5$"):
        SlowWorkers(0.5, slow, 10).check(WORKERS, 1)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("field", ["mean_s", "factor"])
def test_slow_workers_refuse_numbers_that_make_no_time(field: str, bad: float):
    with pytest.raises(ConfigError, match=rf"^delay\.{field}={bad}: must be a finite number, 0 or more"):
        SlowWorkers(**{"mean_s": 0.5, "slow": 1, "factor": 10} | {field: bad})


def test_a_trace_is_replayed_at_a_scale(tmp_path: Path):
    trace = Trace(save(tmp_path, times_s=RECORDED_S), scale=0.25)
    np.testing.assert_array_equal(draws(trace, 0.1, rounds=6, workers=4), RECORDED_S / 4)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_trace_is_replayed_as_it_is(workers: int, tmp_path: Path):
    trace = Trace(save(tmp_path, times_s=RECORDED_S))
    for load in (0.1, 1.0):
        np.testing.assert_array_equal(draws(trace, load, rounds=6, workers=workers), RECORDED_S[:, :workers])


def test_a_run_is_replayed_from_its_arrivals(tmp_path: Path):
    """A worker with several messages has answered when its last one arrives."""
    arrival_s = RECORDED_S[:, [3, 0, 2, 1]]
    trace = Trace(save(tmp_path, arrival_s=arrival_s, owner=np.array([2, 0, 1, 0]), workers=np.array(3)))
    np.testing.assert_array_equal(trace.times_s, arrival_s[:, [3, 2, 0]])


@pytest.mark.parametrize("workers", [1, 4, 9])
def test_resampling_draws_columns_once_a_run_and_a_row_every_round(workers: int, tmp_path: Path):
    trace = Trace(save(tmp_path, times_s=RECORDED_S), resample=True)
    trace.check(workers, 200)
    rows, columns = np.divmod(draws(trace, 0.1, rounds=200, workers=workers).astype(int), 4)
    assert (columns == columns[0]).all() and set(rows[:, 0]) == set(range(6))
    for copy in range(0, workers, 4):  # its columns are all different, and its rounds later by the same number
        assert len(set(columns[0, copy : copy + 4])) == len(columns[0, copy : copy + 4])
        later = (rows[:, copy : copy + 4] - rows[:, :1]) % 6
        assert (later == later[0, 0]).all() and (copy or later[0, 0] == 0)


def test_rounds_alone_can_be_resampled(tmp_path: Path):
    trace = Trace(save(tmp_path, times_s=RECORDED_S), resample="rounds")
    trace.check(4, 200)
    rows, columns = np.divmod(draws(trace, 0.1, rounds=200, workers=3).astype(int), 4)
    assert (rows == rows[:, :1]).all() and set(rows[:, 0]) == set(range(6))
    np.testing.assert_array_equal(columns, np.tile(np.arange(3), (200, 1)))
    with pytest.raises(ConfigError, match="has 4 workers, fewer than workers=5"):
        trace.check(5, 200)


@pytest.mark.parametrize("workers", [4, 9])
def test_resampling_draws_every_recorded_time_equally_often(workers: int, tmp_path: Path):
    drawn = first_rounds(Trace(save(tmp_path, times_s=RECORDED_S), resample=True), workers=workers)
    for worker in (0, workers - 1):
        assert stats.chisquare(np.bincount(drawn[:, worker].astype(int), minlength=24)).pvalue > 0.01


def test_rounds_with_a_missing_time_are_left_out(tmp_path: Path):
    times_s = np.tile(RECORDED_S, (5, 1))
    times_s[[2, 11, 29], [0, 3, 1]] = np.nan
    trace = Trace(save(tmp_path, times_s=times_s))
    np.testing.assert_array_equal(trace.times_s, np.delete(times_s, [2, 11, 29], axis=0))
    with pytest.raises(ConfigError, match=r"has 27 rounds, fewer than rounds=28; .*delay\.resample=true$"):
        trace.check(4, 28)
    times_s[0, 0] = np.nan
    with pytest.raises(ConfigError, match=r"^delay\.path=\S+: 4 of 30 rounds have missing times .*scheme=uncoded\)$"):
        Trace(save(tmp_path, times_s=times_s))


@pytest.mark.parametrize(("field", "workers", "rounds"), [("workers", 5, 6), ("rounds", 4, 7)])
def test_longer_and_wider_runs_must_resample(field: str, workers: int, rounds: int, tmp_path: Path):
    path = save(tmp_path, times_s=RECORDED_S)
    Trace(path).check(4, 6)
    Trace(path, resample=True).check(workers, rounds)
    with pytest.raises(ConfigError, match=rf"^delay\.path={path}: has \d {field}, fewer than {field}=\d"):
        Trace(path).check(workers, rounds)


RUN = {"arrival_s": RECORDED_S, "owner": np.arange(4), "workers": np.array(4)}
NOT_RECORDINGS = {
    "negative": {"times_s": -1 - RECORDED_S},
    "infinite": {"times_s": np.where(RECORDED_S > 20, np.inf, RECORDED_S)},
    "beyond float32": {"times_s": 1e300 * RECORDED_S},
    "no round": {"times_s": RECORDED_S[:0]},
    "no worker": {"times_s": RECORDED_S[:, :0]},
    "one dimension": {"times_s": RECORDED_S[0]},
    "three dimensions": {"times_s": RECORDED_S[None]},
    "words": {"times_s": RECORDED_S.astype(str)},
    "complex": {"times_s": RECORDED_S + 1j},
    "objects": {"times_s": RECORDED_S.astype(object)},
    "unknown arrays": {"seconds": RECORDED_S},
    "no arrays": {},
    "run without owner": {"arrival_s": RECORDED_S, "workers": np.array(4)},
    "run without workers": {"arrival_s": RECORDED_S, "owner": np.arange(4)},
    "run with too few owners": RUN | {"owner": np.arange(3)},
    "run with a worker that owns nothing": RUN | {"workers": np.array(5)},
    "run without a worker": RUN | {"workers": np.array(0)},
    "run of one dimension": RUN | {"arrival_s": RECORDED_S[0]},
    "run of words": RUN | {"arrival_s": RECORDED_S.astype(str)},
}


def one_line_about(error: ConfigError, path: str) -> bool:
    return str(error).startswith(f"delay.path={path}: ") and "\n" not in str(error)


@pytest.mark.parametrize("arrays", NOT_RECORDINGS.values(), ids=NOT_RECORDINGS)
def test_a_recording_holds_times(arrays: dict[str, np.ndarray], tmp_path: Path):
    path = save(tmp_path, **arrays)
    with pytest.raises(ConfigError) as refused:
        Trace(path)
    assert one_line_about(refused.value, path)


def test_what_is_no_recording(tmp_path: Path):
    whole = Path(save(tmp_path, times_s=RECORDED_S)).read_bytes()
    data_at = whole.index(RECORDED_S.tobytes())
    flipped = whole[:data_at] + bytes([whole[data_at] ^ 1]) + whole[data_at + 1 :]
    for name, content in {"empty": b"", "text": b"a,b\n1,2\n", "half": whole[:-100], "flipped": flipped}.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "one.npy", RECORDED_S[0])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("readme.txt", "no arrays")
    for name in ("empty", "text", "half", "flipped", "one.npy", "other.zip", "missing", "."):
        with pytest.raises(ConfigError) as refused:
            Trace(str(tmp_path / name))
        assert one_line_about(refused.value, str(tmp_path / name)), name


@pytest.mark.skipif(not RECORDINGS, reason="ERASUREHEAD_DATA has no traces")
def test_every_recording_can_be_replayed():
    for path in RECORDINGS:
        trace = Trace(str(path), resample=True)
        rounds, workers = trace.times_s.shape
        assert np.isfinite(trace.times_s).all() and (trace.times_s > 0).all()
        trace.check(2 * workers, 2 * rounds)


LONG = "iteration,worker,duration_ms\n"
LONG += "".join(f"{t},node-{j},{100 * t + 10 * j}\n" for t in (1, 2) for j in range(3))


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        "rank,seconds\n" + "".join(f"{j},{0.1 * t + 0.01 * j}\n" for t in (1, 2) for j in range(3)),  # rows in order
        "a,b,c\n0.1,0.11,0.12\n0.2,0.21,0.22\n",
        "step,a,b,c\n7,0.1,0.11,0.12\n8,0.2,0.21,0.22\n",
        ",worker,gpu,time,batch_time_s\n"
        + "".join(f"{3 * t + j},{j},50,{t},{0.1 * t + 0.01 * j}\n" for t in (1, 2) for j in range(3)),
    ],
    ids=["long", "without rounds", "wide", "wide with rounds", "with a column of times that counts"],
)
def test_a_table_is_a_recording(text: str, tmp_path: Path):
    path = tmp_path / "times.csv"
    path.write_text(text)
    np.testing.assert_allclose(Trace(str(path)).times_s, [[0.1, 0.11, 0.12], [0.2, 0.21, 0.22]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "worker,iteration,speed\n0,1,2\n1,1,2\n0,2,3\n1,2,3\n",
            "has no column that can be times, beside worker=",
        ),
        (LONG.replace("110", "fast"), "column duration_ms, row 1 (counted from 0): 'fast' must be a number"),
        (LONG.replace("110", "-1"), "times must be finite and not negative"),
        ("a,b\n0.1,0.2\n0.1,x\n", "column b, row 1 (counted from 0): 'x' must be a number"),
        (LONG.replace("110", ""), "1 of 2 rounds have missing times"),
        ("a,b\n", "has no rows"),
        ("", "is empty"),
    ],
)
def test_a_table_that_is_no_recording(text: str, message: str, tmp_path: Path):
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        Trace(str(path))
    assert message in str(refused.value)


def test_a_worker_that_ends_can_be_replayed_as_lost(tmp_path: Path):
    times_s = np.tile(RECORDED_S, (5, 1))
    times_s[12:, 2] = np.nan
    times_s[3, 1] = np.nan
    want = np.delete(np.where(np.isnan(times_s), np.inf, times_s), 3, axis=0)
    np.testing.assert_array_equal(Trace(save(tmp_path, times_s=times_s), missing="dead").times_s, want)
    with pytest.raises(ConfigError, match=r"19 of 30 rounds have missing times"):
        Trace(save(tmp_path, times_s=times_s))
    refused: list[dict[str, Any]] = [{"missing": "late"}, {"missing": "dead", "resample": True}]
    for bad in refused:
        with pytest.raises(ConfigError, match=r"^delay\.missing="):
            Trace(save(tmp_path, times_s=times_s), **bad)
