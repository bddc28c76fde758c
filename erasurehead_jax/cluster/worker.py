"""A worker: receives the newest model, sleeps for the injected delay, computes and answers (Algorithm 2)."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.cluster.transport import WorkerEnd
from erasurehead_jax.data import Rows, block_bounds
from erasurehead_jax.job import Job
from erasurehead_jax.sampling import drawn_rows
from erasurehead_jax.types import Late, Params

SIGNS_A_HEARTBEAT = 4  # so that a single late sign of life raises no suspicion


class Held(NamedTuple):
    """A block of a message: its number, its rows among those of the message, and G[block, message]."""

    block: int
    first: int
    rows: int
    weight: float


class Task(NamedTuple):
    """One message of a worker."""

    rows: Rows | None  # None for an empty message
    held: list[Held]
    chunks: list[tuple[Rows, Float[Array, " m"]]]  # all rows in chunks of equal size, for rounds that use all of them


class Worker:
    """The messages of one worker, and their gradients."""

    def __init__(self, job: Job, worker: int):
        self.messages = [int(m) for m in np.flatnonzero(job.scheme.code.owner == worker)]
        self._job, self._dtype = job, job.problem.dtype
        self.touched, self._tasks = self._prepare()
        self._zeros = jax.device_put(np.zeros(self.length, self._dtype))
        objective = job.problem.objective
        self._add = jax.jit(lambda total, x, rows, weights: total + objective.gradient(x, rows, weights))
        self._add_drawn = jax.jit(
            lambda total, x, rows, weights, drawn: total + objective.gradient(x, rows.take(drawn), weights)
        )

    @property
    def length(self) -> int:
        """The number of coordinates of its messages."""
        return self._job.problem.parameters if self.touched is None else len(self.touched)

    def compile(self) -> None:
        """Computes every kind of round once: with SVRG, a snapshot and another one."""
        zeros = np.zeros((self._job.sampling.points, self.length), self._dtype)
        for t in range(self._job.sampling.points):
            for message in self.messages:
                self.gradient(message, t, zeros, lambda: False)

    def gradient(
        self, message: int, t: int, points: Float[np.ndarray, "points t"], overtaken: Callable[[], bool]
    ) -> Params | None:
        """A message in round t, or None if `overtaken` held before one of its chunks."""
        task = self._tasks[self.messages.index(message)]
        total = self._zeros
        if self._job.sampling.is_whole(t):
            for rows, weights in task.chunks:
                if overtaken():
                    return None
                total = self._add(total, points[0], rows, weights).block_until_ready()
        elif task.rows is not None:
            for drawn, weights in self._drawn(task, t):
                if overtaken():
                    return None
                for x, sign in zip(points, (1, -1), strict=False):  # with SVRG, minus the gradient at the snapshot
                    total = self._add_drawn(total, x, task.rows, sign * weights, drawn).block_until_ready()
        return total

    def _drawn(self, task: Task, t: int) -> Iterator[tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
        """The rows of a mini-batch and their weights, in chunks of equal size."""
        size, seed = self._job.sampling.batch, self._job.settings.seed
        assert size is not None
        rows = [each.first + drawn_rows(seed, t, each.block, each.rows, size) for each in task.held]
        weights = np.repeat([each.weight * each.rows / size for each in task.held], size)
        return _pieces(np.concatenate(rows), weights.astype(self._dtype), self._job.settings.cluster.chunk_rows)

    def _prepare(self) -> tuple[Int[np.ndarray, " t"] | None, list[Task]]:
        """The coordinates that this worker's blocks touch (None: all), and its messages restricted to them."""
        objective, train, code = self._job.problem.objective, self._job.problem.dataset.train, self._job.scheme.code
        bounds = block_bounds(len(train), code.blocks)
        spans = [np.arange(*bounds[i : i + 2]) for i in range(code.blocks)]
        blocks = [np.flatnonzero(code.G[:, message]).tolist() for message in self.messages]
        rows = [np.concatenate([np.empty(0, int), *(spans[i] for i in held)]) for held in blocks]
        held = np.unique(np.concatenate(rows))
        touched = objective.touched(train.take(held)) if len(held) else np.empty(0, int)
        tasks = []
        for message, numbers, taken in zip(self.messages, blocks, rows, strict=True):
            firsts = np.cumsum([0, *(len(spans[i]) for i in numbers)]).tolist()
            own = [
                Held(i, first, len(spans[i]), float(code.G[i, message]))
                for i, first in zip(numbers, firsts[:-1], strict=True)
            ]
            tasks.append(self._task(objective.restrict(train.take(taken), touched), own) if own else Task(None, [], []))
        return touched, tasks

    def _task(self, rows: Rows, held: list[Held]) -> Task:
        sampling, chunks = self._job.sampling, []
        if sampling.is_whole(0):
            weights = np.concatenate([np.full(each.rows, each.weight, self._dtype) for each in held])
            pieces = _pieces(np.arange(len(rows)), weights, self._job.settings.cluster.chunk_rows)
            chunks = [jax.device_put((rows.take(taken), weight)) for taken, weight in pieces]
        return Task(None if sampling.batch is None else jax.device_put(rows), held, chunks)


def work(job: Job, worker: int) -> bool:
    """Answers models until the master stops it. `worker` counts from 0. Returns whether another job may follow."""
    own = Worker(job, worker)
    own.compile()  # before reporting ready
    sampling = job.sampling
    sign_every_s = job.settings.cluster.heartbeat_s / SIGNS_A_HEARTBEAT
    parameters = job.problem.parameters
    end = WorkerEnd(own.touched, parameters, own.messages, job.problem.dtype, sign_every_s, sampling.points)
    cancel = job.settings.late == Late.CANCEL
    while (model := end.next_model()) is not None:
        if not end.sleep(model.delay_s, cancel):
            continue
        points = model.payload.reshape(sampling.points, -1)
        for message in own.messages:
            answer = own.gradient(message, max(model.round, 0), points, lambda: end.overtaken(cancel))
            if answer is None:
                break
            end.answer(message, model.round, np.asarray(answer))
    return end.goodbye()


def _pieces(
    rows: Int[np.ndarray, " m"], weights: Float[np.ndarray, " m"], most: int
) -> Iterator[tuple[Int[np.ndarray, " piece"], Float[np.ndarray, " piece"]]]:
    """Pieces of one size, so that one compilation suffices; the last is padded with a row at weight 0."""
    count = -(-len(rows) // most)
    size = -(-len(rows) // count)
    padding = (0, count * size - len(rows))
    rows, weights = np.pad(rows, padding, mode="edge"), np.pad(weights, padding)
    for i in range(0, len(rows), size):
        yield rows[i : i + size], weights[i : i + size]
