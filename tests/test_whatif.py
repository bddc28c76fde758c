"""The what-if command: its files, its output, and the settings it refuses.

Commands run in processes of their own, forked from one that has imported the package and nothing else; one is started
from scratch.
"""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import LIMIT_S, SMALL_DATA, Finished, execute

from erasurehead_jax.studies.study import progress_bar
from erasurehead_jax.whatif import main

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["erasurehead_jax.whatif", "pytest"])
SHORT = (*SMALL_DATA, "workers=6", "wait_for=3", "load=2", "rounds=10", "evaluate_every=5", "optimizer.step_size=2")
ROUNDS = [4, 9]  # the kept ones
TIMING = (*SHORT, "seeds=5", "grid.mean_s=[0.5,1]")
TRAINING = (
    *(*SHORT, "mode=training", "seeds=8", "targets=[0.7,0.999]"),
    *("grid.scheme=[uncoded,ignore_stragglers,erasurehead]", "grid.wait_for=[2,3]"),
)
FEWER = "grid.scheme=[erasurehead]"
COMMANDS = {
    "training": TRAINING,
    "timing": TIMING,
    "timing, 1 at a time": (*TIMING, FEWER, "chunk=1"),
    "timing, 3 at a time": (*TIMING, "grid.scheme=[uncoded]", "chunk=3"),
    "timing, one load impossible": (*SHORT, "seeds=1", "grid.scheme=[egc]", "grid.load=[2,3,4]"),
    "training, 1 at a time": (*TRAINING, FEWER, "chunk=1"),
    "training, 3 at a time": (*TRAINING, FEWER, "chunk=3"),
    "diverging": (*SHORT, "mode=training", "seeds=6", FEWER, "targets=0.7", "optimizer.step_size=1e30", "rounds=3"),
}
POINT = ["scheme", "load", "wait_for", "late"]


def _command(folder: Path, overrides: tuple[str, ...]) -> None:
    os.chdir(folder)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = ["whatif", *overrides, "hydra.run.dir=run"]
    main()


def start(folder: Path, overrides: tuple[str, ...]) -> BaseProcess:
    """Starts the command in this folder, which is made."""
    folder.mkdir()
    process = SERVER.Process(target=_command, args=(folder, overrides))
    process.start()
    return process


def finish(folder: Path, process: BaseProcess) -> Finished:
    process.join(LIMIT_S)
    if process.exitcode is None:
        process.kill()
        pytest.fail("did not end")
    out, err = (Path(f"{folder}.{name}").read_text() for name in ("out", "err"))
    return Finished(process.exitcode, out, err, folder / "run")


