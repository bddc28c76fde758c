"""The figures of the documentation that the simulator generates: `make figures`."""

import shutil
import subprocess
import sys
from pathlib import Path

from erasurehead_jax.studies.bounds import bounds_figure

HERE = Path(__file__).parent
STUDY = HERE.parent / "outputs" / "redundancy"


def main() -> None:
    shutil.rmtree(STUDY, ignore_errors=True)
    study = [sys.executable, "-m", "erasurehead_jax.whatif", "study=redundancy", f"hydra.run.dir={STUDY}"]
    subprocess.run(study, check=True)
    shutil.copy(STUDY / "frontier.png", HERE / "redundancy.png")
    bounds_figure(HERE / "bounds.png")


if __name__ == "__main__":
    main()
