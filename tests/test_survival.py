"""Real ranks that are killed, frozen, interrupted and resumed, and faulty answers."""

import contextlib
import os
import platform
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from harness import LIMIT_S, SMALL, SMALL_DATA, TESTS, Finished, Live, execute, ranks_of, train

from erasurehead_jax import FractionalRepetition
from erasurehead_jax.cluster.launch.command import find_program
from erasurehead_jax.cluster.launch.output import Output
from erasurehead_jax.cluster.signals import CONNECTED, MARK

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
TWELVE = (*SMALL_DATA, "workers=12", "load=3", "wait_for=8", "optimizer.step_size=2", "tracking=none", "x64=true")
SLEEPS = ("delay=exponential", "delay.mean_s=0.005")
LONG_SLEEPS = (
    "delay=exponential",
    "delay.mean_s=0.05",
)  # rounds so long that a busy machine still kills in the one meant
GROUPS = sorted(np.flatnonzero(row).tolist() for row in np.unique(FractionalRepetition(12, 12, 3).holds, axis=0))
ENDED_WITHIN_S = 10  # what the documentation promises
# Five instants in a round, far enough apart that the order of arrival is certain.
ORDERED = (*SMALL, "x64=true", "delay._target_=harness.Spaced", "checkpoint.every=3", "rounds=20")


def victims(rng: random.Random, most: int) -> list[int]:
    """Workers to kill, in order; every group that holds the same blocks keeps one worker."""
    spare = [worker for group in GROUPS for worker in rng.sample(group, len(group) - 1)]
    return rng.sample(spare, rng.randint(1, most))


