"""Invalid input: one line with the field, the value and the rule; status 2; no files."""

import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import LIMIT_S, SMALL, Finished, command, environment, execute, train, train_cold, train_many
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings, strategies as st
from omegaconf import OmegaConf

from erasurehead_jax import hydra_app
from erasurehead_jax.refusals import override
from erasurehead_jax.settings.schema import known_keys
from erasurehead_jax.training import continue_hint

BAD = {
    "load=4": "load=4: must divide blocks=30, as 3 and 5 do (every group of workers",
    "workers=25 blocks=30": "workers=25: must be a multiple of blocks/load=10",
    "wait_for=0": "wait_for=0: must be a whole number, at least 1",
    "wait_for=31": "wait_for=31: must lie between 1 and workers=30",
    "workers=6": "wait_for=11: must lie between 1 and workers=6; set wait_for",
    "wait_for=2.5": "wait_for=2.5: must be a whole number, at least 1",
    "scheme=ignore_stragglers wait_for=31": "wait_for=31: must lie between 1 and workers=30",
    "scheme=nothing": "scheme=nothing: unknown; choose one of bernoulli, bibd, block_model",
    "scheme=egc_cyclic blocks=60": "blocks=60: cyclic repetition needs as many blocks as workers (30)",
    "delay=exponential delay.mean_s=-1": "delay.mean_s=-1: must be a finite number, 0 or more",
    "delay=exponential delay.mean_s=soon": "delay.mean_s=soon: must be a finite number, 0 or more",
    "delay=shifted_exponential delay.shift_s=inf": "delay.shift_s=inf: must be a finite number, 0 or more",
    "rounds=0": "rounds=0: must be a whole number, at least 1",
    "rounds=many": "rounds=many: must be a whole number, at least 1",
    "seed=-1": "seed=-1: must be a whole number, at least 0",
    "scheme=uncoded workers=10 blocks=20000": "blocks=20000: must be at most the number of training rows, 19200",
    "late=queue": "late=queue: must be one of cancel, skip, wait",
    "init=ones": "init=ones: must be zeros or normal",
    "l2=-1": "l2=-1: must be a finite number, 0 or more",
    "x64=perhaps": "x64=perhaps: must be true or false",
    "evaluate_every=0": "evaluate_every=0: must be a whole number, at least 1",
    "optimizer.step_size=0": "optimizer.step_size=0: must be a finite number, above 0",
    "optimizer.decay=1.5": "optimizer.decay=1.5: must be a finite number, above 0 and at most 1",
    "optimizer=newton": "optimizer=newton: unknown; choose one of adam, agd, gd, nesterov",
    "optimizer._target_=optax.nothing": "optimizer._target_=optax.nothing: optax has no 'nothing'; ",
    "optimizer._target_=optax.adam optimizer.learning_rate=0.03": (
        "optimizer.learning_rate=0.03: unknown setting; these are the settings of another optimizer: write the new "
        "_target_ and its settings into a file, conf/optimizer/NAME.yaml, and add --config-dir conf optimizer=NAME"
    ),
    "scheme.decode.rescale=twice": "rescale=twice: must be none, expected or covered",
    "data.task=regression": "is not a class; logistic needs classes (for numbers, use objective=least_squares)",
    "data.rows=1": "data.rows=1: must be a whole number, at least 5",
    "cluster.chunk_rows=0": "cluster.chunk_rows=0: must be a whole number, at least 1",
    "cluster.program=no-such-mpirun": "cluster.program=no-such-mpirun: not found in",
    "cluster.on_loss=hope": "cluster.on_loss=hope: must be stop or approximate",
    "cluster.heartbeat_s=0": "cluster.heartbeat_s=0: must be a finite number, above 0",
    "cluster.heartbeat_s=soon": "cluster.heartbeat_s=soon: must be a finite number, above 0",
    "cluster.shutdown_s=-1": "cluster.shutdown_s=-1: must be a finite number, above 0",
    "cluster.startup_s=null": "cluster.startup_s=null: must be a finite number, above 0",
    "checkpoint.every=0": "checkpoint.every=0: must be a whole number, at least 1",
    "checkpoint.keep=some": "checkpoint.keep=some: must be a whole number, at least 1",
    "checkpoint=null": "checkpoint=null: must be a group of settings",
    "resume=no-such-folder": "no-such-folder: not a run directory",
    "workers=[1,2]": "workers=[1, 2]: must be a whole number, at least 1",
    "workers=null": "workers=null: must be a whole number, at least 1",
    "load={a:1}": "load={'a': 1}: must be a whole number, at least 1",
    "delay=exponential delay.mean_s=null": "delay.mean_s=null: must be a finite number, 0 or more",
    "delay=exponential delay.mean_s=[1]": "delay.mean_s=[1]: must be a finite number, 0 or more",
    "delay=slow_workers delay.slow=31": "delay.slow=31: must be a whole number between 0 and workers=30",
    "delay=trace delay.path=nowhere.npz": "nowhere.npz: cannot be read as a recording",
    "delay=trace": "delay.path=???: needs a value",
    "l2=nan": "l2=nan: must be a finite number, 0 or more",
    "late=null": "late=null: must be one of cancel, skip, wait",
    "backend=quantum": "backend=quantum: must be mpi or simulate",
    "backend=simulate late=never": "late=never: must be one of",
    "optimizer=null": "optimizer=null",
    "tracking=null": "tracking=null",
    "tracking=wandb tracking.timeout_s=never": "tracking.timeout_s=never: must be a finite number, above 0",
    "target=soon": "target=soon: must be a finite number, 0 or more",
    "delay=trace delay.path=nowhere.npz delay.scale=0": "delay.scale=0: must be a finite number, above 0",
    "scheme=null": "scheme=null",
    "data=null": "data=null",
    "delay=null": "delay=null",
    "scheme.code._target_=erasurehead_jax.codes.FractionalRepetitio": "did you mean FractionalRepetition?",
    "scheme.code._target_=nowhere.Code": "there is no module 'nowhere' in the working directory or on the PYTHONPATH",
    "delay._target_=builtins.dict": "delay._target_=builtins.dict: must create an instance of AbstractDelay",
    "cluster.program=null": "cluster.program=null: must be the name of a program",
    "workers=4294967296 blocks=4294967296": "workers=4294967296: must be below 2^32",
    "rouns=3": "rouns=3: unknown setting; did you mean rounds?",
    "+batch_size=100": "batch_size=100: unknown setting; did you mean batch?",
    "+early_stopping=true": "early_stopping=true: unknown setting; --help lists the known ones",
    "+wait_fro=3": "wait_fro=3: unknown setting; did you mean wait_for?",
    "+cluster.heart_beat_s=3": "cluster.heart_beat_s=3: unknown setting; did you mean heartbeat_s?",
    "checkpoint.evry=3": "checkpoint.evry=3: unknown setting; did you mean every?",
    "+checkpoint.each=3": "checkpoint.each=3: unknown setting; choose one of every, keep",
    "delay=exponential delay.mean=3": "delay.mean=3: unknown setting; did you mean mean_s?",
    "delay=exponential +delay.means_s=3": "delay.means_s=3: unknown setting; did you mean mean_s?",
    "+delay.mean_s=3": "delay.mean_s=3: unknown setting; erasurehead_jax.delays.NoDelay takes no settings",
    "+scheme.code.lod=3": "scheme.code.lod=3: unknown setting; did you mean load?",
    "~workers": "workers: is missing; the config must define it",
    "~cluster.lost_s": "cluster.lost_s: is missing; the config must define it",
    "~data": "data: is missing",
    "~delay._target_": "must be a group of settings with a _target_",
    "delay=trace delay.path=ö=(.npz": "quote the value: 'delay.path=\"ö=(.npz\"'",
    "workers": "workers: has no value; write workers=VALUE",
}


