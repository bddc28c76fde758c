"""The run directory: full disks, removed directories, and two processes that use the same one."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import SMALL, Live, ranks_of, train, train_cold

from erasurehead_jax.cluster.protocol import Event, Proceed
from erasurehead_jax.cluster.replay import recording
from erasurehead_jax.errors import StorageFailed
from erasurehead_jax.rundir.files import EVENTS, LOCK, owned

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
EGC = (*SMALL, "scheme=egc", "rounds=400", "checkpoint.every=20", "delay=exponential", "delay.mean_s=0.002")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], check=False).returncode == 0
    if not mounted:
        pytest.skip("needs root, to mount a disk of 3 MB")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Writes a file that leaves this many bytes free."""
    filler = disk / "filler"
    filler.write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave))
    return filler


def test_a_full_disk_is_one_line_a_whole_checkpoint_and_a_resume(small_disk: Path):
    """Iterates are kept on disk until they are evaluated: 201 parameters of 4 bytes per round."""
    filler = fill(small_disk, leave=250_000)
    full = train(small_disk, *EGC)
    assert full.status == 6, full.err
    (line,) = [line for line in full.err.splitlines() if "cannot be written" in line]
    assert line.startswith(f"run directory {full.run_dir} cannot be written: No space left on device")
    assert f"with resume={full.run_dir}" in line and "Traceback" not in full.err
    assert ranks_of(full.run_dir) == {}
    filler.unlink()
    resumed = train(small_disk, f"resume={full.run_dir}")
    assert resumed.status == 0, resumed.err
    assert resumed.history["round"].tolist() == list(range(400)) and resumed.history.notna().all().all()


@pytest.mark.parametrize("backend", ["mpi", "simulate"])
def test_a_start_on_a_full_disk_leaves_nothing(small_disk: Path, backend: str):
    filler = fill(small_disk, leave=0)
    full = train(small_disk, *EGC, f"backend={backend}", "resume=auto")
    assert full.status == 6, full.err
    assert "No space left on device" in full.err and "Traceback" not in full.err
    assert list(small_disk.iterdir()) == [filler]


@pytest.mark.parametrize("pages", range(3, 12, 2))
def test_a_disk_that_fills_up_during_the_start_is_one_line(small_disk: Path, pages: int):
    """Wherever the start is: in Hydra's files, the log, the checkpoint folder or the history."""
    fill(small_disk, leave=pages * 4096)
    full = train(small_disk, *EGC)
    assert full.status == 6, full.err
    assert "No space left on device" in full.err and "Traceback" not in full.err
    assert ranks_of(full.run_dir) == {}


def test_events_that_cannot_be_written_are_a_failure_of_storage(tmp_path: Path):
    (tmp_path / EVENTS).symlink_to("/dev/full")
    with pytest.raises(StorageFailed, match="cannot be written: No space left"), recording(tmp_path) as journal:
        journal(Event("tick", [], 0.0), Proceed())


@pytest.mark.parametrize("way", ["removed", "simulated and removed"])
def test_a_directory_that_is_removed_while_training(tmp_path: Path, way: str):
    simulated = ("backend=simulate",) if "simulated" in way else ()
    with Live(tmp_path, *EGC, "rounds=4000", *simulated) as run:
        run.wait_for_rows(10)
        shutil.rmtree(run.run_dir)
        finished = run.finish()
    assert finished.status == 6, finished.err
    assert "cannot be written: No such file or directory" in finished.err and "Traceback" not in finished.err
    assert ranks_of(run.run_dir) == {}


def test_one_run_has_one_owner(tmp_path: Path):
    """The second is refused in one line; the first is not disturbed; a killed owner leaves no lock."""
    with Live(tmp_path, *EGC, "delay.mean_s=0.01", "rounds=40000") as run:
        run.wait_for_rows(30)
        second = train(tmp_path, f"resume={run.run_dir}", "rounds=50000")
        assert second.status == 2
        (line,) = second.err.splitlines()
        assert line.startswith(f"error: hydra.run.dir={run.run_dir}: is in use by process {run.process.pid} on ")
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
    rounds = len(pd.read_csv(run.run_dir / "history.csv")) + 20
    third = train(tmp_path, f"resume={run.run_dir}", f"rounds={rounds}")
    assert third.status == 0, third.err
    assert third.history["round"].tolist() == list(range(rounds))


def test_the_lock_goes_with_its_process(tmp_path: Path):
    (tmp_path / LOCK).parent.mkdir()
    with owned(tmp_path):
        pass
    with owned(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_local_stays_local_in_an_allocation_of_somebody_else(tmp_path: Path):
    """JupyterHub and containers inherit the variables of a SLURM or PBS job whose nodes are elsewhere."""
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURM_NODELIST": "node18", "SLURM_JOB_NODELIST": "node18"}
    slurm |= {"SLURM_NNODES": "1", "SLURM_TASKS_PER_NODE": "1", "SLURM_NTASKS": "1", "PBS_JOBID": "8"}
    (tmp_path / "nodes").write_text("node19\n")
    run = train(tmp_path, *SMALL, "rounds=2", **slurm, PBS_NODEFILE=str(tmp_path / "nodes"))
    assert run.status == 0, run.err


def test_the_ranks_of_a_host_share_one_import(tmp_path: Path):
    """They are children of the fork server, and neither it nor the stubs remain after the run."""
    with Live(tmp_path, *SMALL, "rounds=4000", "delay=exponential", "delay.mean_s=0.01") as run:
        run.wait_for_rows(2)
        ranks = ranks_of(run.run_dir)
        parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in ranks.values()}
        (server,) = parents
        title = Path(f"/proc/{server}/cmdline").read_text()
        run.process.send_signal(signal.SIGTERM)
        finished = run.finish()
    assert title.startswith("erasurehead-jax fork server")
    assert finished.status == 4
    assert not Path(f"/proc/{server}").exists() and ranks_of(run.run_dir) == {}


def test_where_forking_is_impossible_every_rank_imports_by_itself(tmp_path: Path):
    """Here forking is impossible because an import of the fork server has started a thread."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time\n"
        "if 'erasurehead_jax.cluster.launch.forkserver' in sys.orig_argv:\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])
    run = train_cold(tmp_path, *SMALL, "rounds=2", "scheme=uncoded", PYTHONPATH=paths)
    assert run.status == 0, run.err
    assert np.isfinite(run.history["train_loss"]).all()
