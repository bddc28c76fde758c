"""Jobs on a real one-node SLURM cluster, started by tests/one_node_slurm.sh: launchers and preemption."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import LIMIT_S, SMALL_DATA, TESTS, Finished, command, environment, train

from erasurehead_jax.cluster.launch.explain import explain
from erasurehead_jax.cluster.signals import CONNECTED

# All answers of a round are added in the order of the messages, so that results are bit-identical.
CERTAIN = (*SMALL_DATA, "scheme=uncoded", "rounds=150", "delay=exponential", "delay.mean_s=0.02", "tracking=none")
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment from which jobs are submitted."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if os.getuid() or missing:
        pytest.skip(f"needs root, and Debian's slurm-wlm, munge and libpmix-dev (missing: {', '.join(missing)})")
    folder = tmp_path_factory.mktemp("slurm")
    script = TESTS / "one_node_slurm.sh"
    began = subprocess.run([script, "up", folder], capture_output=True, text=True, timeout=LIMIT_S)
    if began.returncode:
        subprocess.run([script, "down", folder], timeout=LIMIT_S)
        pytest.skip(f"SLURM does not start here: {began.stderr}")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    yield environment(SLURM_CONF=str(folder / "slurm.conf"), PATH=path)
    subprocess.run([script, "down", folder], check=True, timeout=LIMIT_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder from which jobs are submitted: a checkout."""
    (tmp_path / "launchers").symlink_to(TESTS.parent / "launchers")
    return tmp_path


