"""The README and the pages of docs/ are correct: commands and code run, settings exist, all names are documented."""

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import execute
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from erasurehead_jax.errors import Status
from erasurehead_jax.settings import CONFIG_DIR

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
QUICK = {
    "train": ("rounds=3", "data.rows=1003", "tracking=none"),
    "whatif": ("rounds=3", "data.rows=1003", "seeds=2", "grid.scheme=[uncoded,erasurehead]"),
    "report": (),
    "trace": (),
    "advise": (),
}
FENCE = re.compile(r'^```(\w+)(?: title="([^"\n]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced code block of a page."""

    language: str
    title: str  # the file it shows, if any
    text: str


class Command(NamedTuple):
    """`python -m erasurehead_jax.NAME ARGUMENTS`."""

    name: str
    arguments: list[str]


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def commands(page: Path) -> Iterator[Command]:
    for block in blocks(page):
        for line in block.text.replace("\\\n", " ").splitlines():
            if block.language == "bash" and (found := re.match(r"python -m erasurehead_jax\.(\w+)(.*)", line)):
                yield Command(found[1], shlex.split(found[2], comments=True))


def run(command: Command, folder: Path) -> None:
    quick = QUICK[command.name]
    if "--config-dir" in command.arguments:  # whose own schemes are the point
        quick = tuple(each for each in quick if not each.startswith("grid.scheme="))
    replaced = {override.split("=")[0] for override in quick}
    kept = [argument for argument in command.arguments if argument.split("=")[0] not in replaced]
    done = execute([sys.executable, "-m", f"erasurehead_jax.{command.name}", *kept, *quick], folder)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.mpi
def test_the_commands_of_the_readme_run(tmp_path: Path):
    found = list(commands(ROOT / "README.md"))
    assert [command.name for command in found] == ["train", "report", "whatif"]
    for command in found:
        run(command, tmp_path)
    assert (tmp_path / "outputs" / "first" / "report" / "report.md").exists()


@pytest.mark.slow
def test_the_commands_of_stragglers_run(tmp_path: Path):
    lines = [f"{t},{j},{0.1 + 0.3 * (j == 2) + 0.01 * (t % 3)}" for t in range(20) for j in range(4)]
    (tmp_path / "times.csv").write_text("\n".join(["iteration,worker,seconds", *lines]))
    found = list(commands(ROOT / "docs" / "stragglers.md"))
    assert [command.name for command in found] == ["trace", "advise", "train", "trace", "advise", "whatif"]
    for command in found:
        run(command, tmp_path)
    assert (tmp_path / "outputs" / "recorded-report" / "trace.md").exists()


def write_files(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if path.exists() else "") + block.text)


@pytest.mark.mpi
def test_the_files_of_extend_train(tmp_path: Path):
    page = ROOT / "docs" / "extend.md"
    write_files(page, tmp_path)
    (command,) = commands(page)
    run(command._replace(arguments=[*command.arguments, "hydra.run.dir=run"]), tmp_path)
    assert "mine.Mirror" in (tmp_path / "run" / ".hydra" / "config.yaml").read_text()


@pytest.mark.mpi
@pytest.mark.slow
def test_the_code_of_codes_trains_and_is_compared(tmp_path: Path):
    page = ROOT / "docs" / "codes.md"
    write_files(page, tmp_path)
    mine = [command for command in commands(page) if "--config-dir" in command.arguments]
    assert [command.name for command in mine] == ["train", "train", "whatif", "whatif"]
    for i, command in enumerate(mine):
        run(command._replace(arguments=[*command.arguments, f"hydra.run.dir=run{i}"]), tmp_path)
    train, simulated = (OmegaConf.load(tmp_path / f"run{i}" / ".hydra" / "config.yaml") for i in (0, 1))
    assert (train.backend, simulated.backend, train.scheme.code._target_) == ("mpi", "simulate", "fano.Fano")
    for table in ("run2/decode.csv", "run3/frontier.csv"):
        assert "fano" in (tmp_path / table).read_text()


@pytest.mark.slow
def test_the_table_of_codes_is_up_to_date(monkeypatch: pytest.MonkeyPatch):
    """All rows are there with today's words; those that take no time have today's numbers."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import codes_table  # pyright: ignore[reportMissingImports]

    schemes = sorted(path.stem for path in (ROOT / "configs" / "scheme").glob("*.yaml"))
    assert sorted(codes_table.WORDS) == schemes
    page = codes_table.PAGE.read_text()
    written, constructions = (
        page.split(codes_table.BEGIN.format(name))[1].split(codes_table.END)[0] for name in codes_table.TABLES
    )
    assert constructions == codes_table.constructions(), "make codes-table"
    cells = [line.strip("| ").split(" | ") for line in written.splitlines()]
    rows = {row[0].strip("`"): row for row in cells[2:]}
    assert tuple(cells[0]) == codes_table.HEADER and list(rows) == list(codes_table.WORDS)
    for name, (exact, *words) in codes_table.WORDS.items():
        target = str(OmegaConf.load(ROOT / "configs" / "scheme" / f"{name}.yaml").code._target_)
        assert rows[name][1] == f"`{target.rsplit('.')[-1]}`"
        assert rows[name][3] == exact and rows[name][8:] == words, f"{name}: make codes-table"
    for name in ("ignore_stragglers", "egc", "bibd", "reed_solomon", "custom"):
        assert rows[name] == codes_table.row(name), f"{name}: make codes-table"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.slow
def test_python_blocks_run(page: Path, capsys: pytest.CaptureFixture[str]):
    names: dict[str, object] = {"__name__": "mine"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_exist(page: Path):
    """The first run of each command composes: no key, group or choice is unknown or missing."""
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        for command in commands(page):
            if command.name in ("train", "whatif") and "--config-dir" not in command.arguments:
                cfg = compose(command.name, overrides=[*first_of_each(command.arguments)])
                OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def first_of_each(arguments: list[str]) -> Iterator[str]:
    """The overrides of the first run of a multirun."""
    for override in OverridesParser.create().parse_overrides([each for each in arguments if each != "-m"]):
        if override.is_sweep_override():
            yield f"{override.key_or_group}={next(override.sweep_string_iterator())}"
        else:
            yield override.input_line or ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_targets_and_files_exist(page: Path):
    """Links inside the repository, `make` targets and paths in code font."""
    text = page.read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)) <= targets
    folders = "benchmarks|configs|docs|erasurehead_jax|launchers|notebooks|tests"
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_exit_statuses_are_those_of_the_code():
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "failures.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == list(Status)


def test_the_reference_has_every_public_name():
    stub = ast.parse((ROOT / "erasurehead_jax" / "__init__.pyi").read_text())
    public = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    shown = re.findall(r"^::: [\w.]*\.(\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert public <= set(shown)


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text())
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
