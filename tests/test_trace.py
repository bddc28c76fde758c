"""What recorded times say about workers, and the report on them."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import SMALL_DATA, execute, train
from rich.console import Console

from erasurehead_jax import ConfigError
from erasurehead_jax.delays.recording import read_recording
from erasurehead_jax.stragglers.report import Traced, trace
from erasurehead_jax.stragglers.summary import Summary, between_workers, lag_1, summarize

TRACES = Path(os.environ.get("ERASUREHEAD_DATA", "nowhere"), "traces")
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="ERASUREHEAD_DATA has no traces")


def summary(times: np.ndarray) -> Summary:
    return summarize(np.asarray(times, float), [f"w{j}" for j in range(times.shape[1])])


def steady(rounds: int = 40, workers: int = 8) -> np.ndarray:
    """Workers that are alike, and never slow."""
    return np.random.default_rng(0).uniform(1, 1.2, (rounds, workers))


def test_workers_that_are_alike():
    found = summary(steady())
    assert found.between < 0.05 and abs(found.lag_1) < 0.15 and not found.slow_rounds
    assert [worker.words for worker in found.workers] == [""] * 8
    assert found.all_s == pytest.approx(steady().max(1).mean())


def test_when_workers_are_slow_is_said():
    times = steady()
    times[:, 0] *= 4
    times[20:, 1] *= 4
    times[:12, 2] *= 4
    times[[*range(4, 12), *range(20, 28)], 3] *= 4
    words = [worker.words for worker in summary(times).workers]
    assert words[:4] == [
        "slow throughout",
        "slow from about round 20 on",
        "slow up to about round 9",
        "slow in 3 of 8 stretches of rounds",
    ]
    assert words[4:] == [""] * 4
    assert summary(times).between > 0.3


def test_missing_times_are_what_they_are():
    times = steady()
    times[25:, 0] = np.nan
    times[:7, 1] = np.nan
    times[10, 2] = np.nan
    found = summary(times)
    assert [worker.words for worker in found.workers][:3] == [
        "no more answers after round 24",
        "joins in round 7",
        "1 of its times is missing",
    ]
    assert found.missing == 15 + 7 + 1
    assert found.all_s == pytest.approx(np.nanmax(times, axis=1).mean())


def test_what_a_worker_costs():
    times = np.tile([1.0, 1, 1, 5, 3], (20, 1))
    found = summary(times)
    assert [worker.saved_s for worker in found.workers] == [0, 0, 0, 2, 0]  # then the next one is the last
    assert [worker.last for worker in found.workers] == [0, 0, 0, 1, 0]
    assert [(each.slowest, each.removed_s, each.replaced_s) for each in found.without] == [
        (["w3"], 3, 3),
        (["w3", "w4"], 1, 1),
        (["w3", "w4", "w0"], 1, 1),
    ]


def test_rounds_slow_for_all():
    times = steady()
    times[[3, 17]] *= 2
    assert summary(times).slow_rounds == [3, 17]


def test_variance_components():
    """One-way random effects and autocorrelation, of data made from their model."""
    rng = np.random.default_rng(0)
    logs = rng.normal(0, 2, 400) + rng.normal(0, 1, (50, 400))
    assert between_workers(logs) == pytest.approx(0.8, abs=0.04)
    gaps = np.where(rng.uniform(size=logs.shape) < 0.3, np.nan, logs)
    assert between_workers(gaps) == pytest.approx(0.8, abs=0.04)
    chain = np.zeros((2_000, 20))
    for t in range(1, len(chain)):
        chain[t] = 0.7 * chain[t - 1] + rng.normal(size=20)
    assert lag_1(chain) == pytest.approx(0.7, abs=0.02)


@needs_traces
@pytest.mark.parametrize(
    ("name", "between", "lag"),
    [
        ("ec2_data2", 0.80, 0.96),
        ("ec2_data4", 0.43, 0.54),
        ("ec2_data6", 0.30, 0.97),
        ("ec2_data8", 0.93, -0.11),
        ("gpu_llm_dp32", 0.00, 0.03),
        ("lambda_canada_long_load000", 0.16, -0.03),
        ("lambda_canada_resnet18_b256_load025", 0.23, -0.02),
    ],
)
def test_the_published_statistics_of_recordings(name: str, between: float, lag: float):
    logs = np.log(read_recording(str(TRACES / f"{name}.npz")).times_s)
    assert between_workers(logs) == pytest.approx(between, abs=0.006)
    assert lag_1(logs) == pytest.approx(lag, abs=0.006)


def report(path: Path, folder: Path) -> tuple[Traced, str]:
    console = Console(record=True, width=160, file=io.StringIO())
    (found,) = trace([path], out=folder, console=console)
    return found, console.export_text()


LONG = "iteration,worker,duration_ms\n"
LONG += "".join(f"{t},node-{j},{100 * (5 if j == 2 else 1) + t + j}\n" for t in range(30) for j in range(4))


def test_the_report_of_a_table(tmp_path: Path):
    (tmp_path / "times.csv").write_text(LONG)
    found, said = report(tmp_path / "times.csv", tmp_path / "out")
    assert "30 rounds of 4 workers" in said
    assert "worker in column worker, round in iteration, time in duration_ms" in said
    assert "column duration_ms: in ms, by its name" in said
    assert "worker node-2: slow throughout (4.5 times as long as the fast ones)." in said
    np.testing.assert_allclose(found.summary.median_s, 0.1165, atol=0.01)
    written = (tmp_path / "out" / "trace.md").read_text()
    assert "slow workers stay slow" in written and "![" in written and (tmp_path / "out" / "trace.png").stat().st_size


def test_the_fitted_model_is_a_delay_of_the_commands(tmp_path: Path):
    (tmp_path / "times.csv").write_text(LONG)
    report(tmp_path / "times.csv", tmp_path / "out")
    command = [sys.executable, "-m", "erasurehead_jax.whatif", "--config-dir", "out", "delay=fitted", "workers=4"]
    done = execute([*command, "load=2", "wait_for=3", "rounds=20", "seeds=2", "hydra.run.dir=run"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "timing.csv").is_file()


@needs_traces
def test_a_job_with_five_slow_workers_of_ten(tmp_path: Path):
    found, said = report(TRACES / "pai_job4.csv", tmp_path)
    assert "2183 rounds of 10 workers, 1 of the times missing" in said
    assert "workers 0, 5, 6, 7 and 8: slow throughout (3.3 to 4.5 times as long as the fast ones)." in said
    assert "normalised, by its name, and not seconds" in said
    assert found.summary.all_s == pytest.approx(368.7, abs=0.1)


@needs_traces
def test_recordings_of_several_loads_say_what_computing_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    console = Console(record=True, width=200, file=io.StringIO())
    loads = ("000", "025", "050", "075", "100")
    trace([TRACES / f"lambda_canada_long_load{load}.npz" for load in loads], console=console)
    assert "the median time is about 0.639 + 1.13 x load s: compute_s=1.13" in console.export_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LONG + "3,node-1,999\n", "1 times a worker is there twice in a round: its later answer, the larger time"),
        ("a,b\n" + "0.1,0.2\n" * 4, "Rounds are few (4): little is known"),
        ("a,b\n" + "0.1,0.2\n" * 4, "times: taken for seconds"),
        ("a,b\n" + "0.1,200\n" * 40, "are their times in another unit?"),
        (LONG.replace("duration_ms", "duration_norm"), "normalised, by its name, and not seconds"),
        (LONG.replace("\n7,node-1,108\n", "\n"), "30 rounds of 4 workers, 1 of the times missing"),
    ],
)
def test_doubts_are_said(text: str, says: str, tmp_path: Path):
    (tmp_path / "times.csv").write_text(text)
    assert says in report(tmp_path / "times.csv", tmp_path / "out")[1]


def test_a_unit_that_is_given(tmp_path: Path):
    (tmp_path / "times.csv").write_text("a,b\n" + "100,200\n" * 12)
    assert read_recording(str(tmp_path / "times.csv"), unit="ms").times_s[0].tolist() == pytest.approx([0.1, 0.2])


TWO_BY_THREE = [[0.1, 0.11, 0.12], [0.2, 0.21, 0.22]]


@pytest.mark.parametrize(
    ("text", "workers"),
    [
        ("worker_0,worker_1,worker_2\n0.1,0.11,0.12\n0.2,0.21,0.22\n", ["worker_0", "worker_1", "worker_2"]),
        ("step,w2_s,w10_s,w11_s\n5,0.1,0.11,0.12\n6,0.2,0.21,0.22\n", ["w2_s", "w10_s", "w11_s"]),
        ("worker,round_0,round_1\nb10,0.11,0.21\nb2,0.1,0.2\nc,0.12,0.22\n", ["b2", "b10", "c"]),
        ("timestamp,a,b,c\n1700000000,0.1,0.11,0.12\n1700000001,0.2,0.21,0.22\n", ["a", "b", "c"]),
        (
            "host,batch,time_ms\n"
            + "".join(f"node-{j},r{t},{t * 100 + i * 10}\n" for t in (1, 2) for i, j in enumerate((1, 9, 10))),
            ["node-1", "node-9", "node-10"],
        ),
        ("worker,seconds\n0,0.1\n1,0.11\n2,0.12\n0,0.2\n1,0.21\n2,0.22\n,7\n", ["0", "1", "2"]),
    ],
    ids=["numbered", "numbered with rounds", "a row a worker", "with dates", "natural order", "a row without a worker"],
)
def test_tables_as_people_have_them(text: str, workers: list[str], tmp_path: Path):
    (tmp_path / "times.csv").write_text(text)
    found = read_recording(str(tmp_path / "times.csv"))
    assert found.workers == workers
    np.testing.assert_allclose(found.times_s, TWO_BY_THREE, rtol=1e-6)


def test_a_single_round_in_long_form(tmp_path: Path):
    (tmp_path / "times.csv").write_text("worker,iteration,seconds\n0,1,0.1\n1,1,0.11\n2,1,0.12\n")
    np.testing.assert_allclose(read_recording(str(tmp_path / "times.csv")).times_s, TWO_BY_THREE[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iteration;worker;seconds\n1;0;0.1\n", "has a single column"),
        ("0.1,0.2\n0.1,0.2\n", "has numbers in place of a header"),
        ("worker,start_time,end_time\n0,1700000000,1700000001\n1,1700000000,1700000002\n", "look like dates"),
        ("step,epoch\n1,1\n2,1\n", "has no column that can be times"),
        (LONG.replace("duration_ms", "speed"), "has no column that can be times, beside worker="),
        (LONG.replace("113", "-113"), "times must be finite and not negative"),
        (LONG.replace("113", "113ms"), "column duration_ms, row 43 (counted from 0): '113ms' must be a number"),
        ("", "is empty"),
        ("worker,iteration,seconds\n", "has no rows"),
    ],
)
def test_refusals(text: str, message: str, tmp_path: Path):
    (tmp_path / "times.csv").write_text(text)
    with pytest.raises(ConfigError) as refused:
        trace([tmp_path / "times.csv"], out=tmp_path / "out")
    assert message in str(refused.value) and not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path):
    (tmp_path / "times.csv").write_text(LONG)
    command = [sys.executable, "-m", "erasurehead_jax.trace"]
    done = execute([*command, "times.csv"], tmp_path)
    assert done.returncode == 0 and (tmp_path / "outputs" / "trace-times" / "trace.md").is_file(), done.stderr
    for arguments in (["nowhere.csv"], ["times.csv", "times.csv", "--out", "x"]):
        refused = execute([*command, *arguments], tmp_path)
        assert refused.returncode == 2 and refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1


@pytest.mark.mpi
@pytest.mark.parametrize(("scheme", "status"), [("egc", 0), ("uncoded", 3)])
def test_a_dead_worker_is_replayed_alike_on_both_backends(scheme: str, status: int, tmp_path: Path):
    times_s = np.tile([0.01, 0.02, 0.015, 0.012], (10, 1))
    times_s[4:, 1] = np.nan
    np.savez(tmp_path / "times.npz", times_s=times_s)
    replay = ("delay=trace", f"delay.path={tmp_path / 'times.npz'}", "delay.missing=dead", f"scheme={scheme}")
    runs = []
    for backend in ("mpi", "simulate"):
        (tmp_path / backend).mkdir()
        settings = (*SMALL_DATA, *replay, "workers=4", "load=2", "rounds=10", "x64=true", "tracking=none")
        runs.append(train(tmp_path / backend, *settings, f"backend={backend}"))
    for run in runs:
        assert run.status == status, run.err
        assert run.summary["lost_workers"] == [{"worker": 1, "round": 4}]
        assert run.summary["rounds"] == (10 if status == 0 else 4)
    real, simulated = runs
    np.testing.assert_array_equal(real.history["lost"], simulated.history["lost"])
    np.testing.assert_allclose(real.history["train_loss"], simulated.history["train_loss"], rtol=1e-12)