def sh(slurm: dict[str, str], folder: Path, *line: str, status: int = 0) -> str:
    done = subprocess.run(line, cwd=folder, env=slurm, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


def until(true: Callable[[], bool], what: str) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < limit_s, what
        time.sleep(0.1)


def rounds(run_dir: Path) -> int:
    history = run_dir / "history.csv"
    return history.read_bytes().count(b"\n") - 1 if history.exists() else 0


def whole(run_dir: Path) -> bool:
    summary = run_dir / "summary.json"
    return summary.exists() and not json.loads(summary.read_text())["interrupted"]


def state(slurm: dict[str, str], folder: Path, job: str) -> str:
    return sh(slurm, folder, "squeue", "--noheader", "--format=%T", "--array", f"--jobs={job}")


def preempt(slurm: dict[str, str], folder: Path, job: str, run_dir: Path, *signal: str) -> None:
    """Preempts a job in the middle of a run, as SLURM does near a job's time limit; returns when it is queued again."""
    until(lambda: rounds(run_dir) > 40, "no 40 rounds")
    sh(slurm, folder, "scancel", *signal, job)
    until(lambda: state(slurm, folder, job).startswith("PENDING"), "not queued again")
    assert 40 < rounds(run_dir) < 150


def go_on(slurm: dict[str, str], folder: Path, job: str, *run_dirs: Path) -> None:
    """Continues until the runs are complete, sooner than SLURM's two minutes, but not before credentials are valid."""
    sh(slurm, folder, "scontrol", "update", f"JobId={job}", "StartTime=now+3seconds")
    until(lambda: all(map(whole, run_dirs)), "the job does not end")


def alike(run_dir: Path, undisturbed: Finished) -> None:
    """Asserts bit-identical iterates."""
    run = Finished(0, "", "", run_dir)
    times = ["clock_s", "round_s", "received_bytes", "last_host"]
    pd.testing.assert_frame_equal(run.history.drop(columns=times), undisturbed.history.drop(columns=times))
    ours, theirs = (np.load(each.run_dir / "model.npz")["x"] for each in (run, undisturbed))
    assert (ours == theirs).all() and not run.summary["interrupted"]


@pytest.fixture(scope="module")
def undisturbed(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same run as the jobs', without SLURM."""
    return train(tmp_path_factory.mktemp("alone"), *CERTAIN, "workers=4")


@pytest.mark.clusters
def test_a_job_that_is_preempted_goes_on(slurm: dict[str, str], folder: Path, undisturbed: Finished):
    job = sh(slurm, folder, "sbatch", "--parsable", "--ntasks=5", "launchers/slurm/train.sbatch", *CERTAIN).strip()
    run_dir = folder / "outputs" / f"slurm-{job}"
    preempt(slurm, folder, job, run_dir, "--signal=USR1", "--batch")
    go_on(slurm, folder, job, run_dir)
    log = (folder / f"slurm-{job}.log").read_text()
    assert "stopped on request after" in log and "Traceback" not in log
    alike(run_dir, undisturbed)


@pytest.mark.clusters
def test_a_job_that_is_cancelled_does_not_come_back(slurm: dict[str, str], folder: Path):
    job = sh(slurm, folder, "sbatch", "--parsable", "--ntasks=5", "launchers/slurm/train.sbatch", *CERTAIN).strip()
    until(lambda: rounds(folder / "outputs" / f"slurm-{job}") > 10, "no rounds")
    sh(slurm, folder, "scancel", job)
    until(lambda: "CANCELLED" in sh(slurm, folder, "scontrol", "show", "job", job), "not cancelled")
    time.sleep(5)
    assert "JobState=CANCELLED" in sh(slurm, folder, "scontrol", "show", "job", job)
    assert "error: gone.txt has no line" in sh(
        slurm, folder, "bash", "-c", "SLURM_ARRAY_TASK_ID=1 bash launchers/slurm/sweep.sbatch gone.txt 2>&1; true"
    )


@pytest.mark.clusters
def test_a_sweep_that_is_preempted_goes_on(slurm: dict[str, str], folder: Path, undisturbed: Finished):
    """Two jobs of two runs each, with mpirun and with srun; the first is preempted in its second run."""
    lines = [f"{line} {' '.join(CERTAIN)}" for line in ("seed=1,0", "seed=0,2 cluster=slurm_srun")]
    (folder / "sweep.txt").write_text("\n".join(lines) + "\n")
    script = ("launchers/slurm/sweep.sbatch", "sweep.txt")
    job = sh(slurm, folder, "sbatch", "--parsable", "--array=1-2", "--ntasks=5", *script).strip()
    sweep = folder / "outputs" / f"slurm-{job}"
    preempt(slurm, folder, f"{job}_1", sweep / "1" / "1-uncoded", "--signal=USR1", "--batch")
    runs = [sweep / "1" / "0-uncoded", sweep / "1" / "1-uncoded", sweep / "2" / "0-uncoded", sweep / "2" / "1-uncoded"]
    go_on(slurm, folder, f"{job}_1", *runs)
    started = [(run / "train.log").read_text().count(CONNECTED) for run in runs]
    assert started == [1, 1, 1, 0]  # the preempted run's second half has new ranks
    alike(runs[1], undisturbed)
    alike(runs[2], undisturbed)


@pytest.mark.clusters
def test_a_sweep_from_a_login_node(slurm: dict[str, str], folder: Path, undisturbed: Finished):
    line = command("-m", *CERTAIN, "workers=4", "seed=0", "resume=auto", "hydra/launcher=slurm")
    line += ["hydra.launcher.cpus_per_task=5", "hydra.sweep.dir=sweep"]
    captured = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(line, cwd=folder, env=slurm, **captured) as live:
        run_dir = folder / "sweep" / "0-uncoded"
        until(lambda: rounds(run_dir) > 0, "no rounds")
        job = sh(slurm, folder, "squeue", "--noheader", "--format=%A").split()[0]
        preempt(slurm, folder, job, run_dir, "--signal=USR2")
        go_on(slurm, folder, job, run_dir)
        out, _ = live.communicate(timeout=LIMIT_S)
    assert live.returncode == 0, out
    alike(run_dir, undisturbed)


@pytest.mark.clusters
def test_what_does_not_fit_slurm_is_one_line(slurm: dict[str, str], folder: Path):
    def told(*overrides: str) -> str:
        line = ("salloc", "--quiet", "--ntasks=5", *command(*CERTAIN, "cluster=slurm_srun", "workers=4", *overrides))
        lines = [line for line in sh(slurm, folder, *line, status=2).splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        return lines[0]

    assert "workers=9: needs 10 ranks with the master, but the job has 5 tasks; request --ntasks=10" in told(
        "workers=9"
    )
    assert "this SLURM has no PMIx" in told('cluster.options=["--mpi=pmix_v99"]', "hydra.run.dir=a")
    assert "mpi4py sees 1 ranks instead of 5" in told('cluster.options=["--mpi=none"]', "hydra.run.dir=b")


OWN_LOOP = """
import jax.numpy as jnp
import erasurehead_jax as eh

with eh.coded_gradient(lambda p, x: (p * x) ** 2, 1.0, (jnp.ones(12),), eh.egc(4, 2)) as gradient:
    print(*gradient(3.0))
"""


@pytest.mark.clusters
@pytest.mark.parametrize("cluster", ["slurm_srun", "slurm_mpirun"])
def test_a_loop_of_ones_own(slurm: dict[str, str], folder: Path, cluster: str):
    (folder / "mine.py").write_text(OWN_LOOP)
    line = [sys.executable, "-m", "erasurehead_jax.run", "-n", "4", f"cluster={cluster}", "mine.py"]
    said = sh(slurm, folder, "salloc", "--quiet", "--ntasks=5", *line)
    assert said.startswith("6.0 Info(round=0, exact=True"), said


def test_what_srun_says_without_pmix():
    """srun's output on Debian without libpmix-dev."""
    said = "srun: error:  mpi/pmix_v4: init: (null) [0]: mpi_pmix.c:195: pmi/pmix: can not load PMIx library\n"
    assert "use cluster=slurm_mpirun" in str(explain(said))
    assert explain("srun: error: node1: tasks 0-3: Exited with exit code 1\n") is None  # the ranks report the reason
