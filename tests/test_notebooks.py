"""Every notebook runs from top to bottom at reduced sizes, and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


WITH_RANKS = ("02-stragglers", "04-your-own-code")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.mpi if path.stem in WITH_RANKS else (), id=path.stem) for path in NOTEBOOKS],
)
@pytest.mark.slow
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUICK", "1")
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown) or path.stem == "04-your-own-code"
    assert not [output for output in shown if output.output_type == "stream" and output.name == "stderr"]
