"""What W&B recorded, read back from its offline files; and the table of tracking=csv."""

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import SMALL, Finished, train
from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from erasurehead_jax.tracking import AbstractTracking, Csv, Tracked as Run, report

TRACKED = [override for override in SMALL if override != "tracking=none"]
OFFLINE = {"WANDB_API_KEY": "", "WANDB_MODE": "offline"}


def records(path: Path) -> Iterator[Record]:
    """The records of a .wandb file: a 7-byte header, then a LevelDB log (32 KiB blocks; crc32, length, type)."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


class Recorded:
    """One .wandb file."""

    def __init__(self, path: Path):
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.steps: dict[str, str] = {}
        self.artifacts: list[str] = []
        self.run: Any = None
        for record in records(path):
            match record.WhichOneof("record_type"):
                case "history":
                    self.rows.append(_values(record.history.item))
                case "summary":
                    self.summary |= _values(record.summary.update)
                case "run":
                    self.run = self.run or record.run
                    self.config |= _values(record.run.config.update)
                case "metric":
                    self.steps[record.metric.name] = record.metric.step_metric
                case "artifact":
                    self.artifacts.append(record.artifact.type)
                case "request":
                    if record.request.WhichOneof("request_type") == "log_artifact":
                        self.artifacts.append(record.request.log_artifact.artifact.type)


def _values(items: Any) -> dict[str, Any]:
    return {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}


def recorded(run_dir: Path) -> list[Recorded]:
    return [Recorded(path) for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "tmp").mkdir()
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    finished = train(folder, *TRACKED, "tracking=wandb", "target=0.5", **OFFLINE, **own)
    assert finished.status == 0, finished.err
    assert not [path.name for path in (folder / "tmp").iterdir() if "wandb" in path.name]
    assert not list((folder / "home").rglob("*wandb*")), "nothing is written outside the run directory"
    return finished


@pytest.mark.mpi
def test_one_run_with_everything_of_history_and_summary(run: Finished):
    (only,) = recorded(run.run_dir)  # from rank 0 only
    history = run.history
    rounds = [row for row in only.rows if "round" in row]
    assert len(rounds) == len(history) == 8
    for name in history.columns:
        assert [row[name] for row in rounds] == pytest.approx(history[name].tolist()), name
    assert [row["_step"] for row in rounds] == history["round"].tolist()
    assert only.config["workers"] == 4 and "FractionalRepetition" in json.dumps(only.config["scheme"])
    assert only.summary["clock_s"] == pytest.approx(run.summary["clock_s"])
    assert only.summary["time_to_target_s"] == pytest.approx(run.summary["time_to_target_s"])
    assert set(run.summary) <= {name.split(".")[0] for name in only.summary}
    assert only.run.job_type == "train" and {"erasurehead", "synthetic", "cancel"} <= set(only.run.tags)


@pytest.mark.mpi
def test_step_axes(run: Finished):
    (only,) = recorded(run.run_dir)
    metric = run.history.columns[-1]
    assert {name: only.steps[name] for name in ("train_loss", "test_loss", metric)} == dict.fromkeys(
        ("train_loss", "test_loss", metric), "clock_s"
    )
    others = set(run.history.columns) - {"round", "train_loss", "test_loss", metric}
    assert {only.steps[name] for name in others} == {"round"}


@pytest.mark.mpi
def test_histogram_tables_picture_and_files(run: Finished):
    (only,) = recorded(run.run_dir)
    logged = {name: value for row in only.rows for name, value in row.items()}
    assert sum(logged["arrival_s.values"]) == run.history["waited"].sum()
    tables = run.run_dir / "wandb" / only_folder(run.run_dir) / "files"
    for name, columns in (
        (
            "worker",
            [
                *("worker", "used", "median_s", "times_fastest", "times_own_best"),
                *("host", "late", "faulty", "suspected"),
            ],
        ),
        ("block", ["block", "covered", "longest_gap", "train_loss"]),
    ):
        table = json.loads((tables / logged[f"{name}_table.path"]).read_text())
        assert table["columns"] == columns
        assert len(table["data"]) == 4
    workers = json.loads((tables / logged["worker_table.path"]).read_text())["data"]
    assert [row[1] for row in workers] == run.summary["telemetry"]["workers"]["used"]
    assert (tables / logged["stragglers.path"]).read_bytes().startswith(b"\x89PNG")
    assert {"model", "trace"} <= set(only.artifacts)


def only_folder(run_dir: Path) -> str:
    return next((run_dir / "wandb").glob("offline-run-*")).name


@pytest.mark.mpi
def test_a_resumed_run_is_the_same_run(run: Finished):
    done = train(run.run_dir.parent, f"resume={run.run_dir}", "rounds=11", **OFFLINE)
    assert done.status == 0, done.err
    first, second = recorded(run.run_dir)
    assert first.run.run_id == second.run.run_id
    assert [row["round"] for row in second.rows if "round" in row] == [8, 9, 10]


def test_a_multirun_is_a_group_and_one_table(tmp_path: Path):
    sweep = tmp_path / "sweeps" / "first"
    for tracking in ("wandb", "csv"):
        swept = ["seed=0,1", "backend=simulate", f"hydra.sweep.dir={sweep / tracking}", f"tracking={tracking}"]
        done = train(tmp_path, "-m", *TRACKED, *swept, **OFFLINE)
        assert done.status == 0, done.err
    runs = [recorded(folder)[0].run for folder in sorted((sweep / "wandb").glob("*-erasurehead"))]
    assert [each.run_group for each in runs] == ["first/wandb"] * 2
    rows = list(csv.DictReader((sweep / "csv" / "runs.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1"] and float(rows[0]["test_auc"]) > 0


def test_a_server_that_does_not_answer_costs_a_warning(tmp_path: Path):
    unreachable = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
    done = train(tmp_path, *TRACKED, "tracking=wandb", "tracking.timeout_s=3", "backend=simulate", **unreachable)
    assert done.status == 0, done.err
    assert len(done.history) == 8


def test_the_sweep_file_drives_train(tmp_path: Path):
    """The command that `wandb agent` builds from launchers/wandb_sweep.yaml runs."""
    sweep = yaml.safe_load((Path(__file__).parent.parent / "launchers" / "wandb_sweep.yaml").read_text())
    least = lambda settings: settings["values"][-1] if "values" in settings else settings["min"]
    configured = {"args": {name: {"value": least(settings)} for name, settings in sweep["parameters"].items()}}
    args = create_sweep_command_args(configured)["args_no_hyphens"]
    fixed = [part for part in sweep["command"] if "=" in part and part != "tracking=wandb"]
    assert sweep["command"][1:4] == ["python", "-m", "erasurehead_jax.train"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    quick = ["backend=simulate", "rounds=3", "data.rows=1003", "tracking=none"]
    done = train(tmp_path, *fixed, *args, *quick)
    assert done.status == 0, done.err
    assert sweep["metric"]["name"] in done.summary and done.summary["load"] == 4


def test_a_table_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Here the lock belongs to another user. Any other failure, also of a user's own tracking, has the same effect."""

    class Failing(AbstractTracking):
        def report(self, run: Run) -> None:
            raise RuntimeError("the dashboard is down")

    (tmp_path / "run").mkdir()
    (tmp_path / "runs.csv").mkdir()  # nobody can write it
    finished = Run(tmp_path / "run", {}, {}, {"rounds": 3, "final": {"test_auc": 0.5}})
    report(Csv(), finished)
    report(Failing(), finished)
    table, dashboard = (record.getMessage() for record in caplog.records)
    assert "the run was not reported" in table and "Is a directory" in table
    assert dashboard == "Failing: the run was not reported (RuntimeError: the dashboard is down)"
    (tmp_path / "runs.csv").rmdir()
    report(Csv(), finished)
    assert (tmp_path / "runs.csv").read_text() == "run,rounds,test_auc\nrun,3,0.5\n"
