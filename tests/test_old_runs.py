"""Run directories of version 0.1 can still be reported and resumed.

tests/data/v0.1 holds run directories of version 0.1: a finished run with an exact code and one without, one that was
killed after five of forty rounds, and a what-if (without its figures).
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import TESTS, execute, train

OLD = TESTS / "data" / "v0.1"


@pytest.mark.mpi
def test_a_run_of_version_0_1_is_resumed(tmp_path: Path):
    shutil.copytree(OLD / "stopped", tmp_path / "run")
    before = (OLD / "stopped" / "history.csv").read_text().splitlines()
    run = train(tmp_path, "resume=run", "rounds=8")
    assert run.status == 0, run.err
    assert run.history["round"].tolist() == list(range(8)) and run.history.notna().all().all()
    now = (run.run_dir / "history.csv").read_text().splitlines()
    assert [line.split(",")[:8] for line in now[1:6]] == [line.split(",")[:8] for line in before[1:6]]
    assert np.diff(run.history["clock_s"]).min() > 0


def test_runs_of_version_0_1_are_reported(tmp_path: Path):
    shutil.copytree(OLD, tmp_path / "runs")
    done = execute([sys.executable, "-m", "erasurehead_jax.report", tmp_path / "runs"], tmp_path)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert "egc c=2" in report and "uncoded" in report
    assert f"skipped {tmp_path / 'runs' / 'stopped'}: unfinished" in done.stdout
    assert "What if" in report
