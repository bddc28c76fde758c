"""The scripts of examples/ run, with and without ranks."""

import re
import sys
from pathlib import Path

import pytest
from harness import execute

EXAMPLES = Path(__file__).parent.parent / "examples"
LINES = {
    "table.py": ["erasurehead", "probability"],
    "network.py": ["test_accuracy", "predicted: [0 1 2 3 4]"],
    "own_loop.py": ["test accuracy 0.9"],
    "pipeline.py": ["AUC"],
}


def run(name: str, folder: Path, *before: str, after: tuple[str, ...] = ()) -> str:
    done = execute([sys.executable, *before, EXAMPLES / name, *after], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.mpi
@pytest.mark.parametrize("name", LINES)
@pytest.mark.slow
def test_it_runs(name: str, tmp_path: Path):
    said = run(name, tmp_path)
    for line in LINES[name]:
        assert line in said, said


@pytest.mark.mpi
@pytest.mark.slow
def test_own_loop_is_the_same_on_real_ranks(tmp_path: Path):
    loss = lambda said: float(re.findall(r"loss ([\d.]+)", said)[0])
    real = run("own_loop.py", tmp_path, "-m", "erasurehead_jax.run", "-n", "6")
    assert loss(real) == pytest.approx(loss(run("own_loop.py", tmp_path)), rel=1e-6)


def test_all_examples_are_tested_and_short():
    assert set(LINES) == {path.name for path in EXAMPLES.glob("*.py")}
    assert len((EXAMPLES / "own_loop.py").read_text().splitlines()) <= 40
