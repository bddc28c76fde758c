"""What a user gets: the wheel with its configs, imports without MPI, README commands that work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import LIMIT_S, SMALL

from erasurehead_jax.hydra_app import CONFIG_DIR

ROOT = Path(__file__).parent.parent


def run(*line: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        line, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.mpi
def test_the_wheel_installed_elsewhere_trains(tmp_path: Path):
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT))
    wheel = next(tmp_path.glob("*.whl"))
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(*pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel))
    command = site / "bin" / "erasurehead-train"
    done = run(sys.executable, str(command), *SMALL, "hydra.run.dir=run", cwd=elsewhere, PYTHONPATH=str(site))
    assert "test_auc" in done.stdout
    where = run(
        sys.executable, "-c", "import erasurehead_jax as e; print(e.__file__)", cwd=elsewhere, PYTHONPATH=str(site)
    )
    assert where.stdout.startswith(str(site))
    shipped = {path.relative_to(site / "erasurehead_jax" / "configs") for path in site.rglob("configs/**/*.yaml")}
    assert shipped == {path.relative_to(CONFIG_DIR) for path in Path(CONFIG_DIR).rglob("*.yaml")}


def test_importing_the_package_starts_no_mpi():
    modules = (
        "import sys, erasurehead_jax, erasurehead_jax.train, erasurehead_jax.whatif; print('mpi4py' in sys.modules)"
    )
    assert run(sys.executable, "-c", modules).stdout.strip() == "False"


def test_the_report_loads_no_jax():
    modules = "import sys, erasurehead_jax.report.__main__; print('jax' in sys.modules)"
    assert run(sys.executable, "-c", modules).stdout.strip() == "False"


def test_readme_links_and_commands_exist():
    readme = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", readme):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", readme, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


@pytest.mark.mpi
def test_readme_training_commands_run(tmp_path: Path):
    """Every training command of the README, with fewer rounds, one seed and small data."""
    lines = re.findall(r"^(python -m erasurehead_jax\.train .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert lines
    for i, line in enumerate(lines):
        parts = line.split("#")[0].split()[3:]
        overrides = [part for part in parts if not part.startswith(("rounds=", "data=", "seed="))]
        quick = ["rounds=2", "workers=6", "wait_for=3", "data.rows=1003", "tracking=none"]
        where = (
            f"hydra.run.dir={tmp_path / str(i)}" if "-m" not in overrides else f"hydra.sweep.dir={tmp_path / str(i)}"
        )
        if "experiment=tune" in overrides:
            quick = ["rounds=2", "data.rows=1003", "hydra.sweeper.n_trials=2"]
        kept = [part for part in overrides if not part.startswith(("workers=", "wait_for="))]
        run(sys.executable, "-m", "erasurehead_jax.train", *kept, *quick, where, cwd=tmp_path)


def test_readme_whatif_commands_run(tmp_path: Path):
    """Every what-if of the README, with fewer rounds and seeds and small data."""
    lines = re.findall(r"^(python -m erasurehead_jax\.whatif .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) > 3
    for i, line in enumerate(lines):
        kept = [part.split(",")[0] + "]" * ("," in part) for part in line.split()[3:] if "rounds=" not in part]
        quick = [
            "rounds=2",
            "seeds=2",
            "data.rows=203",
            "grid.scheme=[erasurehead]",
            f"hydra.run.dir={tmp_path / str(i)}",
        ]
        if any(part.startswith("study=") for part in kept):
            quick += ["grid.load=[2]", "grid.wait_for=[11]", "grid.compute_s=[0,1]"]
        run(sys.executable, "-m", "erasurehead_jax.whatif", *kept, *quick, cwd=tmp_path)
        assert (tmp_path / str(i) / "summary.json").exists()


def test_readme_code_runs():
    """The Python of "How to add a code"."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