def refused(run: Finished) -> str:
    """The error line of a refused command."""
    assert run.status == 2, run.err
    lines = run.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), run.err
    return lines[0]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """The results of all invalid command lines."""
    cases = [(tmp_path_factory.mktemp("bad"), overrides.split(" ")) for overrides in BAD]
    return dict(zip(BAD, train_many(cases), strict=True))


@pytest.mark.parametrize("overrides", BAD)
@pytest.mark.slow
def test_refusals(overrides: str, refusals: dict[str, Finished]):
    run = refusals[overrides]
    assert BAD[overrides] in refused(run)
    assert list(run.run_dir.parent.iterdir()) == []


YAML = {
    "tab": "workers:\n\t- 4\n",
    "bracket": "workers: 4\ndata: [1, 2\n",
    "twice": "workers: 4\nworkers: 5\n",
    "unknown": "# @package _global_\nworkrs: 4\n",
}
NAMED = {
    "tab": "experiment/mine.yaml, line 2: is not valid YAML",
    "bracket": "experiment/mine.yaml, line 3: is not valid YAML",
    "twice": "experiment/mine.yaml, line 2: is not valid YAML (found duplicate key workers)",
    "unknown": "workrs=4: unknown setting; did you mean workers?",
}


def test_a_mistake_in_a_yaml_file_is_one_line(tmp_path: Path):
    cases = []
    for name, content in YAML.items():
        (tmp_path / name / "conf" / "experiment").mkdir(parents=True)
        (tmp_path / name / "conf" / "experiment" / "mine.yaml").write_text(content)
        cases.append((tmp_path / name, ["--config-dir", "conf", "experiment=mine"]))
    for name, run in zip(YAML, train_many(cases), strict=True):
        assert NAMED[name] in refused(run)
        assert not run.run_dir.exists()


