"""Every key of the `train` and `whatif` configs, with its rule and its documentation: the one place that knows them."""

from typing import Annotated, NamedTuple

from erasurehead_jax.settings.policies import Late, OnLoss
from erasurehead_jax.settings.rules import Setting, anything, choice, listed, number, optional, switch, text, whole

Workers = Annotated[int, Setting(whole(1), "processes that compute gradients")]
Blocks = Annotated[int, Setting(whole(1), "parts of the training rows; as many as workers by default")]
Load = Annotated[int, Setting(whole(1), "blocks a worker holds, for schemes with a code")]
WaitFor = Annotated[int, Setting(whole(1), "workers waited for at most, for schemes that stop early")]
Rounds = Annotated[int, Setting(whole(1), "gradient steps")]
Seed = Annotated[int, Setting(whole(0), "the starting point and all delays follow from it")]
LateWork = Annotated[Late, Setting(choice(*Late), "what happens to work that missed its round; queue: simulated only")]
L2 = Annotated[float | None, Setting(optional(number()), "of (1/N) sum of row losses + l2 ||x||^2; null: 1/N")]
Init = Annotated[str, Setting(text("zeros or normal"), "starting point")]
X64 = Annotated[bool, Setting(switch(), "float64 parameters, gradients and messages")]
Compute = Annotated[float, Setting(number(), "simulated only: seconds one worker would need for a pass over all data")]
Overhead = Annotated[float, Setting(number(), "simulated only: seconds the master adds to every round")]


class ClusterSettings(NamedTuple):
    """How ranks are started, and how patient the master is with them."""

    program: Annotated[str, Setting(text("the name of a program"), "what starts the ranks: mpirun or srun")]
    options: Annotated[list[str], Setting(listed(anything("word")), "its options")]
    most_ranks: Annotated[int | None, Setting(optional(whole(1)), "more ranks are refused")]
    chunk_rows: Annotated[int, Setting(whole(1), "rows a worker computes on before it looks for a newer model")]
    startup_s: Annotated[float, Setting(number(0.0), "seconds within which the ranks must be ready")]
    on_loss: Annotated[OnLoss, Setting(choice(*OnLoss), "when too many workers are lost for the stopping rule")]
    heartbeat_s: Annotated[float, Setting(number(0.0), "seconds of silence after which a worker is suspected")]
    lost_s: Annotated[float, Setting(number(0.0), "seconds of silence after which a worker counts as lost")]
    shutdown_s: Annotated[float, Setting(number(0.0), "seconds that the end of a job waits for a worker that hangs")]
    record_events: Annotated[bool, Setting(switch(), "write the protocol's events to events.jsonl")] = False
    hosts: Annotated[str | None, Setting(text("a file"), "cluster=hostfile: a file with a line for every host")] = None
    agent: Annotated[str | None, Setting(text("a command"), "cluster=hostfile: how other hosts are reached")] = None


class CheckpointSettings(NamedTuple):
    """When checkpoints are written, and how many stay."""

    every: Annotated[int, Setting(whole(1), "rounds from one checkpoint to the next")]
    keep: Annotated[int, Setting(whole(1), "how many of the newest are kept")]


class Settings(NamedTuple):
    """The keys of `train`, but for the groups that name objects."""

    backend: Annotated[str, Setting(choice("mpi", "simulate"), "real MPI ranks, or the same rounds simulated")]
    workers: Workers
    blocks: Blocks
    load: Load
    wait_for: WaitFor
    rounds: Rounds
    seed: Seed
    late: LateWork
    l2: L2
    init: Init
    x64: X64
    compute_s: Compute
    overhead_s: Overhead
    target: Annotated[float | None, Setting(optional(number()), "of the test metric; a sweep minimizes the time to it")]
    evaluate_every: Annotated[
        int | None, Setting(optional(whole(1)), "null: all iterates after training; N: every N rounds, off the clock")
    ]
    resume: Annotated[
        str | None, Setting(anything("folder | auto | null"), "a run directory to continue; auto: this run's own")
    ]
    cluster: ClusterSettings
    checkpoint: CheckpointSettings


GridNames = Annotated[list[str] | None, Setting(optional(listed(text("a name"), or_one=True)), "names to compare")]
GridWhole = Annotated[list[int] | None, Setting(optional(listed(whole(1), or_one=True)), "values to compare")]
GridNumber = Annotated[list[float] | None, Setting(optional(listed(number(), or_one=True)), "values to compare")]


class GridSettings(NamedTuple):
    """The axes of a what-if; any other number of the delay or optimizer may be added."""

    scheme: GridNames
    load: GridWhole
    wait_for: GridWhole
    late: GridNames
    delay: GridNames
    mean_s: GridNumber
    compute_s: GridNumber
    workers: GridWhole
    step_size: GridNumber
    l2: GridNumber


class WhatIfSettings(NamedTuple):
    """The keys of `whatif`, but for the groups that name objects."""

    mode: Annotated[str, Setting(choice("timing", "training"), "round times, or the time to a target")]
    grid: GridSettings
    seeds: Annotated[int, Setting(whole(1), "runs a point, under the same delays for every point")]
    targets: Annotated[
        list[float] | None,
        Setting(optional(listed(number(), or_one=True)), "of the test metric; null: uncoded's half-way"),
    ]
    chunk: Annotated[int | None, Setting(optional(whole(1)), "runs at a time; null: as many as there is memory for")]
    workers: Workers
    blocks: Blocks
    load: Load
    wait_for: WaitFor
    rounds: Rounds
    seed: Seed
    late: LateWork
    l2: L2
    init: Init
    x64: X64
    compute_s: Compute
    overhead_s: Overhead
    evaluate_every: Annotated[int | None, Setting(optional(whole(1)), "rounds between evaluations")]


OBJECTS = {
    "scheme": "the gradient code, its stopping rule and its decoder",
    "data": "the data set",
    "objective": "the loss; follows the data set unless it is set",
    "delay": "the straggler model: seconds that workers sleep",
    "optimizer": "the step",
    "tracking": "where a run is reported besides its directory",
}
COMMANDS: dict[str, type] = {"train": Settings, "whatif": WhatIfSettings}