def all_of(folder: Path, commands: dict[str, tuple[str, ...]]) -> dict[str, Finished]:
    """Runs the commands two at a time, without threads, which could take an exit status from multiprocessing."""
    jobs = [(folder / str(i), overrides) for i, overrides in enumerate(commands.values())]
    finished = []
    for first in range(0, len(jobs), 2):
        started = [(place, start(place, overrides)) for place, overrides in jobs[first : first + 2]]
        finished += [finish(place, process) for place, process in started]
    return dict(zip(commands, finished, strict=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    return all_of(tmp_path_factory.mktemp("whatif"), COMMANDS)


def files(run: Finished) -> set[str]:
    """The files of a successful run."""
    assert run.status == 0, run.err
    inside = [path for path in run.run_dir.rglob("*") if path.is_file()]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in inside if path.suffix == ".png")
    return {str(path.relative_to(run.run_dir)) for path in inside}


HYDRA = {".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"}


def table(run: Finished, name: str) -> pd.DataFrame:
    return pd.read_csv(run.run_dir / name)


def test_timing_writes_a_row_for_every_point(runs: dict[str, Finished]):
    run = runs["timing"]
    assert files(run) == {"timing.csv", "timing.png", "summary.json"} | HYDRA
    found = table(run, "timing.csv")
    assert {
        *("scheme", "load", "wait_for", "late", "mean_s", "mean_round_s", "mean_wall_s", "sem_round_s"),
        *("exact_fraction", "mean_decode_error"),
    } == set(found.columns)
    assert found[["scheme", "load", "wait_for", "mean_s"]].to_numpy().tolist() == [
        [scheme, load, wait_for, mean_s]
        for scheme, load, wait_for in (
            ("uncoded", 1, 6),
            ("ignore_stragglers", 1, 3),
            ("egc", 2, 6),
            ("erasurehead", 2, 3),
        )
        for mean_s in (0.5, 1)
    ]
    np.testing.assert_allclose(found["mean_wall_s"], found["mean_round_s"], rtol=1e-12)  # late=cancel
    np.testing.assert_array_less(0, found["sem_round_s"])
    summary = run.summary
    assert (summary["mode"], summary["points"], summary["seeds"], summary["rounds"]) == ("timing", 8, 5, 10)
    assert summary["versions"]["erasurehead-jax"] and summary["versions"]["jax"]


def test_all_points_meet_the_same_delays(runs: dict[str, Finished]):
    """Doubling the mean doubles the time of every round, and waiting for fewer workers is never slower."""
    found = table(runs["timing"], "timing.csv").set_index("scheme")
    half, one = (found[found["mean_s"] == mean_s] for mean_s in (0.5, 1))
    for name in ("mean_round_s", "mean_wall_s", "sem_round_s"):
        np.testing.assert_allclose(one[name], 2 * half[name], rtol=1e-6)
    for name in ("exact_fraction", "mean_decode_error"):
        np.testing.assert_array_equal(one[name], half[name])
    assert (half.loc[["uncoded", "egc"], "exact_fraction"] == 1).all()
    assert (half.loc[["uncoded", "egc"], "mean_decode_error"] == 0).all()
    round_s = dict(zip(half.index, half["mean_round_s"], strict=True))
    assert round_s["erasurehead"] <= round_s["ignore_stragglers"] < round_s["uncoded"]
    assert round_s["erasurehead"] <= round_s["egc"] < round_s["uncoded"]
    assert half.loc["ignore_stragglers", "mean_decode_error"] == pytest.approx(
        6
    )  # three blocks of weight 2, three of 0


@pytest.mark.parametrize("together", ["1 at a time", "3 at a time"])
@pytest.mark.parametrize(("mode", "name"), [("timing", "timing"), ("training", "whatif"), ("training", "frontier")])
def test_results_depend_neither_on_the_chunk_nor_on_the_other_points(
    mode: str, name: str, together: str, runs: dict[str, Finished]
):
    every, some = table(runs[mode], f"{name}.csv"), table(runs[f"{mode}, {together}"], f"{name}.csv")
    expected = every.set_index("scheme").loc[some["scheme"].unique()].reset_index()
    pd.testing.assert_frame_equal(some, expected, check_exact=mode == "timing", rtol=1e-6, atol=0)


def test_the_same_command_gives_the_same_files(runs: dict[str, Finished], tmp_path: Path):
    """Started as a user starts it."""
    name = "training, 3 at a time"
    command = [sys.executable, "-m", "erasurehead_jax.whatif", *COMMANDS[name], f"hydra.run.dir={tmp_path / 'run'}"]
    done = execute(command, tmp_path)
    assert done.returncode == 0, done.stderr
    for file in ("whatif.csv", "frontier.csv", "recommendation.txt"):
        assert (tmp_path / "run" / file).read_bytes() == (runs[name].run_dir / file).read_bytes()


def test_training_writes_a_row_for_every_kept_round(runs: dict[str, Finished]):
    run = runs["training"]
    tables = {"whatif.csv", "frontier.csv", "recommendation.txt", "summary.json"}
    assert files(run) == tables | {"whatif.png", "frontier.png"} | HYDRA
    found = table(run, "whatif.csv")
    assert list(found.columns) == [*POINT, "seed", "round", "clock_s", "train_loss", "test_loss", "test_auc"]
    by_run = found.groupby([*POINT, "seed"], sort=False)
    assert list(found.groupby(POINT, sort=False).groups) == [
        ("uncoded", 1, 6, "cancel"),
        ("ignore_stragglers", 1, 2, "cancel"),
        ("ignore_stragglers", 1, 3, "cancel"),
        ("erasurehead", 2, 2, "cancel"),
        ("erasurehead", 2, 3, "cancel"),
    ]
    assert by_run.ngroups == 5 * 8 and set(found["seed"]) == set(range(8))
    for _, one in by_run:
        assert one["round"].tolist() == ROUNDS and one["clock_s"].is_monotonic_increasing
    summary = run.summary
    assert (summary["mode"], summary["points"], summary["seeds"], summary["data"]) == ("training", 5, 8, "synthetic")


def test_the_frontier_follows_from_the_rows(runs: dict[str, Finished]):
    run = runs["training"]
    rows, found = table(run, "whatif.csv"), table(run, "frontier.csv")
    assert len(found) == 2 * 5 and found["target"].tolist() == [0.7] * 5 + [0.999] * 5
    for line in found.to_dict("records"):
        by_seed = rows.merge(pd.DataFrame([line])[POINT]).groupby("seed")
        times = [one.loc[one["test_auc"] >= line["target"], "clock_s"].min() for _, one in by_seed]
        times = np.nan_to_num(times, nan=np.inf)
        assert line["reached"] == np.isfinite(times).mean() and line["seeds"] == 8
        assert line["time_s"] == pytest.approx(np.median(times))
        assert line["low_s"] <= line["time_s"] <= line["high_s"]


def test_the_recommendation_is_saved_and_printed(runs: dict[str, Finished]):
    """A target that no run reaches is a result."""
    run = runs["training"]
    lines = (run.run_dir / "recommendation.txt").read_text().splitlines()
    printed = " ".join(run.out.split())
    assert all(" ".join(line.split()) in printed for line in lines)
    kept = [line for line in lines if not line.startswith("  note: ")]
    r = lines[0].partition(" r=")[2].partition(" ")[0]
    assert [line.split(":")[0] for line in kept] == [
        *("target 0.7000", "  next best", "  uncoded", f"  ignoring stragglers at the same r={r}"),
        "target 0.9990",
    ]
    found = table(run, "frontier.csv")
    quickest = found.loc[found.loc[found["target"] == 0.7, "time_s"].idxmin()]
    assert lines[0].startswith(f"target 0.7000: {quickest['scheme']} ") and f" r={quickest['wait_for']} in " in lines[0]
    assert lines[-1] == "target 0.9990: not reached by most seeds at any grid point"
    assert np.isinf(found.loc[found["target"] == 0.999, "time_s"]).all()
    reached, missed = run.summary["recommendations"]
    assert reached["best"] in lines[0] and missed["best"] is None


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "diverging"])
def test_every_run_is_counted_once(name: str, runs: dict[str, Finished]):
    """The progress bar counts every run, and nothing else is written to stderr."""
    run = runs[name]
    total = run.summary["points"] * run.summary["seeds"]
    assert run.err.split()[0] == "runs" and f" {total}/{total} " in run.err and len(run.err.splitlines()) == 1, run.err