def test_errors_of_a_users_function(tmp_path: Path):
    """A missing file gives one line with its path; a programming error keeps its whole traceback."""
    new = "data={_target_:user_code."
    missing, bug, wrong = train_many(
        [
            (tmp_path, ["~data", "+objective=least_squares", f"+{new}from_file,path:nowhere.csv}}"]),
            (tmp_path, ["~data", "+objective=least_squares", f"+{new}with_a_bug}}"]),
            (tmp_path, ["~data", "+objective=least_squares", f"+{new}from_file}}"]),
        ]
    )
    assert refused(missing) == f"error: data: {tmp_path / 'nowhere.csv'}: No such file or directory"
    assert refused(wrong) == "error: data.path: needs a value; user_code.from_file has no default for it"
    assert bug.status == 1 and bug.err.rstrip().endswith("KeyError: 'a bug of the user'")
    assert "user_code.py" in bug.err and "Error executing job" not in bug.err
    assert list(tmp_path.iterdir()) == []


def test_a_simulation_that_diverges_is_one_line(tmp_path: Path):
    """It is not preceded by Hydra's "Error executing job with overrides"."""
    small = ["backend=simulate", "data.rows=103", "data.fields=2", "workers=4", "load=2", "wait_for=2", "tracking=none"]
    (run,) = train_many([(tmp_path, [*small, "rounds=3", "optimizer.step_size=1e30", "objective=least_squares"])])
    assert run.status == 5
    assert [line for line in run.err.splitlines() if "Error executing" in line or "stopped" in line] == [
        line for line in run.err.splitlines() if line.startswith("stopped: ")
    ]


def test_help_lists_every_key(tmp_path: Path):
    (help_,) = train_many([(tmp_path, ["--help"])])
    assert help_.status == 0 and help_.err == ""
    words = {line.split()[0] for line in help_.out.splitlines() if line.startswith("  ")}
    assert {*known_keys("train")} - {"cluster", "checkpoint"} <= words and "cluster.lost_s" in words
    assert "scheme: bernoulli, bibd, block_model" in help_.out


def test_the_package_lists_its_commands(capsys: pytest.CaptureFixture[str]):
    runpy.run_module("erasurehead_jax", run_name="__main__")
    output = capsys.readouterr().out
    assert all(f"erasurehead_jax.{name} " in output for name in ("train", "whatif", "report", "reproduce"))


@pytest.mark.parametrize(
    ("env", "printed"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "0"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}, False),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, True),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "PMIX_RANK": "1"}, False),
    ],
)
def test_several_copies_of_the_command(env: dict[str, str], printed: bool, monkeypatch, capsys):
    """The first one explains the mistake; all end with status 2 before doing anything."""
    monkeypatch.setattr(hydra_app, "FIRST_RANK_S", 0.0)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as left:
        hydra_app.run_command(lambda: pytest.fail("it was run"))
    assert left.value.code == 2
    assert ("it starts its ranks itself" in capsys.readouterr().err) is printed


