"""What W&B was told, read back from its offline file."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import SMALL, train
from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]

pytestmark = pytest.mark.mpi


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


def test_offline_run_has_everything(tmp_path: Path):
    overrides = [override for override in SMALL if override != "tracking=none"]
    run = train(tmp_path, *overrides, "tracking=wandb", WANDB_API_KEY="", WANDB_MODE="offline", HOME=str(tmp_path))
    assert run.status == 0, run.err
    files = list((run.run_dir / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1, "one W&B run for one training run, from rank 0 only"
    rows, summary, config = [], {}, {}
    for record in records(files[0]):
        if record.WhichOneof("record_type") == "history":
            rows.append({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
        if record.WhichOneof("record_type") == "summary":
            summary |= {i.key or ".".join(i.nested_key): i.value_json for i in record.summary.update}
        if record.WhichOneof("record_type") == "run":
            config |= {i.key or ".".join(i.nested_key): i.value_json for i in record.run.config.update}
    history = run.history
    assert len(rows) == len(history) == 8
    for name in history.columns.drop("round"):
        assert [row[name] for row in rows] == pytest.approx(history[name].tolist()), name
    assert [row["_step"] for row in rows] == history["round"].tolist()
    assert json.loads(config["workers"]) == 4 and "FractionalRepetition" in config["scheme"]
    assert json.loads(summary["clock_s"]) == pytest.approx(run.summary["clock_s"])
    assert set(run.summary) <= {name.split(".")[0] for name in summary}
