"""How long a run takes from the command to its first round, against a bare `import jax`: medians of one run.

`python benchmarks/startup.py`, with 30 workers and the master on this machine, which should be idle. Amazon if
ERASUREHEAD_DATA names its raw file, otherwise the built-in data.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 5


def import_s() -> float:
    """Seconds for a Python process that imports JAX and ends."""
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import jax"], check=True)
    return time.perf_counter() - began_s


def first_round_s(data: str, run_dir: Path) -> float:
    """Seconds from starting the command until history.csv has the first round."""
    settings = [f"data={data}", "scheme=uncoded", "workers=30", "rounds=3", "tracking=none", f"hydra.run.dir={run_dir}"]
    began_s, history = time.perf_counter(), run_dir / "history.csv"
    command = [sys.executable, "-m", "erasurehead_jax.train", *settings]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training:
        while not history.exists() or history.read_bytes().count(b"\n") < 2:
            if training.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with {training.returncode}")
            time.sleep(0.01)
        return time.perf_counter() - began_s


def main() -> None:
    """Alternates the two, and prints medians and their ratio."""
    has_amazon = list(Path(os.environ.get("ERASUREHEAD_DATA", "nowhere")).expanduser().glob("amazon*"))
    data = "amazon" if has_amazon else "synthetic"
    imports, starts = [], []
    with tempfile.TemporaryDirectory() as folder:
        first_round_s(data, Path(folder, "warm-up"))  # prepares the data and fills the cache of compiled functions
        for i in range(REPEATS):
            imports.append(import_s())
            starts.append(first_round_s(data, Path(folder, str(i))))
    import_median, start_median = statistics.median(imports), statistics.median(starts)
    print(f"import jax: {import_median:.2f} s; first round of 31 ranks on {data}: {start_median:.2f} s")
    print(f"ratio: {start_median / import_median:.1f}")


if __name__ == "__main__":
    main()
