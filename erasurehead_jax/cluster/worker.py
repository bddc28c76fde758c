"""A worker: receives the newest model, sleeps for the injected delay, computes and answers (Algorithm 2)."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from erasurehead_jax.cluster.pieces import greeting
from erasurehead_jax.cluster.tasks import Task, drawn, make_plan
from erasurehead_jax.cluster.transport import WorkerEnd
from erasurehead_jax.job import Job
from erasurehead_jax.types import Late, Params

SIGNS_A_HEARTBEAT = 4  # so that a single late sign of life raises no suspicion


class Worker:
    """The messages of one worker, and their gradients."""

    def __init__(self, job: Job, worker: int):
        self.messages = [int(m) for m in np.flatnonzero(job.scheme.code.owner == worker)]
        self._job, self._dtype, objective = job, job.problem.dtype, job.problem.objective
        touched, coordinates, planned = make_plan(job, self.messages)
        self._planned = dict(zip(self.messages, planned, strict=True))
        self.greeting = greeting(touched, [each.sent for each in planned])
        self.length = len(coordinates)  # of the model that it needs
        self.lengths = {message: len(each.sent) for message, each in self._planned.items()}
        lengths = {len(each.coordinates) for each in planned}
        self._zeros = {length: jax.device_put(np.zeros(length, self._dtype)) for length in lengths}
        self._add = jax.jit(lambda total, x, rows, weights: total + objective.gradient(x, rows, weights))
        self._add_drawn = jax.jit(
            lambda total, x, rows, weights, drawn: total + objective.gradient(x, rows.take(drawn), weights)
        )
        self._mix = jax.jit(lambda total, mixing, part, term: total + mixing[part] * term)
        self._fold = jax.jit(jax.ops.segment_sum, static_argnums=2)

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
        tasks, coordinates, within, sent, part, place = self._planned[message]
        points = points if within is None else points[:, within]
        total = self._zeros[len(coordinates)]
        for task in tasks:
            term = self._sum(task, t, points, overtaken)
            if term is None:
                return None
            total = term if task.mixing is None else self._mix(total, task.mixing, part, term)
        return total if place is None else self._fold(total, place, len(sent))

    def _sum(
        self, task: Task, t: int, points: Float[np.ndarray, "points t"], overtaken: Callable[[], bool]
    ) -> Params | None:
        total = self._zeros[points.shape[1]]
        if self._job.sampling.is_whole(t):
            for rows, weights in task.chunks:
                if overtaken():
                    return None
                total = self._add(total, points[0], rows, weights).block_until_ready()
        elif task.rows is not None:
            for some, weights in drawn(self._job, task, t):
                if overtaken():
                    return None
                for x, sign in zip(points, (1, -1), strict=False):  # with SVRG, minus the gradient at the snapshot
                    total = self._add_drawn(total, x, task.rows, sign * weights, some).block_until_ready()
        return total


def work(job: Job, worker: int) -> bool:
    """Answers models until the master stops it. `worker` counts from 0. Returns whether another job may follow."""
    own = Worker(job, worker)
    own.compile()  # before reporting ready
    points = job.sampling.points
    sign_every_s = job.settings.cluster.heartbeat_s / SIGNS_A_HEARTBEAT
    end = WorkerEnd(own.greeting, points * own.length, own.lengths, job.problem.dtype, sign_every_s)
    cancel = job.settings.late == Late.CANCEL
    while (model := end.next_model()) is not None:
        if not end.sleep(model.delay_s, cancel):
            continue
        content = model.payload.reshape(points, -1)
        for message in own.messages:
            answer = own.gradient(message, max(model.round, 0), content, lambda: end.overtaken(cancel))
            if answer is None:
                break
            end.answer(message, model.round, np.asarray(answer))
    return end.goodbye()
