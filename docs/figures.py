"""The figures of the documentation that the simulator generates: `make figures`."""

import shutil
import subprocess
import sys
from pathlib import Path

from erasurehead_jax.studies.bounds import bounds_figure

HERE = Path(__file__).parent
STUDIES = HERE.parent / "outputs" / "figures"
CODES = "egc,random_regular,bernoulli,coupon_collector,ignore_stragglers"


def main() -> None:
    shutil.copy(whatif("redundancy", "study=redundancy") / "frontier.png", HERE / "redundancy.png")
    decode = whatif("decode", "mode=decode", f"grid.scheme=[{CODES}]", "wait_for=15")
    shutil.copy(decode / "decode.png", HERE / "decode.png")
    bounds_figure(HERE / "bounds.png")


def whatif(name: str, *settings: str) -> Path:
    """Runs the command; returns its folder."""
    folder = STUDIES / name
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "erasurehead_jax.whatif", *settings, f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True)
    return folder


if __name__ == "__main__":
    main()
