"""A worker: receives the newest model, sleeps for the injected delay, computes and answers (Algorithm 2)."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.cluster.transport import WorkerEnd
from erasurehead_jax.data import Rows, block_bounds
from erasurehead_jax.job import Job
from erasurehead_jax.types import Late, Params

SIGNS_A_HEARTBEAT = 4  # so that a single late sign of life raises no suspicion


class Task(NamedTuple):
    """One message of a worker: its rows in chunks of equal size, each row weighted by G[block, message]."""

    chunks: list[tuple[Rows, Float[Array, " m"]]]
    zeros: Params


def work(job: Job, worker: int) -> bool:
    """Answers models until the master stops it. `worker` counts from 0. Returns whether another job may follow."""
    messages = [int(m) for m in np.flatnonzero(job.scheme.code.owner == worker)]
    parameters = job.problem.parameters
    touched, tasks = _tasks(job, messages, parameters)
    add_gradient = jax.jit(lambda total, x, rows, weights: total + job.problem.objective.gradient(x, rows, weights))
    for task in tasks:  # compile before reporting ready
        for rows, weights in task.chunks[:1]:
            add_gradient(task.zeros, task.zeros, rows, weights).block_until_ready()

    end = WorkerEnd(
        touched,
        parameters,
        messages,
        job.problem.dtype,
        job.settings.cluster.heartbeat_s / SIGNS_A_HEARTBEAT,
    )
    cancel = job.settings.late == Late.CANCEL

    def gradient(x: Params, task: Task) -> Params | None:
        """The gradient, or None if a newer model overtook it between two chunks."""
        total = task.zeros
        for rows, weights in task.chunks:
            if end.overtaken(cancel):
                return None
            total = add_gradient(total, x, rows, weights).block_until_ready()
        return total

    while (model := end.next_model()) is not None:
        if not end.sleep(model.delay_s, cancel):
            continue
        for message, task in zip(messages, tasks, strict=True):
            answer = gradient(model.payload, task)
            if answer is None:
                break
            end.answer(message, model.round, np.asarray(answer))
    return end.goodbye()


def _tasks(job: Job, messages: list[int], parameters: int) -> tuple[Int[np.ndarray, " t"] | None, list[Task]]:
    """The coordinates that this worker's blocks touch (None: all), and its messages restricted to them."""
    objective, train, dtype = job.problem.objective, job.problem.dataset.train, job.problem.dtype
    bounds = block_bounds(len(train), job.scheme.code.blocks)
    columns = [job.scheme.code.G[:, message] for message in messages]
    block = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    rows = [np.flatnonzero(column[block]) for column in columns]  # none for an empty message
    weights = [column[block][taken] for column, taken in zip(columns, rows, strict=True)]
    held = np.unique(np.concatenate(rows))
    touched = objective.touched(train.take(held)) if len(held) else np.empty(0, int)
    zeros = jax.device_put(np.zeros(parameters if touched is None else len(touched), dtype))
    tasks = [
        Task(
            _chunks(objective.restrict(train.take(taken), touched), weight, job.settings.cluster.chunk_rows, dtype)
            if len(taken)
            else [],  # an empty message is a vector of zeros
            zeros,
        )
        for taken, weight in zip(rows, weights, strict=True)
    ]
    return touched, tasks


def _chunks(rows: Rows, weights: Float[np.ndarray, " m"], chunk_rows: int, dtype: np.dtype) -> list:
    """Chunks of one size, so that one compilation suffices; the last is padded with row 0 at weight 0."""
    count = -(-len(rows) // chunk_rows)
    size = -(-len(rows) // count)
    filled = np.pad(np.arange(len(rows)), (0, count * size - len(rows)))
    weights = np.pad(weights.astype(dtype), (0, len(filled) - len(rows)))
    return [
        jax.device_put((rows.take(filled[i : i + size]), weights[i : i + size]))  # jnp.asarray would compile
        for i in range(0, len(filled), size)
    ]
