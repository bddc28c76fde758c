"""A simulated training run: the same run directory as a real one, with the time computed instead of spent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.errors import Diverged, Status, Stopped
from erasurehead_jax.job import Job, JobSpec
from erasurehead_jax.rundir.files import storing
from erasurehead_jax.rundir.life import AbstractBackend, Ending, live
from erasurehead_jax.rundir.recorder import Recorder, RoundRecord
from erasurehead_jax.settings.policies import Late
from erasurehead_jax.simulation.engine import Simulation
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.tracking import begin_tracking, report

SIMULATED = "simulated"  # in place of a host name


def make_point(job: Job) -> Point:
    """The point that simulates this job. Raises ConfigError for an unknown late policy."""
    settings = job.settings
    times = settings.compute_s, settings.overhead_s
    return Point(job.scheme, job.delay, settings.late, *times, job.optimizer, job.problem.l2, job.sampling)


def run_simulated(job: Job, spec: JobSpec, watch: Callable[[], None]) -> Ending:
    """Trains and writes the run directory; `watch` is called after every round."""
    run_dir = Path(spec.run_dir)
    with storing(run_dir):
        recorder = Recorder(job, run_dir, job.problem.start(job.settings.seed))
    tracked = begin_tracking(job, spec, recorder)
    ending, summary = live(spec, SimulatedBackend(job, make_point(job), watch), recorder)
    if summary:
        report(job.tracking(), tracked._replace(summary=summary))
    return ending


class SimulatedBackend(AbstractBackend):
    """The simulator as a backend, one round at a time. No bytes are received."""

    name = "simulate"

    def __init__(self, job: Job, point: Point, watch: Callable[[], None]):
        self.hosts = [SIMULATED] * job.scheme.code.workers
        self._job, self._watch = job, watch
        self._losses: list[tuple[int, int]] = []  # (worker, round)
        self._simulation = Simulation(job.problem.dataset, job.problem.objective, [point])

    def train(self, recorder: Recorder) -> Ending:
        """Trains until all rounds are done, until Ctrl-C, or until the run diverges."""
        settings, clock_s = self._job.settings, 0.0
        batch, runs = self._simulation.begin([0], [settings.seed])
        try:
            for t in range(settings.rounds):
                runs, *rounds = self._simulation.advance(batch, runs, 1, norms=True)
                played, norm = jax.tree.map(lambda values: np.asarray(values)[0, 0], rounds)
                self._count_losses(t, played)
                if not np.isfinite(norm):
                    raise Diverged(f"the gradient of round {t} is not finite; use a smaller optimizer.step_size")
                clock_s += float(played.wall_s)
                recorder.write(self._record(t, clock_s, played, norm, np.asarray(runs.x[:, 0])))
                self._watch()
                if recorder.stopped:
                    break
        except KeyboardInterrupt:
            return Ending(Status.INTERRUPTED, "interrupted")
        except Stopped as error:
            return Ending(error.status, str(error))
        return Ending(Status.OK, "")

    def _count_losses(self, t: int, played: Any) -> None:
        """Keeps the workers that never answer again. Raises Stopped if the round never ends without them."""
        code, known = self._job.scheme.code, {worker for worker, _ in self._losses}
        gone = {int(worker) for worker in code.owner[np.isinf(played.arrival_s)]}
        self._losses += [(worker, t) for worker in sorted(gone - known)]
        if not np.isfinite(played.round_s):
            lost = ", ".join(str(worker) for worker in sorted(gone))
            raise Stopped(f"round {t} cannot be completed: no more messages can arrive (lost workers: {lost})")

    def _record(self, t: int, clock_s: float, played: Any, norm: Any, x: np.ndarray) -> RoundRecord:
        return RoundRecord(
            round=t,
            clock_s=clock_s,
            round_s=float(played.wall_s),
            waited=int(self._job.scheme.code.heard(played.got).sum()),
            exact=bool(played.decode_error < ROUNDING),
            decode_error=float(played.decode_error),
            grad_norm=float(norm),
            received_bytes=0,
            lost=len(self._losses),
            faulty=0,
            last_host=SIMULATED,
            collected_s=float(played.round_s) + self._job.settings.overhead_s,
            arrival_s=np.where(played.got, played.arrival_s, np.nan),
            x=x,
        )

    def facts(self, recorder: Recorder) -> dict[str, Any]:
        """Counts of late, cancelled and faulty answers; None where the simulator does not count them."""
        late, unused = (
            Late(self._job.settings.late),
            recorder.history.count * self._job.scheme.code.messages - recorder.used,
        )
        return {
            "late_answers": {Late.CANCEL: 0, Late.WAIT: unused}.get(late),
            "cancelled": {Late.CANCEL: unused, Late.WAIT: 0}.get(late),
            "faulty_answers": 0,
            "lost_workers": [{"worker": worker, "round": round_} for worker, round_ in self._losses],
        }
