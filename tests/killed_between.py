"""Run by test_multirun.py: three multiruns in one process; workers are killed in the first and after the second."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from harness import ranks_of

from erasurehead_jax.cluster.launch.watch import end_waiting
from erasurehead_jax.train import train


def multirun(name: str) -> Path:
    """Runs one job; returns its run directory."""
    sys.argv[1:] = ["-m", *overrides, f"hydra.sweep.dir={name}", "hydra.sweep.subdir=0"]
    train()
    return Path(name).absolute() / "0"


def kill_worker_1(run_dir: Path, rows: int) -> None:
    """Kills worker 1 once there are this many rounds."""
    history = run_dir / "history.csv"
    while not history.exists() or history.read_bytes().count(b"\n") <= rows:
        time.sleep(0.005)
    os.kill(ranks_of(run_dir)[2], signal.SIGKILL)


overrides = sys.argv[1:]
threading.Thread(target=kill_worker_1, args=(Path("first").absolute() / "0", 2), daemon=True).start()
multirun("first")
kill_worker_1(multirun("second"), 8)
multirun("third")
end_waiting()
