"""What a worker computes: the blocks of each of its messages, on the coordinates that they touch."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.cluster.pieces import Coordinates, part_length, places
from erasurehead_jax.data import Rows, block_bounds
from erasurehead_jax.job import Job
from erasurehead_jax.sampling import drawn_rows


class Held(NamedTuple):
    """A block of a task: its number, its rows among those of the task, and the weight of its gradient."""

    block: int
    first: int
    rows: int
    weight: float


class Task(NamedTuple):
    """Blocks whose weighted gradients are summed: those of a message or, if messages are parts, one of them."""

    rows: Rows | None  # None without blocks
    held: list[Held]
    chunks: list[tuple[Rows, Float[Array, " m"]]]  # all rows in chunks of equal size, for rounds that use all of them
    mixing: Float[Array, " parts"] | None = None  # the coefficient of each part of the sum; None: all 1


class Message(NamedTuple):
    """A message as the sum of one or more tasks, restricted to the coordinates that its blocks touch."""

    tasks: list[Task]
    coordinates: Coordinates
    within: Coordinates | None  # where they are among the worker's coordinates; None: the same
    sent: Coordinates  # as sent: the same, or their places within a part
    part: Int[Array, " t"] | None = None  # the part of each coordinate, where there are several
    place: Int[Array, " t"] | None = None  # which place each coordinate has


class Plan(NamedTuple):
    """A worker's messages, and the coordinates that its blocks touch."""

    touched: Coordinates | None  # None: all
    coordinates: Coordinates
    messages: list[Message]


def make_plan(job: Job, messages: Sequence[int]) -> Plan:
    """The plan of the worker that sends these messages."""
    code, parameters = job.scheme.code, job.problem.parameters
    blocks = [np.flatnonzero(code.G[:, message]).tolist() for message in messages]
    touched = _touched(job, sorted({*chain(*blocks)}))
    coordinates = np.arange(parameters) if touched is None else touched
    found = []
    for message, some in zip(messages, blocks, strict=True):
        own = touched if touched is None or len(messages) == 1 else _touched(job, some)
        all_own = coordinates if own is None else own
        within = None if len(all_own) == len(coordinates) else np.searchsorted(coordinates, all_own)
        if code.parts == 1:
            found.append(Message([_task(job, some, code.G[some, message], own)], all_own, within, all_own))
            continue
        mixing = jax.device_put(code.coefficients[some, :, message].astype(job.problem.dtype))
        tasks = [_task(job, [block], np.ones(1), own, each) for block, each in zip(some, mixing, strict=True)]
        sent, place = places(all_own, parameters, code.parts)
        part = all_own // part_length(parameters, code.parts)
        found.append(Message(tasks, all_own, within, sent, *jax.device_put((part, place))))
    return Plan(touched, coordinates, found)


def _rows(job: Job, blocks: Sequence[int]) -> Rows:
    train = job.problem.dataset.train
    bounds = block_bounds(len(train), job.scheme.code.blocks)
    return train.take(np.concatenate([np.arange(*bounds[block : block + 2]) for block in blocks]))


def _touched(job: Job, blocks: Sequence[int]) -> Coordinates | None:
    return job.problem.objective.touched(_rows(job, blocks)) if blocks else np.empty(0, int)


def _task(
    job: Job,
    blocks: Sequence[int],
    weights: Float[np.ndarray, " held"],
    touched: Coordinates | None,
    mixing: Float[Array, " parts"] | None = None,
) -> Task:
    if not blocks:
        return Task(None, [], [])
    sizes = np.diff(block_bounds(len(job.problem.dataset.train), job.scheme.code.blocks))[blocks].tolist()
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    held = list(map(Held, blocks, firsts, sizes, weights.tolist()))
    rows = job.problem.objective.restrict(_rows(job, blocks), touched)
    chunks = []
    if job.sampling.is_whole(0):
        row_weights = np.repeat(weights, sizes).astype(job.problem.dtype)
        parts = _of_one_size(np.arange(len(rows)), row_weights, job.settings.cluster.chunk_rows)
        chunks = [jax.device_put((rows.take(taken), weight)) for taken, weight in parts]
    return Task(None if job.sampling.batch is None else jax.device_put(rows), held, chunks, mixing)


def drawn(job: Job, task: Task, t: int) -> Iterator[tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
    """The rows of a mini-batch and their weights, in chunks of equal size."""
    size, seed = job.sampling.batch, job.settings.seed
    assert size is not None
    rows = [each.first + drawn_rows(seed, t, each.block, each.rows, size) for each in task.held]
    weights = np.repeat([each.weight * each.rows / size for each in task.held], size)
    return _of_one_size(np.concatenate(rows), weights.astype(job.problem.dtype), job.settings.cluster.chunk_rows)


def _of_one_size(
    rows: Int[np.ndarray, " m"], weights: Float[np.ndarray, " m"], most: int
) -> Iterator[tuple[Int[np.ndarray, " piece"], Float[np.ndarray, " piece"]]]:
    """Pieces of one size, so that one compilation suffices; the last is padded with a row at weight 0."""
    count = -(-len(rows) // most)
    size = -(-len(rows) // count)
    padding = (0, count * size - len(rows))
    rows, weights = np.pad(rows, padding, mode="edge"), np.pad(weights, padding)
    for i in range(0, len(rows), size):
        yield rows[i : i + size], weights[i : i + size]