def killed_at_random(folder: Path, rng: random.Random, scheme: str, rounds: int = 60) -> tuple[Finished, list[int]]:
    """A run whose workers are killed at random rounds, and the killed workers."""
    with Live(folder, *TWELVE, *LONG_SLEEPS, f"scheme={scheme}", f"rounds={rounds}") as run:
        lost = victims(rng, 6)
        for at, worker in zip(sorted(rng.sample(range(rounds - 20), len(lost))), lost, strict=True):
            run.wait_for_rows(at)
            run.send(worker, signal.SIGKILL)
        return run.finish(), lost


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The loss of exact gradient descent, which does not depend on which workers compute it."""
    return train(tmp_path_factory.mktemp("run"), *TWELVE, "scheme=egc", "rounds=60")


@pytest.mark.parametrize(("scheme", "seed"), [("egc", 0), pytest.param("erasurehead", 2, marks=pytest.mark.soak)])
def test_killed_workers_are_not_missed(tmp_path: Path, undisturbed: Finished, scheme: str, seed: int):
    run, lost = killed_at_random(tmp_path, random.Random(seed), scheme)
    check_killed(run, lost, undisturbed if scheme == "egc" else None)


def check_killed(run: Finished, lost: list[int], expected: Finished | None) -> None:
    """Asserts status 0, complete rows, all dead workers named, and the loss of an undisturbed run."""
    assert run.status == 0, run.err
    assert sorted(row["worker"] for row in run.summary["lost_workers"]) == sorted(lost)
    assert all(f"worker {worker} on {platform.node()} is lost" in run.err for worker in lost)
    history = run.history
    assert history["round"].tolist() == list(range(60))
    assert history["lost"].tolist()[-1] == len(lost)
    assert ranks_of(run.run_dir) == {}
    if expected:
        np.testing.assert_allclose(history["train_loss"], expected.history["train_loss"], rtol=1e-10)


def test_without_a_whole_group_the_run_stops_and_can_be_resumed(tmp_path: Path, undisturbed: Finished):
    overrides = (*TWELVE, *SLEEPS, "scheme=egc", "rounds=60")
    with Live(tmp_path, *overrides) as run:
        run.wait_for_rows(20)
        for worker in GROUPS[1]:
            run.send(worker, signal.SIGKILL)
        stopped = run.finish()
    assert stopped.status == 3
    assert "no more can arrive (lost workers: 3, 4, 5;" in stopped.err and f"resume={run.run_dir}" in stopped.err
    assert stopped.summary["interrupted"] and 20 <= stopped.summary["rounds"] < 60
    with Live(tmp_path, f"resume={run.run_dir}", "cluster.on_loss=approximate") as again:
        rounds = stopped.summary["rounds"] + 5
        again.wait_for_rows(rounds)
        for worker in GROUPS[0]:
            again.send(worker, signal.SIGKILL)
        finished = again.finish()
    assert finished.status == 0, finished.err
    history, lost = finished.history, finished.summary["lost_workers"]
    assert history["round"].tolist() == list(range(60))
    assert [set(GROUPS[1]), set(GROUPS[0])] == [{row["worker"] for row in part} for part in (lost[:3], lost[3:])]
    assert set(history["exact"].tolist()[:rounds]) == {1}
    assert history["decode_error"].tolist()[-1] == 3
    np.testing.assert_allclose(history["train_loss"][:rounds], undisturbed.history["train_loss"][:rounds], rtol=1e-10)
    assert max(finished.summary["telemetry"]["blocks"]["longest_gap"]) >= 60 - rounds - 20


def test_frozen_workers_delay_neither_a_round_nor_the_end(tmp_path: Path):
    with Live(tmp_path, *TWELVE, *SLEEPS, "scheme=egc", "rounds=500", "cluster.heartbeat_s=0.1") as run:
        run.wait_for_rows(10)
        for worker in (0, 5):
            run.send(worker, signal.SIGSTOP)
        run.wait_for_log("worker 0 on")
        run.send(0, signal.SIGCONT)
        run.wait_for_log("worker 0 responds again")
        run.send(0, signal.SIGSTOP)
        finished = run.finish()
    assert finished.status == 0, finished.err
    assert ranks_of(run.run_dir) == {}
    assert (
        f"worker 5 on {platform.node()} is suspected: no heartbeat for 0.1 s" in finished.err
        and "worker 0 responds again" in finished.err
    )
    assert "workers [0, 5] hang and will be killed" in finished.err
    assert finished.summary["lost_workers"] == []
    assert (
        max(finished.history["round_s"].tolist()) < 5
    )  # this does not depend on speed: a round that waited would never end


def test_a_worker_silent_for_too_long_is_lost_for_good(tmp_path: Path):
    """Even if it resumes, its answers are not used any more; it shuts down like the others."""
    limits = ("cluster.heartbeat_s=0.2", "cluster.lost_s=0.6")
    with Live(tmp_path, *TWELVE, *LONG_SLEEPS, *limits, "scheme=egc", "rounds=120") as run:
        run.wait_for_rows(10)
        run.send(5, signal.SIGSTOP)
        run.wait_for_log(f"worker 5 on {platform.node()} is lost")
        run.send(5, signal.SIGCONT)
        finished = run.finish()
    assert finished.status == 0 and "hang" not in finished.err, finished.err
    (lost,) = finished.summary["lost_workers"]
    assert lost["worker"] == 5 and set(finished.history["exact"]) == {1}
    assert np.isnan(finished.arrival_s[lost["round"] :, 5]).all()
    assert finished.summary["cancelled"] >= 0


def test_a_worker_that_dies_before_the_first_round(tmp_path: Path):
    with Live(tmp_path, *SMALL, "scheme=egc") as run:
        run.wait_for_log(CONNECTED)
        run.send(1, signal.SIGKILL)
        finished = run.finish()
    assert finished.status == 0, finished.err
    assert finished.summary["lost_workers"] == [{"worker": 1, "round": 0}]


def test_a_worker_that_dies_before_mpi_is_up(tmp_path: Path):
    """Otherwise the other ranks would wait for it for ever."""
    with Live(tmp_path, *SMALL, "scheme=egc") as run:
        while len(ranks_of(run.run_dir)) < 5:
            time.sleep(0.001)
        run.send(2, signal.SIGSTOP)  # MPI cannot be up without it
        time.sleep(0.5)  # the launcher has counted them
        run.send(1, signal.SIGKILL)
        finished = run.finish()
    assert finished.status == 1
    assert finished.err.count("a rank died or hung while the job was starting") == 1
    assert ranks_of(run.run_dir) == {}


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory):
    """Uninterrupted runs, by optimizer."""
    made: dict[str, Finished] = {}

    def run(optimizer: str) -> Finished:
        if optimizer not in made:
            made[optimizer] = train(tmp_path_factory.mktemp("run"), *ORDERED, f"optimizer={optimizer}")
            assert made[optimizer].status == 0, made[optimizer].err
        return made[optimizer]

    return run


def check_same(resumed: Finished, expected: Finished) -> None:
    """Asserts that everything but the times is bit-identical."""
    assert resumed.status == 0, resumed.err
    clocks = ["clock_s", "round_s", "lost", "received_bytes"]
    ours, theirs = resumed.history.drop(columns=clocks), expected.history.drop(columns=clocks)
    assert ours.equals(theirs), ours.compare(theirs)
    assert resumed.history["clock_s"].is_monotonic_increasing
    x, y = (np.load(run.run_dir / "model.npz")["x"] for run in (resumed, expected))
    np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(np.isnan(resumed.arrival_s), np.isnan(expected.arrival_s))


@pytest.mark.parametrize(("optimizer", "rows"), [pytest.param("gd", 2, marks=pytest.mark.soak), ("agd", 19)])
def test_a_killed_master_is_resumed_bit_for_bit(tmp_path: Path, ordered, optimizer: str, rows: int):
    kill_and_resume(tmp_path, optimizer, rows, ordered(optimizer))


def kill_and_resume(folder: Path, optimizer: str, rows: int, expected: Finished, pause_s: float = 0.0) -> None:
    """Kills rank 0 after this many rounds and a pause, and resumes the run."""
    with Live(folder, *ORDERED, f"optimizer={optimizer}") as run:
        run.wait_for_rows(rows)
        time.sleep(pause_s)
        run.send(-1, signal.SIGKILL)
        began_s = time.monotonic()
        killed = run.finish()
        while ranks_of(run.run_dir):
            assert time.monotonic() < began_s + ENDED_WITHIN_S
            time.sleep(0.05)
    assert killed.status == 1 and "the master (rank 0) is lost" in killed.err and "Traceback" not in killed.err
    assert (run.run_dir / "history.csv").read_text().endswith("\n")
    with Live(folder, f"resume={run.run_dir}") as again:
        check_same(again.finish(), expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.soak)])
def test_asked_to_end(tmp_path: Path, ordered, number: signal.Signals):
    """What SLURM and spot instances send: a checkpoint, a status that says so, and on it goes."""
    with Live(tmp_path, *ORDERED, "optimizer=agd") as run:
        run.wait_for_rows(7)
        run.process.send_signal(number)
        asked = run.finish()
    assert asked.status == 4
    assert "stopped on request after" in asked.err and f"with resume={run.run_dir}" in asked.err
    assert asked.summary["interrupted"] and asked.history.notna().all().all()
    if number == signal.SIGTERM:
        with Live(tmp_path, f"resume={run.run_dir}") as again:
            check_same(again.finish(), ordered("agd"))


def test_nan_is_an_erasure(tmp_path: Path, undisturbed: Finished):
    """From one worker of a group in every round: reported once, counted in every round it came, never added."""
    bad = ("objective._target_=harness.NanOnRank", "+objective.rank=3")
    run = train(tmp_path, *TWELVE, *SLEEPS, "scheme=egc", "rounds=60", *bad)
    assert run.status == 0, run.err
    np.testing.assert_allclose(run.history["train_loss"], undisturbed.history["train_loss"], rtol=1e-10)
    assert run.err.count("faulty answer from worker 2 in round") == 1
    faulty = run.summary["telemetry"]["workers"]["faulty"]
    assert faulty[2] == run.summary["faulty_answers"] == sum(run.history["faulty"].tolist()) > 0
    assert sum(faulty) == faulty[2]
    assert run.summary["telemetry"]["workers"]["used"][2] == 0


def test_divergence_keeps_the_last_finite_model(tmp_path: Path):
    run = train(tmp_path, *SMALL, "optimizer.step_size=1e37", "init=normal", "l2=10", "checkpoint.every=1")
    assert run.status == 5
    assert "use a smaller step size" in run.err and "Traceback" not in run.err
    assert np.isfinite(np.load(run.run_dir / "model.npz")["x"]).all()
    assert run.summary["interrupted"] and run.summary["rounds"] == len(run.history)


def test_messages_of_a_wrong_length_or_from_the_dead(tmp_path: Path):
    """tests/odd_worker.py: rank 0 is the real transport, rank 1 sends what it should not, rank 2 dies."""
    line = [find_program({"program": "mpirun"}), "-n", "3", "--with-ft", "ulfm", "--map-by", ":OVERSUBSCRIBE"]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    line += [sys.executable, str(TESTS / "odd_worker.py")]
    done = execute(line, tmp_path, **root)
    told = [line for line in done.stdout.splitlines() if line.startswith("heard")]
    assert told == [
        "heard Answer(round=-1, message=0)",
        "heard Faulty(message=0)",
        "heard Faulty(message=0)",
        "heard Answer(round=7, message=0)",
        "heard Lost(worker=1)",
    ], done.stdout + done.stderr


# A shell's `&` makes its children ignore Ctrl-C; these must not.
HEED_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
# Worker 1 answers and worker 3 never does: Ctrl-C comes in the middle of collecting, or of draining.
HALF_WAY = ("delay._target_=harness.Fixed", "+delay.seconds=[0.0,0.0,0.0,3600]")


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [
        pytest.param((), 5, id="between answers", marks=pytest.mark.soak),
        pytest.param(("scheme=uncoded", *HALF_WAY), 0, id="collecting"),
        pytest.param(("scheme=erasurehead", "late=wait", *HALF_WAY), 0, id="draining"),
    ],
)
def test_ctrl_c_keeps_what_was_done(tmp_path: Path, overrides: tuple[str, ...], rows: int):
    with Live(tmp_path, *SMALL, "rounds=100000", *overrides, before=(sys.executable, "-c", HEED_CTRL_C)) as live:
        live.wait_for_rows(rows)
        time.sleep(1)
        live.process.send_signal(signal.SIGINT)
        run = live.finish()
    assert run.status == 130
    assert "interrupted" in run.err and "Traceback" not in run.err
    assert len(run.history) >= rows and run.history.notna().all().all()
    assert run.summary["interrupted"] and run.summary["rounds"] == len(run.history) == len(run.arrival_s)
    assert run.summary["cancelled"] >= 0
    names = {path.name for path in run.run_dir.iterdir()}
    assert "model.npz" in names and not names & {"error.txt", "outcome.json"}
    assert ranks_of(run.run_dir) == {}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGHUP, marks=pytest.mark.soak), signal.SIGKILL])
def test_no_rank_outlives_the_launcher(tmp_path: Path, number: signal.Signals):
    with Live(tmp_path, *SMALL, "rounds=100000") as run:
        run.wait_for_rows(1)
        run.process.send_signal(number)
        run.process.wait()
        until_s = time.monotonic() + LIMIT_S
        while ranks_of(run.run_dir):
            assert time.monotonic() < until_s
            time.sleep(0.1)


def test_a_slow_signal_handler_does_not_stop_the_launcher(tmp_path: Path):
    """SimpleQueue.get(timeout) never returns if a handler runs beyond the timeout (CPython 3.11)."""
    read, write = os.pipe()
    output = Output(os.fdopen(read, "rb"), tmp_path / "log")
    before = signal.signal(signal.SIGUSR1, lambda *_: time.sleep(0.2))
    end = threading.Timer(10, os.close, [write])  # a launcher that waits then sees the message
    os.write(write, f"{MARK}Connected {{}}".encode())
    end.start()
    try:
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        assert output.next_message(0.1) is None
    finally:
        signal.signal(signal.SIGUSR1, before)
        end.cancel()
        with contextlib.suppress(OSError):  # closed by the timer
            os.close(write)
        output.close(10.0)


def test_ctrl_c_while_the_ranks_start(tmp_path: Path):
    with Live(tmp_path, *SMALL, before=(sys.executable, "-c", HEED_CTRL_C)) as run:
        while not ranks_of(run.run_dir):
            time.sleep(0.05)
        os.kill(run.process.pid, signal.SIGINT)
        finished = run.finish()
    assert finished.status == 130 and "Traceback" not in finished.err
    assert ranks_of(run.run_dir) == {}