@pytest.mark.parametrize(
    "env",
    [
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMIX_RANK": "0"},  # submitit, under srun
        {"SLURM_NTASKS": "31", "SLURM_PROCID": "0"},  # a job script
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
    ],
)
def test_a_command_that_runs_once_is_run(env: dict[str, str], monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = []
    with pytest.raises(SystemExit) as left:
        hydra_app.run_command(lambda: done.append(True))
    assert left.value.code == 0 and done


@pytest.mark.mpi
def test_mpirun_of_the_command(tmp_path: Path):
    line = [Path(sys.executable).parent / "mpirun", "-n", "3", "--map-by", ":OVERSUBSCRIBE", *command("rounds=1")]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = execute(line, tmp_path, **root)
    assert done.returncode == 2
    assert done.stderr.count("error: mpirun or srun has started this command 3 times") == 1
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=200)
@given(st.text(st.characters(exclude_characters="\0$", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_an_override_can_be_pasted(path: str):
    """It survives the shell and Hydra's grammar, whatever it contains."""
    (word,) = shlex.split(override("resume", path))
    assert str(OverridesParser.create().parse_override(word).value()) == path


def test_the_hint_to_resume_can_be_pasted(tmp_path: Path):
    (folder := tmp_path / "a b=ü,1" / "checkpoint").mkdir(parents=True)
    (folder / "round-0000000003.npz").touch()
    word = shlex.split(continue_hint(folder.parent))[-1]
    assert OverridesParser.create().parse_override(word).value() == str(folder.parent)


def test_relative_paths_count_from_where_the_command_was_started(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "sub")
    groups = {
        "data": {"path": "a.csv", "rows_path": "${oc.env:SOMEWHERE}/b", "path_length": 3, "parts": [{"path": "c"}]},
        "delay": {"path": "/absolute", "other": {"path": "s3://bucket/x"}, "file": "kept", "more_path": "???"},
    }
    cfg = OmegaConf.create(groups)
    hydra_app._make_paths_absolute(cfg, tmp_path)
    assert cfg.data.path == str(tmp_path / "a.csv") and cfg.data.rows_path == str(tmp_path / "sub" / "b")
    assert cfg.data.parts[0].path == str(tmp_path / "c") and cfg.data.path_length == 3
    assert cfg.delay.path == "/absolute" and cfg.delay.other.path == "s3://bucket/x" and cfg.delay.file == "kept"


USER_DATA = """
from erasurehead_jax.data import synthetic
def make(**sizes):
    return synthetic(rows=103, fields=2, categories=5)
"""


@pytest.mark.mpi
def test_modules_and_files_of_the_working_directory(tmp_path: Path):
    """The installed command finds them, from another directory than the run's, and when resumed from elsewhere."""
    (tmp_path / "mine.py").write_text(USER_DATA)
    np.savez(tmp_path / "t.npz", times_s=np.zeros((9, 4)))
    program = str(Path(sys.executable).parent / "erasurehead-train")
    small = ["workers=4", "load=2", "wait_for=2", "rounds=3", "tracking=none"]
    given = [
        *small,
        "~data",
        "+objective=logistic",
        "+data={_target_:mine.make}",
        "delay=trace",
        "delay.path=t.npz",
        "hydra.job.chdir=true",
    ]
    env = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    done = run_in(tmp_path, [program, *given, "hydra.run.dir=a run"], env)
    assert done.returncode == 0, done.stderr
    (elsewhere := tmp_path / "elsewhere").mkdir()
    again = [*command("rounds=5"), *shlex.split(override("resume", tmp_path / "a run"))]
    done = run_in(elsewhere, again, env | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "a run" / "history.csv")) == 5


def run_in(folder: Path, line: list[str], env: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT_S)


def test_refusals_of_the_real_command(tmp_path: Path):
    assert BAD["load=4"] in refused(train_cold(tmp_path, "load=4"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_with_something_in_it_is_left_as_it_is(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.csv").write_text("precious")
    assert "must be new or empty" in refused(train(tmp_path))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["history.csv"]
    assert (tmp_path / "run" / "history.csv").read_text() == "precious"


def test_a_run_directory_that_is_a_file(tmp_path: Path):
    (tmp_path / "run").write_text("precious")
    assert "File exists" in refused(train(tmp_path))
    assert (tmp_path / "run").read_text() == "precious"


def test_the_error_for_missing_raw_data_lists_the_searched_folders(tmp_path: Path):
    for folder in ("nothing", "cache"):
        (tmp_path / folder).mkdir()
    run = train(
        tmp_path,
        "data=amazon",
        ERASUREHEAD_DATA=str(tmp_path / "nothing"),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        HTTPS_PROXY="http://127.0.0.1:9",
    )
    line = refused(run)
    assert str(tmp_path / "nothing" / "amazon_employee_access_train.csv") in line
    assert str(tmp_path / "cache") in line and "set ERASUREHEAD_DATA" in line
    assert not (tmp_path / "run").exists()


def test_corrupt_raw_data(tmp_path: Path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "kc_house_data.csv").write_text("id,price\n1,2\n")
    run = train(tmp_path, "data=kc_housing", ERASUREHEAD_DATA=str(raw), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "kc_house_data.csv is corrupt or another version" in refused(run)
    (raw / "kc_house_data.csv").unlink()
    (raw / "kc_house_data.csv.gz").write_bytes(b"not gzip at all")
    run = train(tmp_path, "data=kc_housing", ERASUREHEAD_DATA=str(raw), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "kc_house_data.csv.gz cannot be read" in refused(run)


def test_a_metric_that_cannot_be_computed_is_reported_once(tmp_path: Path):
    run = train(
        tmp_path, "data.rows=5", "workers=2", "load=1", "wait_for=2", "rounds=2", "backend=simulate", "tracking=none"
    )
    assert run.status == 0, run.err
    assert run.err.count("warning: data=synthetic: the test AUC cannot be computed") == 1
    assert np.isfinite(run.history["test_loss"]).all() and run.summary["final"]["test_auc"] is None


def test_a_simulated_run_starts_no_workers_and_says_that_no_time_passes(tmp_path: Path):
    run = train(tmp_path, *SMALL, "backend=simulate", "rounds=2")
    assert run.status == 0, run.err
    assert "starting" not in run.err and "0.000 s" not in run.out
    assert "no time passes in the simulation" in run.out