def test_a_run_that_diverges_never_reaches_the_target(runs: dict[str, Finished]):
    run = runs["diverging"]
    assert files(run) >= {"whatif.csv", "frontier.csv", "recommendation.txt", "whatif.png"}
    assert "target 0.7000: not reached by most seeds at any grid point" in run.out
    assert table(run, "frontier.csv")["reached"].tolist() == [0]


def test_impossible_points_are_reported_and_the_rest_is_simulated(runs: dict[str, Finished]):
    run = runs["timing, one load impossible"]
    assert run.out.splitlines()[0].startswith("left out: 1 grid point of egc: load=4: must divide blocks=6")
    assert table(run, "timing.csv")["load"].tolist() == [2, 3]


def test_parts_of_runs_add_up_to_whole_ones(capsys: pytest.CaptureFixture[str]):
    """The bar of a training what-if ended at 255/256, because ten tenths add up to a little less than one."""
    parts = [256 / 10] * 10
    assert sum(parts) < 256
    with progress_bar(256) as advance:
        for part in parts:
            advance(part)
    assert " 256/256 " in capsys.readouterr().err


TRACE = "delay=trace delay.path=../{}.npz"
BAD = {
    "grid.scheme=[]": "grid.scheme=[]: must have at least one value",
    "grid=null": "grid",
    "grid=3": "grid=3: must name at least one scheme",
    "scheme=egc": "scheme: the schemes of a what-if must be set as grid.scheme=[...]",
    "grid.scheme=[egc,nothing]": "scheme=nothing: unknown; choose one of bernoulli, bibd, block_model",
    "mode=foo": "mode=foo: must be one of timing, training, decode",
    "seeds=nan": "seeds=nan: must be a whole number, at least 1",
    "seed=4294967295": "seed",  # the second run's is too large
    "chunk=0": "chunk=0: must be a whole number, at least 1",
    "targets=nan mode=training": "targets=nan: must be a finite number",
    "evaluate_every=null mode=training": "evaluate_every=null: must be a whole number, at least 1",
    "data.task=regression mode=training": "is not a class; logistic needs classes",
    "data.rows=5 mode=training": "the test AUC cannot be computed",
    "delay=trace": "delay.path",
    TRACE.format("missing"): "delay.path=../missing.npz: cannot be read as a recording",
    TRACE.format("narrow"): "delay.path=../narrow.npz: has 5 workers, fewer than workers=6; reduce workers, or",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    folder = tmp_path_factory.mktemp("refused")
    np.savez(folder / "negative.npz", times_s=-np.ones((20, 6)))
    np.savez(folder / "narrow.npz", times_s=np.ones((20, 5)))
    return all_of(folder, {overrides: (*SHORT, "seeds=2", *overrides.split()) for overrides in BAD})


@pytest.mark.parametrize("overrides", BAD)
def test_refusals(overrides: str, refused: dict[str, Finished]):
    """One line with the field, the value and the rule; status 2; no files."""
    run = refused[overrides]
    assert run.status == 2, run.err
    lines = run.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and BAD[overrides] in lines[0], run.err
    assert list(run.run_dir.parent.iterdir()) == [] and run.out == ""
