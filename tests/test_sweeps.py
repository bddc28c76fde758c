"""Sweeps: resume=auto, Hydra's sweepers and launchers, and the commands of `make reproduce`."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from harness import SMALL, SMALL_DATA, train
from hydra import compose, initialize_config_dir

from erasurehead_jax.reproduce import PAPER, QUICK, Size, commands, has_recording
from erasurehead_jax.settings import CONFIG_DIR

pytestmark = pytest.mark.slow

SIMULATED = (*SMALL, "backend=simulate", "delay=exponential", "delay.mean_s=0.1")


@pytest.mark.mpi
def test_auto_starts_goes_on_and_does_nothing(tmp_path: Path):
    first = train(tmp_path, *SMALL, "resume=auto", "checkpoint.every=3")
    assert first.status == 0 and len(first.history) == 8
    history = first.run_dir / "history.csv"
    rows = first.history.to_dict("records")
    before = history.stat().st_mtime_ns
    again = train(tmp_path, *SMALL, "resume=auto", "checkpoint.every=3")
    assert again.status == 0 and "already complete" in again.out and history.stat().st_mtime_ns == before
    further = train(tmp_path, *SMALL, "resume=auto", "rounds=10", "checkpoint.every=3")
    assert further.status == 0 and further.history["round"].tolist() == list(range(10))
    assert further.history.to_dict("records")[:8] == rows
    (first.run_dir / "summary.json").unlink()  # as if it had been killed
    mended = train(tmp_path, *SMALL, "resume=auto", "rounds=10", "checkpoint.every=3")
    assert mended.status == 0 and mended.summary["rounds"] == 10


def test_auto_refuses_another_run_and_a_damaged_one(tmp_path: Path):
    first = train(tmp_path, *SIMULATED, "resume=auto")
    assert first.status == 0, first.err
    other = train(tmp_path, *SIMULATED, "resume=auto", "seed=1", "optimizer.step_size=3")
    assert other.status == 2 and "holds a run with different settings (optimizer, seed);" in other.err
    assert len(other.err.splitlines()) == 1
    summary = first.run_dir / "summary.json"
    summary.write_text("{")
    damaged = train(tmp_path, *SIMULATED, "resume=auto")
    assert damaged.status == 2 and "summary.json: is damaged" in damaged.err and summary.read_text() == "{"


def test_the_time_to_the_target(tmp_path: Path):
    run = train(tmp_path, *SIMULATED, "target=0.6")
    first_s = next(row["clock_s"] for row in run.history.to_dict("records") if row["test_auc"] >= 0.6)
    assert run.summary["time_to_target_s"] == pytest.approx(first_s)


def test_a_target_never_reached(tmp_path: Path):
    assert train(tmp_path, *SIMULATED, "target=1.5").summary["time_to_target_s"] is None


def test_optuna_minimizes_the_time_to_the_target(tmp_path: Path):
    sweep = tmp_path / "tune"
    few = ["hydra.sweeper.n_trials=3", "rounds=20", "target=0.6", "data.rows=1003", f"hydra.sweep.dir={sweep}"]
    done = train(tmp_path, "-m", "experiment=tune", *few)
    assert done.status == 0, done.err
    best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert set(best["best_params"]) == {"load", "wait_for", "optimizer.step_size"}
    times_s = [json.loads(path.read_text())["time_to_target_s"] for path in sweep.glob("*/summary.json")]
    assert len(times_s) == 3
    assert best["best_value"] == pytest.approx(min(time_s for time_s in times_s if time_s is not None))
    assert len(pd.read_csv(sweep / "runs.csv")) == 3


def test_a_sweep_outlives_trials_that_are_refused_or_diverge(tmp_path: Path):
    """They are recorded as failed, and the best of the other trials is found."""
    sweep = tmp_path / "tune"
    few = ["hydra.sweeper.n_trials=6", "rounds=15", "target=0.5", *SMALL_DATA, f"hydra.sweep.dir={sweep}"]
    space = [
        "load=choice(2,5)",
        "optimizer.step_size=choice(3,1e300)",
        "wait_for=range(3,5)",
    ]  # the sampler's seed is fixed
    done = train(tmp_path, "-m", "experiment=tune", *few, *space)
    assert done.status == 0, done.err
    assert "error: load=5: must divide blocks=12" in done.err and "is not finite" in done.err
    best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert best["best_params"] | {"wait_for": 3} == {"load": 2, "optimizer.step_size": 3, "wait_for": 3}
    times_s = [json.loads(path.read_text())["time_to_target_s"] for path in sweep.glob("*/summary.json")]
    assert best["best_value"] == min(time_s for time_s in times_s if time_s is not None)
    assert "Best parameters: {'load': 2," in done.out + done.err


def test_a_sweep_in_which_no_trial_reaches_the_target_says_so(tmp_path: Path):
    few = ["hydra.sweeper.n_trials=2", "rounds=3", "target=1.5", "data.rows=1003"]
    done = train(tmp_path, "-m", "experiment=tune", *few, "load=2", f"hydra.sweep.dir={tmp_path / 's'}")
    assert done.status == 0, done.err
    told = done.out + done.err
    assert "No trial reached the target" in told and "Best" not in told


def test_a_sweep_without_a_single_good_trial_is_one_line_at_its_end(tmp_path: Path):
    few = ["hydra.sweeper.n_trials=2", "rounds=3", "data.rows=1003", "load=5"]
    done = train(tmp_path, "-m", "experiment=tune", *few, f"hydra.sweep.dir={tmp_path / 's'}")
    assert done.status == 2 and "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("error: the sweep has no result")


def test_joblib_runs_simulated_jobs_side_by_side(tmp_path: Path):
    parallel = [
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "scheme=egc,uncoded",
        f"hydra.sweep.dir={tmp_path / 's'}",
    ]
    done = train(tmp_path, "-m", *SIMULATED, *parallel)
    assert done.status == 0, done.err
    alone = train(tmp_path, *SIMULATED, "scheme=egc")
    histories = [pd.read_csv(tmp_path / "s" / name / "history.csv") for name in ("0-egc", "1-uncoded")]
    pd.testing.assert_frame_equal(histories[0], alone.history)
    assert len(histories[1]) == 8


@pytest.mark.parametrize("size", [PAPER, QUICK], ids=["paper", "quick"])
def test_hydra_accepts_every_command_of_the_reproduction(size: Size, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ERASUREHEAD_DATA", str(tmp_path))
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "ec2_data8.npz").touch()
    seen = []
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        for name, *overrides in commands(size, tmp_path / "out"):
            seen.append(shlex.join([name, *overrides]))
            if name == "whatif":
                compose("whatif", overrides=[each for each in overrides if not each.startswith("hydra.")])
                tuned(tmp_path / "out" / overrides[0].partition("=")[2] / "tuning", size)
            if name == "train" and "seed=0" in overrides:
                for job in jobs(overrides):
                    config = compose("train", overrides=job)
                    assert config.workers % config.load == 0 and config.wait_for <= config.workers
    runs = [each for each in seen if not each.startswith("report ")]
    assert len(runs) == len(set(runs)) and seen[-1].startswith("report ")
    of = lambda *words: [each for each in seen if all(word in each for word in words)]
    for data in ("amazon", "covertype", "kc_housing"):
        for delay in (f"delay.mean_s={size.mean_s}", "delay=none"):
            assert len(of("train", f"experiment={data}", delay, "scheme=uncoded", "seed=0")) == 1
    assert len(of("experiment=ec2", "scheme=uncoded")) == len(size.seeds)


def test_runs_are_named_after_what_their_scheme_depends_on(tmp_path: Path):
    """An uncoded run has no choice of load or r."""
    for data in ("amazon", "covertype", "kc_housing"):
        tuned(tmp_path / data / "tuning", QUICK)
    named = {}
    for _, *overrides in commands(QUICK, tmp_path):
        values = {name: value for name, _, value in (each.partition("=") for each in overrides)}
        if "hydra.sweep.subdir" in values:
            named.setdefault(values["scheme"], set()).add(values["hydra.sweep.subdir"])
    assert named == {
        "uncoded": {"uncoded-${late}-seed${seed}"},
        "egc": {"egc-c${load}-${late}-seed${seed}"},
        "erasurehead": {"erasurehead-c${load}-r${wait_for}-${late}-seed${seed}"},
        "ignore_stragglers": {"ignore_stragglers-r${wait_for}-${late}-seed${seed}"},
    }


def test_the_recording_is_found_below_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ERASUREHEAD_DATA", "~/x")
    assert not has_recording()
    (tmp_path / "x" / "traces").mkdir(parents=True)
    (tmp_path / "x" / "traces" / "ec2_data8.npz").touch()
    assert has_recording()
    monkeypatch.delenv("ERASUREHEAD_DATA")
    assert not has_recording()


def tuned(folder: Path, size: Size) -> None:
    """A tuning result in which the second candidate is fastest and the first is not reliable."""
    folder.mkdir(parents=True)
    rows = [
        {"scheme": "erasurehead", "load": load, "wait_for": r, "time_s": 1.0 + i, "reached": 0.5 if i == 0 else 1.0}
        for load in (2, 3, 5)
        for i, r in enumerate(size.candidates)
    ]
    pd.DataFrame(rows).to_csv(folder / "frontier.csv")
    (folder / "summary.json").write_text("{}")


def jobs(overrides: list[str]) -> list[list[str]]:
    """The settings of the first and the last job of a multirun."""
    kept = [each for each in overrides if each != "-m" and not each.startswith("hydra.")]
    settings = [each.partition("=") for each in kept]
    return [[f"{name}={values.split(',')[i]}" for name, _, values in settings] for i in (0, -1)]
