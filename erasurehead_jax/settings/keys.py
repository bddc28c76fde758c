"""Every key of the `train` and `whatif` configs, with its rule and its documentation."""

from typing import Annotated, Any, NamedTuple

from erasurehead_jax.settings.policies import Late, OnLoss, Snapshot
from erasurehead_jax.settings.rules import (
    Setting,
    anything,
    choice,
    choice_or_list,
    listed,
    number,
    optional,
    share_or_whole,
    switch,
    text,
    whole,
)

Workers = Annotated[int, Setting(whole(1), "processes that compute gradients")]
Blocks = Annotated[int, Setting(whole(1), "blocks of training rows; by default one per worker")]
Load = Annotated[int, Setting(whole(1), "blocks per worker (the replication), for coded schemes")]
WaitFor = Annotated[int, Setting(whole(1), "most workers to wait for, for schemes that stop early")]
Rounds = Annotated[int, Setting(whole(1), "gradient steps")]
Seed = Annotated[int, Setting(whole(0), "determines the starting point and all delays")]
LateWork = Annotated[Late, Setting(choice(*Late), "what happens to work that misses its round; queue: simulator only")]
Messages = Annotated[
    str,
    Setting(
        choice("per_worker", "per_block"),
        "what a worker sends: one coded message, or every block's sum as soon as it is done",
    ),
]
Placement = Annotated[
    str | list[int],
    Setting(
        choice_or_list("given", "random", "balanced"),
        "which worker takes which part of the code; balanced: no group all slow, by recorded times",
    ),
]
PlacementTimes = Annotated[
    str | None, Setting(optional(text("a file")), "balanced: a recording of these workers; null: that of delay=trace")
]
L2 = Annotated[
    float | None, Setting(optional(number()), "regularization in (1/N) sum of row losses + l2 ||x||^2; null: 1/N")
]
Init = Annotated[str, Setting(text("zeros or normal"), "starting point")]
Batch = Annotated[
    float | int | None,
    Setting(optional(share_or_whole()), "mini-batches: share, or number, of each block's rows; null: all rows"),
]
VarianceReduction = Annotated[
    str | None, Setting(optional(choice("svrg")), "svrg: mini-batches corrected by the gradient at a snapshot")
]
SnapshotEvery = Annotated[int, Setting(whole(1), "svrg: rounds from one snapshot to the next")]
SnapshotKind = Annotated[
    Snapshot, Setting(choice(*Snapshot), "svrg: snapshots as the scheme decodes them, or exact ones, waited for")
]
X64 = Annotated[bool, Setting(switch(), "float64 parameters, gradients and messages")]
Compute = Annotated[float, Setting(number(), "simulator only: seconds one worker needs for a pass over all data")]
Overhead = Annotated[float, Setting(number(), "simulator only: seconds the master adds to every round")]


class ClusterSettings(NamedTuple):
    """How ranks are started and how failures are detected."""

    program: Annotated[str, Setting(text("the name of a program"), "the launcher of the ranks: mpirun or srun")]
    options: Annotated[list[str], Setting(listed(anything("word")), "options of the program")]
    most_ranks: Annotated[int | None, Setting(optional(whole(1)), "maximum number of ranks")]
    chunk_rows: Annotated[int, Setting(whole(1), "rows a worker processes between checks for a newer model")]
    startup_s: Annotated[float, Setting(number(0.0), "seconds within which the ranks must be ready")]
    on_loss: Annotated[
        OnLoss, Setting(choice(*OnLoss), "what to do when too many workers are lost for the stopping rule to hold")
    ]
    heartbeat_s: Annotated[float, Setting(number(0.0), "seconds of silence after which a worker is suspected")]
    lost_s: Annotated[float, Setting(number(0.0), "seconds of silence after which a worker counts as lost")]
    shutdown_s: Annotated[
        float, Setting(number(0.0), "longest wait in seconds for a hanging worker at the end of a job")
    ]
    record_events: Annotated[bool, Setting(switch(), "write the protocol's events to events.jsonl")] = False
    hosts: Annotated[str | None, Setting(text("a file"), "cluster=hostfile: a file with one line per host")] = None
    agent: Annotated[
        str | None, Setting(text("a command"), "cluster=hostfile: the command that reaches other hosts")
    ] = None


