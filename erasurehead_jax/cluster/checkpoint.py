"""Checkpoints: written atomically, validated when read, and never unpickled."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.files import ARRIVED, CHECKPOINT, ITERATES, Progress, kept_rows, replacing
from erasurehead_jax.update import State

FORMAT = 1  # increase it when the arrays of a checkpoint change their meaning
FREE = (
    "rounds",
    "cluster",
    "checkpoint",
    "tracking",
    "target",
    "stop_at_target",
    "patience",
    "callbacks",
    "resume",
)  # settings that a resumed run may change
# Settings that version 0.1 did not have, at the values that leave its runs as they are.
ADDED = {
    "messages": "per_worker",
    "placement": "given",
    "placement_times": None,
    "batch": None,
    "variance_reduction": None,
    "snapshot_every": 20,
    "snapshot": "scheme",
    "stop_at_target": False,
    "patience": None,
    "callbacks": [],
}
COUNTERS = ("late_answers", "faulty_answers", "suspected", "losses", "asked")


class Snapshot(NamedTuple):
    """The state that determines the next round, and the counters so far.

    Delays and random starts are functions of the seed and the round, so no random state needs to be saved.
    """

    progress: Progress
    state: State
    counters: dict[str, np.ndarray]


class Checkpoints:
    """Writes a run's checkpoints to `run_dir`/checkpoint, in a thread, so that the clock does not wait for the disk."""

    def __init__(self, run_dir: Path, config: dict[str, Any]):
        self.folder = run_dir / CHECKPOINT
        self.folder.mkdir(exist_ok=True)
        self._every, self._keep = config["checkpoint"]["every"], config["checkpoint"]["keep"]
        self._fingerprint = fingerprint(config)
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def due(self, rounds: int) -> bool:
        """Whether a checkpoint is to be written after this many rounds."""
        return rounds % self._every == 0

    def save(self, snapshot: Snapshot, sync: Callable[[], None]) -> None:
        """Starts writing; `sync` is called first, to flush the record that the checkpoint relies on."""
        self.wait()
        self._writing = self._writer.submit(self._write, snapshot, sync)

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk. Raises OSError if it could not be written."""
        if self._writing:
            self._writing.result()

    def _write(self, snapshot: Snapshot, sync: Callable[[], None]) -> None:
        sync()
        rounds = snapshot.progress.rounds
        with replacing(self.folder / _name(rounds)) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **_arrays(snapshot, self._fingerprint))
        earlier = [path for path in written(self.folder) if path.name <= _name(rounds)]
        for path in earlier[self._keep :]:
            path.unlink()


def fingerprint(config: dict[str, Any]) -> str:
    """A hash of the settings on which a run's iterates depend."""
    fixed = {name: value for name, value in config.items() if name not in FREE and (name, value) not in ADDED.items()}
    fixed["chunk_rows"] = config["cluster"]["chunk_rows"]  # determines the order in which rows are summed
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def written(folder: Path) -> list[Path]:
    """The checkpoints in the folder, newest first."""
    return sorted(folder.glob("round-*.npz"), reverse=True)


def newest(run_dir: Path, config: dict[str, Any], template: State, metric: str, messages: int):
    """The path and Snapshot of the newest usable checkpoint (None if there is none), and why newer ones are unusable.

    Raises ConfigError if there are checkpoints but none can be used.
    """
    refused: list[str] = []
    for path in written(run_dir / CHECKPOINT):
        try:
            snapshot = read(path, fingerprint(config), template)
            _check_record(run_dir, snapshot, config, metric, messages)
        except ConfigError as error:
            refused.append(str(error))
        else:
            return path, snapshot, refused
    if refused:
        raise ConfigError(f"resume={run_dir}: no usable checkpoint: {'; '.join(refused)}")
    return None, None, refused


def read(path: Path, expected: str, template: State) -> Snapshot:
    """Reads a checkpoint. Raises ConfigError, naming the file, if it is damaged or does not fit this run."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
        if (found := int(arrays["format"])) != FORMAT:
            raise ConfigError(f"{path}: has format {found}; this version reads format {FORMAT}")
        if str(arrays["fingerprint"]) != expected:
            raise ConfigError(f"{path}: belongs to a run with different settings")
        leaves, shape = jax.tree.flatten(template)
        kept = [arrays[f"state_{i}"] for i in range(len(leaves))]
        if any(k.shape != leaf.shape or k.dtype != leaf.dtype for k, leaf in zip(kept, leaves, strict=True)):
            raise ConfigError(f"{path}: its model or optimizer does not have the shapes and types of this run's")
        if not all(np.isfinite(k).all() for k in kept):
            raise ConfigError(f"{path}: its model is not finite")
        state = jax.tree.unflatten(shape, [jax.numpy.asarray(k) for k in kept])
        rounds, *seconds = (arrays[name].item() for name in Progress._fields)
        return Snapshot(Progress(int(rounds), *seconds), state, {name: arrays[name] for name in COUNTERS})
    except ConfigError:
        raise
    except Exception as error:  # damaged zip files raise many kinds of errors in numpy and zipfile
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: is damaged or not a checkpoint ({reason})") from None


def _name(rounds: int) -> str:
    return f"round-{rounds:010d}.npz"


def _arrays(snapshot: Snapshot, print_: str) -> dict[str, np.ndarray]:
    leaves = {f"state_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(snapshot.state))}
    progress = {name: np.array(value) for name, value in snapshot.progress._asdict().items()}
    return {"format": np.array(FORMAT), "fingerprint": np.array(print_)} | leaves | progress | snapshot.counters


def _check_record(run_dir: Path, snapshot: Snapshot, config: dict[str, Any], metric: str, messages: int) -> None:
    """Raises ConfigError if history, arrivals or iterates end before the checkpoint does."""
    rounds = snapshot.progress.rounds
    rows = kept_rows(run_dir, metric, rounds)
    waiting = 0 if config["evaluate_every"] else sum("train_loss" not in row for row in rows)
    x = snapshot.state.x
    for name, size in ((ARRIVED, rounds * messages * 8), (ITERATES, waiting * x.size * x.dtype.itemsize)):
        path = run_dir / CHECKPOINT / name
        if size and (not path.exists() or path.stat().st_size < size):
            raise ConfigError(f"{path}: has fewer rounds than the {rounds} of {_name(rounds)}")
