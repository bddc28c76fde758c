"""The jobs of a multirun share their ranks: results, failures and dead workers."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import LIMIT_S, SMALL, TESTS, Finished, command, execute, ranks_of, train

from erasurehead_jax.cluster.signals import CONNECTED

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
CERTAIN = (*SMALL, "delay._target_=harness.Spaced", "checkpoint.every=3")  # the order of arrival is certain


def multirun(folder: Path, *overrides: str) -> list[Finished]:
    """The results of all jobs, in order; each has the status of the multirun."""
    where = (f"hydra.sweep.dir={folder / 'sweep'}", "hydra.sweep.subdir=${hydra:job.num}")
    done = execute(command("-m", *overrides, *where), folder)
    jobs = sorted((folder / "sweep").glob("[0-9]*"), key=lambda path: int(path.name))
    return [Finished(done.returncode, done.stdout, done.stderr, job) for job in jobs]


def starts(jobs: list[Finished]) -> list[int]:
    """The jobs for which ranks were started."""
    return [i for i, job in enumerate(jobs) if CONNECTED in (job.run_dir / "train.log").read_text()]


def test_as_if_each_were_alone(tmp_path: Path):
    """Results are bit-identical though precision or data change between jobs; each log is in its own run."""
    jobs = multirun(tmp_path, *CERTAIN, "scheme=erasurehead", "x64=true,false", "data.rows=1003,803")
    assert [job.status for job in jobs] == [0] * 4, jobs[0].err
    assert starts(jobs) == [0]
    for i in (0, 3):
        settings = ("scheme=erasurehead", f"x64={['true', 'false'][i // 3]}")
        (tmp_path / str(i)).mkdir()
        alone = train(tmp_path / str(i), *CERTAIN, *settings, f"data.rows={[1003, 803][i // 3]}")
        times = ["clock_s", "round_s"]
        pd.testing.assert_frame_equal(jobs[i].history.drop(columns=times), alone.history.drop(columns=times))
        ours, theirs = (np.load(run.run_dir / "model.npz")["x"] for run in (jobs[i], alone))
        assert ours.dtype == theirs.dtype and (ours == theirs).all()
        assert {path.name for path in jobs[i].run_dir.iterdir()} == {path.name for path in alone.run_dir.iterdir()}
    assert all("8 rounds in" in (job.run_dir / "train.log").read_text() for job in jobs)
    assert not [pid for job in jobs for pid in ranks_of(job.run_dir)]


def test_a_job_fails_alone(tmp_path: Path):
    """It raises on the master, and the next job gets new ranks."""
    jobs = multirun(tmp_path, *SMALL, "data._target_=harness.broken_on_rank", "+data.rank=0,99")
    assert [(job.run_dir / "summary.json").exists() for job in jobs] == [False, True]
    assert starts(jobs) == [0, 1]
    assert jobs[0].status == 1 and "the disk of this rank is on fire" in jobs[0].err


def test_a_refused_job_fails_alone(tmp_path: Path):
    jobs = multirun(tmp_path, *SMALL, "load=2,3,1")
    assert [job.run_dir.name for job in jobs] == ["0", "2"] and starts(jobs) == [0]
    assert jobs[0].status == 2 and "error: load=3: must divide blocks=4" in jobs[0].err


def test_other_ranks_for_another_number_of_workers(tmp_path: Path):
    jobs = multirun(tmp_path, *SMALL, "workers=4,6")
    assert [job.status for job in jobs] == [0, 0], jobs[0].err
    assert starts(jobs) == [0, 1]


def test_dead_workers_are_replaced(tmp_path: Path):
    """One worker is killed during the first job, and one while the ranks wait for the third."""
    done = execute([sys.executable, TESTS / "killed_between.py", *CERTAIN, "scheme=egc"], tmp_path, 2 * LIMIT_S)
    assert done.returncode == 0, done.stderr
    jobs = [Finished(0, "", "", tmp_path / name / "0") for name in ("first", "second", "third")]
    assert [len(job.history) for job in jobs] == [8] * 3
    assert [[row["worker"] for row in job.summary["lost_workers"]] for job in jobs] == [[1], [], []]
    assert starts(jobs) == [0, 1, 2]