class CheckpointSettings(NamedTuple):
    """When checkpoints are written and how many are kept."""

    every: Annotated[int, Setting(whole(1), "rounds between checkpoints")]
    keep: Annotated[int, Setting(whole(1), "number of newest checkpoints that are kept")]


class Settings(NamedTuple):
    """The keys of `train`, without the groups that name objects."""

    backend: Annotated[str, Setting(choice("mpi", "simulate"), "real MPI ranks, or a simulation of the same rounds")]
    workers: Workers
    blocks: Blocks
    load: Load
    wait_for: WaitFor
    rounds: Rounds
    seed: Seed
    late: LateWork
    messages: Messages
    placement: Placement
    placement_times: PlacementTimes
    l2: L2
    init: Init
    batch: Batch
    variance_reduction: VarianceReduction
    snapshot_every: SnapshotEvery
    snapshot: SnapshotKind
    x64: X64
    compute_s: Compute
    overhead_s: Overhead
    target: Annotated[
        float | None, Setting(optional(number()), "value of the test metric; a sweep minimizes the time to it")
    ]
    evaluate_every: Annotated[
        int | None, Setting(optional(whole(1)), "null: all iterates after training; N: every N rounds, off the clock")
    ]
    stop_at_target: Annotated[bool, Setting(switch(), "end the run once an evaluation has reached the target")]
    patience: Annotated[
        int | None, Setting(optional(whole(1)), "end the run after so many evaluations without a better test metric")
    ]
    callbacks: Annotated[
        list[Any], Setting(anything("list of _target_"), "functions called on rank 0 after every evaluation")
    ]
    resume: Annotated[
        str | None, Setting(anything("folder | auto | null"), "a run directory to resume; auto: this run's own")
    ]
    cluster: ClusterSettings
    checkpoint: CheckpointSettings


GridNames = Annotated[list[str] | None, Setting(optional(listed(text("a name"), or_one=True)), "names to compare")]
GridWhole = Annotated[list[int] | None, Setting(optional(listed(whole(1), or_one=True)), "values to compare")]
GridNumber = Annotated[list[float] | None, Setting(optional(listed(number(), or_one=True)), "values to compare")]


class GridSettings(NamedTuple):
    """The axes of a what-if; any other number of the delay or optimizer can be added."""

    scheme: GridNames
    load: GridWhole
    wait_for: GridWhole
    late: GridNames
    delay: GridNames
    mean_s: GridNumber
    compute_s: GridNumber
    workers: GridWhole
    placement: GridNames
    step_size: GridNumber
    l2: GridNumber


class WhatIfSettings(NamedTuple):
    """The keys of `whatif`, without the groups that name objects."""

    mode: Annotated[
        str, Setting(choice("timing", "training", "decode"), "round times, times to a target, or codes alone")
    ]
    grid: GridSettings
    seeds: Annotated[int, Setting(whole(1), "runs per grid point; all points have the same delays")]
    targets: Annotated[
        list[float] | None,
        Setting(
            optional(listed(number(), or_one=True)),
            "values of the test metric; null: uncoded's value half-way through its rounds",
        ),
    ]
    chunk: Annotated[int | None, Setting(optional(whole(1)), "runs at a time; null: as many as fit in memory")]
    workers: Workers
    blocks: Blocks
    load: Load
    wait_for: WaitFor
    rounds: Rounds
    seed: Seed
    late: LateWork
    messages: Messages
    placement: Placement
    placement_times: PlacementTimes
    l2: L2
    init: Init
    batch: Batch
    variance_reduction: VarianceReduction
    snapshot_every: SnapshotEvery
    snapshot: SnapshotKind
    x64: X64
    compute_s: Compute
    overhead_s: Overhead
    evaluate_every: Annotated[int | None, Setting(optional(whole(1)), "rounds between evaluations")]


OBJECTS = {
    "scheme": "the gradient code, its stopping rule and its decoder",
    "data": "the data set",
    "objective": "the loss; by default chosen by the data set",
    "delay": "the straggler model: how long workers sleep",
    "optimizer": "the update rule",
    "tracking": "where results are reported, besides the run directory",
}
COMMANDS: dict[str, type] = {"train": Settings, "whatif": WhatIfSettings}
