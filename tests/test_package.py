"""The package as installed: the wheel works without extras, imports no MPI, and declares its dependencies."""

import ast
import os
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import numpy as np
import pytest
import yaml
from harness import LIMIT_S, SMALL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from erasurehead_jax.rundir.progress import RoundsBar
from erasurehead_jax.settings import CONFIG_DIR

ROOT = Path(__file__).parent.parent
NAME = "erasurehead-jax"
TRACKED = [override for override in SMALL if override != "tracking=none"]


def run(*line: str | Path, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        line, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def dependencies(names: list[str]) -> dict[str, Distribution]:
    """The names of the installed distributions that these requirements need, without optional ones."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(name), "") for name in names]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or name in found:
            continue
        found[name] = distribution(name)
        waiting += [
            (Requirement(each), wanted) for each in found[name].requires or [] for wanted in requirement.extras or [""]
        ]
    return found


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="session")  # tests with ranks come first, those of other modules between
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and its requirements (links to those installed here), without extras."""
    folder = tmp_path_factory.mktemp("bare")
    env = folder / "venv"
    venv.create(env, symlinks=True)
    (site,) = env.glob("lib/python*/site-packages")
    for each in dependencies(project()["dependencies"]).values():
        for path in each.files or []:
            here = Path(os.path.normpath(site / path))
            if not here.exists():
                here.parent.mkdir(parents=True, exist_ok=True)
                here.symlink_to(str(each.locate_file(path)))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", env / "bin" / "python", "install", "-q", "--no-deps", wheel)
    return env


@pytest.mark.mpi
@pytest.mark.slow
def test_a_bare_install_trains_on_real_ranks(bare: Path, tmp_path: Path):
    done = run(bare / "bin" / "erasurehead-train", *TRACKED, "hydra.run.dir=run", cwd=tmp_path, COLUMNS="300")
    assert "test_auc" in done.stdout
    assert "wandb is not installed" in done.stderr and "pip install wandb" in done.stderr
    summary = (tmp_path / "run" / "summary.json").read_text()
    assert '"jax"' in summary and '"wandb"' not in summary
    assert not (tmp_path / "run" / "wandb").exists()


@pytest.mark.slow
def test_a_bare_install_simulates(bare: Path, tmp_path: Path):
    (tmp_path / "wandb").mkdir()  # W&B leaves such folders behind; they are not packages
    command = bare / "bin" / "erasurehead-train"
    done = run(command, *TRACKED, "backend=simulate", "hydra.run.dir=run", cwd=tmp_path, COLUMNS="300")
    assert "wandb is not installed" in done.stderr
    done = run(
        bare / "bin" / "erasurehead-whatif",
        "grid.scheme=[egc]",
        "rounds=5",
        "seeds=2",
        "hydra.run.dir=whatif",
        cwd=tmp_path,
    )
    assert "egc" in done.stdout
    run(bare / "bin" / "erasurehead-report", "run", "whatif", cwd=tmp_path)


def test_the_wheel_has_all_configs(bare: Path):
    (configs,) = bare.glob("lib/python*/site-packages/erasurehead_jax/configs")
    shipped = {path.relative_to(configs) for path in configs.rglob("*.*")}
    assert shipped == {path.relative_to(CONFIG_DIR) for path in Path(CONFIG_DIR).rglob("*.*")}


def test_everything_imported_is_declared():
    """Packages of extras may be imported by these modules only, and only inside functions."""
    extras = {"wandb": {"tracking.py"}}
    providers = packages_distributions()
    declared = {canonicalize_name(Requirement(each).name) for each in project()["dependencies"]}
    for path in (ROOT / "erasurehead_jax").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            for module in imported(node) - set(sys.stdlib_module_names) - {"erasurehead_jax"}:
                if path.name in extras.get(module, ()):
                    assert node not in tree.body, f"{path.name} imports {module} at its top"
                else:
                    assert declared & {canonicalize_name(name) for name in providers[module]}, f"{path}: {module}"


def imported(node: ast.AST) -> set[str]:
    """The top-level modules that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {node.module.split(".")[0]}
    return set()


def test_every_extra_is_pinned_and_in_dev():
    pins = {canonicalize_name(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    everything = dependencies([f"{NAME}[dev]"])
    assert set(everything) - pins == {NAME}
    for extra, requirements in project()["optional-dependencies"].items():
        for each in requirements:
            assert canonicalize_name(Requirement(each).name) in everything, f"{extra}: {each}"


def test_hooks_use_the_pinned_versions():
    pins = (ROOT / "constraints.txt").read_text().split()
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]:
        for hook in repo["hooks"]:
            for pinned in hook["additional_dependencies"]:
                assert pinned.replace("-", "_") in {pin.replace("-", "_") for pin in pins}


def test_importing_the_package_starts_no_mpi():
    modules = (
        "import sys, erasurehead_jax, erasurehead_jax.train, erasurehead_jax.whatif; print('mpi4py' in sys.modules)"
    )
    assert run(sys.executable, "-c", modules).stdout.strip() == "False"


def test_the_report_loads_no_jax():
    modules = "import sys, erasurehead_jax.report; print('jax' in sys.modules)"
    assert run(sys.executable, "-c", modules).stdout.strip() == "False"


def test_training_does_not_wait_for_imports_that_it_does_not_need():
    slow = ("pandas", "scipy", "sklearn", "matplotlib", "networkx", "wandb")
    modules = f"import sys, erasurehead_jax.train; print([name for name in {slow} if name in sys.modules])"
    assert run(sys.executable, "-c", modules).stdout.strip() == "[]"


def test_a_warning_after_the_last_round_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with RoundsBar(tmp_path, rounds=5, owner=np.arange(2), label="erasurehead", starting="compiling"):
        (tmp_path / "train.log").write_text("2026-01-01 12:00:00,000 WARNING the dashboard is down\n")
    assert "the dashboard is down" in capsys.readouterr().err


def test_a_command_does_not_hide_the_function_of_its_name():
    script = "import erasurehead_jax.train, erasurehead_jax.whatif, erasurehead_jax.report, erasurehead_jax as eh\n"
    script += "print(*map(callable, (eh.train, eh.whatif, eh.report)))"
    assert run(Path(sys.executable), "-c", script).stdout.split() == ["True"] * 3
