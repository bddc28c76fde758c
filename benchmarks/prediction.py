"""Simulated against measured time: ErasureHead on the paper's Amazon data, 100 rounds on 30 real workers.

python benchmarks/prediction.py      (uses the built-in data if ERASUREHEAD_DATA is not set)

The simulation has the delays alone, or also the time that the master adds to a round (overhead_s), as measured in a
short run with another seed. Ratios are predicted over measured time.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = "experiment=amazon" if "ERASUREHEAD_DATA" in os.environ else "delay=exponential"


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """The summary of a training run."""
    command = [sys.executable, "-m", "erasurehead_jax.train", DATA, "scheme=erasurehead", "load=3", "wait_for=11"]
    command += ["tracking=none", *overrides, f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text())


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        short = run(here / "short", "rounds=30", "seed=1")
        overhead_s = (short["clock_s"] - short["ideal_s"]) / short["rounds"]
        bare_s = run(here / "simulated", "rounds=100", "backend=simulate")["clock_s"]
        spent_s = run(here / "spent", "rounds=100")["clock_s"]
    predicted_s = bare_s + 100 * overhead_s
    print(f"{short['data']}, 30 workers, c = 3, r = 11, sleeps of mean 0.5 s: 100 rounds took {spent_s:.2f} s")
    print(f"  predicted from the delays alone {bare_s:.2f} s: ratio {bare_s / spent_s:.3f}")
    master = f"{1e3 * overhead_s:.1f} ms per round for the master"
    print(f"  with {master} {predicted_s:.2f} s: ratio {predicted_s / spent_s:.3f}")


if __name__ == "__main__":
    main()
