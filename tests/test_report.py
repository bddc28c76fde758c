"""Reports of run directories: which runs are compared, numbers checked by hand, skipped runs, and figures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import SMALL, execute, train

from erasurehead_jax.reports.claims import findings
from erasurehead_jax.reports.runs import compare, load_runs, run_folders
from erasurehead_jax.reports.table import Target, default_targets, table_rows
from erasurehead_jax.rundir.targets import SLACK

SIMULATED = (*SMALL, "backend=simulate", "delay=exponential", "delay.mean_s=0.1")


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    return execute([sys.executable, "-m", "erasurehead_jax.report", *arguments], Path.cwd())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three schemes, two seeds, one of them with two step sizes."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, overrides in (
        ("a", ["scheme=uncoded,egc", "seed=0,1"]),
        ("b", ["scheme=erasurehead", "seed=0,1", "optimizer.step_size=1,2"]),
        ("c", ["scheme=erasurehead", "late=skip"]),
    ):
        done = train(folder, "-m", *SIMULATED, *overrides, f"hydra.sweep.dir={folder / name}")
        assert done.status == 0, done.err
    return folder


def test_seeds_are_one_contender_and_differing_settings_are_labelled(sweep: Path):
    runs, skipped = load_runs(run_folders([sweep]))
    (comparison,) = compare(runs)
    assert not skipped and comparison.name == "synthetic-exponential"
    assert {each.label: len(each.runs) for each in comparison.contenders} == {
        "uncoded (simulated)": 2,
        "egc c=2 (simulated)": 2,
        "erasurehead c=2 r=2 (simulated) step_size=1": 2,
        "erasurehead c=2 r=2 (simulated) step_size=2": 2,
        "erasurehead c=2 r=2 late=skip (simulated) step_size=2": 1,
    }
    assert comparison.contenders[0].label == "uncoded (simulated)"
    assert ", Logistic, 4 workers, delay Exponential (" in comparison.description()


def test_other_data_or_delays_are_another_comparison(sweep: Path, tmp_path: Path):
    done = train(tmp_path, *SMALL, "backend=simulate")
    assert done.status == 0, done.err
    runs, _ = load_runs(run_folders([sweep, tmp_path]))
    assert [(each.name, len(each.runs)) for each in compare(runs)] == [
        ("synthetic-exponential", 9),
        ("synthetic-nodelay", 1),
    ]


ALMOST = 1 - SLACK  # exact codes add the same numbers in another order


def test_the_table_by_hand(sweep: Path):
    (comparison,) = compare(load_runs(run_folders([sweep]))[0])
    rows = {row["scheme"].split()[0]: row for row in table_rows(comparison, default_targets(comparison))}
    base = {run.summary["seed"]: run.history for run in comparison.contenders[0].runs}
    exact = {run.summary["seed"]: run.history for run in comparison.contenders[1].runs}
    targets = {seed: ALMOST * history["test_auc"].iloc[-1] for seed, history in base.items()}
    first = lambda history, target: history["clock_s"][history["test_auc"] >= target].iloc[0]
    own_s = [first(exact[seed], targets[seed]) for seed in (0, 1)]
    base_s = [first(base[seed], targets[seed]) for seed in (0, 1)]
    assert rows["egc"]["last_s"] == pytest.approx(np.median(own_s))
    assert rows["egc"]["last_x"] == pytest.approx(np.median(np.divide(base_s, own_s)))
    assert rows["uncoded"]["half_x"] == rows["uncoded"]["last_x"] == 1
    half = default_targets(comparison)[0].of(comparison.first)
    assert half == pytest.approx(comparison.first.history["test_auc"].iloc[3])  # of 8 rounds
    never = table_rows(comparison, [Target("target", "1.1", 1.1)])[0]
    assert never["target_s"] == np.inf and not never["target_x"] > 0


def test_report_writes_tables_pictures_and_what_was_run(sweep: Path):
    done = report(str(sweep))
    assert done.returncode == 0, done.stderr
    written = sweep / "report"
    for name in ("synthetic-exponential", "synthetic-exponential-answers"):
        assert (written / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (written / f"{name}.svg").read_text()
        assert "<svg" in svg and "seeds 0, 1" in svg
    text = (written / "report.md").read_text()
    assert "4 workers, delay Exponential (mean_s=0.1), gd (step_size=1" in text and "| gd (step_size=2" in text
    assert "| uncoded (simulated) | 2 | 8 |" in text
    assert list(pd.read_csv(written / "synthetic-exponential.csv")["runs"]) == [2, 2, 2, 2, 1]
    again = report(str(sweep), "--target", "0.6")
    assert again.returncode == 0 and "target 0.6" in again.stdout


def test_damaged_and_unfinished_runs_are_left_out_with_a_line(sweep: Path, tmp_path: Path):
    folders = sorted(path.parent for path in sweep.glob("a/*/summary.json"))
    kinds = {}
    for folder in folders:
        shutil.copytree(folder, tmp_path / folder.name)
    kinds["unfinished"], kinds["no JSON"], kinds["rounds"] = (tmp_path / folder.name for folder in folders[:3])
    (kinds["unfinished"] / "summary.json").unlink()
    (kinds["no JSON"] / "summary.json").write_text("{")
    kinds["interrupted"] = tmp_path / folders[3].name
    summary = kinds["interrupted"] / "summary.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"interrupted": True}))
    history = kinds["rounds"] / "history.csv"
    history.write_text("".join(history.read_text().splitlines(keepends=True)[:4]))
    done = report(str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("skipped ")]
    assert len(lines) == 4
    assert f"skipped {kinds['interrupted']}: ended after 8 rounds" in lines
    assert "unfinished (it has no summary.json)" in done.stdout
    assert "history.csv has 3 rounds, but summary.json 8" in done.stdout
    history = folders[3] / "history.csv"
    kinds["no AUC"] = tmp_path / "no AUC"
    shutil.copytree(folders[3], kinds["no AUC"])
    pd.read_csv(history).assign(test_auc=np.nan).to_csv(kinds["no AUC"] / "history.csv", index=False)
    pd.read_csv(history).assign(train_loss=np.nan, test_auc=np.nan).to_csv(
        tmp_path / folders[3].name / "history.csv", index=False
    )
    _, skipped = load_runs([kinds["no AUC"], tmp_path / folders[3].name])
    assert "its test AUC could not be computed, probably because all test rows are of one class" in skipped[0]
    assert "no round was evaluated" in skipped[1]
    nothing = report(str(kinds["no JSON"]))
    assert nothing.returncode == 2 and "contains no finished run" in nothing.stderr


def test_a_run_by_itself_gets_its_own_picture(sweep: Path):
    folder = next(sweep.glob("a/*egc*"))
    done = report(str(folder))
    assert done.returncode == 0, done.stderr
    assert (folder / "workers.png").exists() and (folder / "report" / "report.md").exists()


def test_a_whatif_is_reported(tmp_path: Path):
    line = [
        sys.executable,
        "-m",
        "erasurehead_jax.whatif",
        "grid.scheme=[uncoded,egc]",
        "workers=6",
        "rounds=5",
        "seeds=2",
    ]
    execute([*line, f"hydra.run.dir={tmp_path / 'study'}"], tmp_path).check_returncode()
    done = report(str(tmp_path))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report" / "report.md").read_text()
    assert "mean round" in text.replace("_", " ") and "study-timing.png" in text
    assert (tmp_path / "report" / text.split("](")[1].split(")")[0]).exists()


def renamed_schemes(folder: Path) -> list[str]:
    """Renames the schemes of the runs below, as if their yaml files had other names."""
    names = {"uncoded": "baseline", "egc": "exact", "erasurehead": "ours"}
    given = []
    for path in folder.rglob("summary.json"):
        summary = json.loads(path.read_text())
        given.append(names[summary["scheme"]])
        path.write_text(json.dumps(summary | {"scheme": given[-1]}))
    return given


def test_claims_are_held_against_the_runs(sweep: Path, tmp_path: Path):
    """Edits the directories of a sweep to look like the paper's Amazon runs, with known times."""
    shutil.copytree(sweep / "a", tmp_path / "a")
    shutil.copytree(next(sweep.glob("b/1-*")), tmp_path / "b")
    for folder in [path.parent for path in tmp_path.rglob("summary.json")]:
        summary = json.loads((folder / "summary.json").read_text())
        summary |= {"data": "amazon", "train_rows": 26_215, "features": 241_915, "workers": 30, "backend": "mpi"}
        scale = {"uncoded": 12.0, "egc": 4.0, "erasurehead": 1.0}[summary["scheme"]]
        history = pd.read_csv(folder / "history.csv")
        history["clock_s"], history["test_auc"] = scale * np.arange(1, 9), np.linspace(0.6, 0.8, 8)
        history.to_csv(folder / "history.csv", index=False)
        (folder / "summary.json").write_text(json.dumps(summary | {"clock_s": 8 * scale}))
    (comparison,) = compare(load_runs(run_folders([tmp_path]))[0])
    found = {each.claim: each for each in findings(comparison)}
    for name in renamed_schemes(tmp_path):
        assert name in {"baseline", "exact", "ours"}
    (renamed,) = compare(load_runs(run_folders([tmp_path]))[0])
    kinds = [each.runs[0].kind for each in comparison.contenders]
    assert [each.runs[0].kind for each in renamed.contenders] == kinds  # in the same order
    assert [each.claim for each in findings(renamed)] == list(found)
    over = next(each for claim, each in found.items() if "up to 6" in claim)
    assert over.met and over.measured.startswith("12.00 x")
    exact = next(each for claim, each in found.items() if "exact coding with the same c" in claim)
    assert exact.met and exact.measured.startswith("4.00 x")
    assert all(each.met for each in found.values())
