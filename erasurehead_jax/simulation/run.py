"""A training run on the simulator: the run directory of a real one, with the time counted instead of spent."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.errors import Diverged
from erasurehead_jax.job import Job, JobSpec, instantiate, make_optimizer
from erasurehead_jax.rundir.recorder import Recorder, RoundRecord
from erasurehead_jax.simulation.engine import Point, Simulation
from erasurehead_jax.tracking import AbstractTracking, Finished, report

SIMULATED = "simulated"  # in the place of a host


def make_point(job: Job, config: dict[str, Any]) -> Point:
    """What is simulated of this job. Raises ConfigError for a late policy that does not exist."""
    optimizer = make_optimizer(config)
    settings = job.settings
    return Point(
        job.scheme, job.delay, settings.late, settings.compute_s, settings.overhead_s, optimizer, job.problem.l2
    )


def lead_simulated(job: Job, spec: JobSpec, watch: Callable[[], None]) -> None:
    """Trains and writes the run directory; `watch` is called after every round, `spec` is as in `cluster.lead`.

    After Ctrl-C or divergence the rounds done are evaluated and kept, and it is raised again. No bytes are received.
    """
    run_dir, config, code = Path(spec.run_dir), spec.config, job.scheme.code
    simulation = Simulation(job.problem.dataset, job.problem.objective, [make_point(job, config)])
    x = job.problem.start(job.settings.seed)
    recorder = Recorder(job, run_dir, x)
    startup_s = time.time() - spec.launched_s
    ended = None
    try:
        try:
            _train(job, simulation, recorder, watch)
        except (KeyboardInterrupt, Diverged) as error:
            ended = error
        recorder.evaluate()
        unused = recorder.history.count * code.messages - recorder.used
        more = {
            "backend": "simulate",
            "startup_s": startup_s,
            "late_answers": {"cancel": 0, "wait": unused}.get(job.settings.late),
            "cancelled": {"cancel": unused, "wait": 0}.get(job.settings.late),
            "faulty_answers": 0,
            "lost_workers": [],
        }
        summary = recorder.save(spec.choices["scheme"], [SIMULATED] * code.workers, more)
    finally:
        recorder.close()
    report(instantiate("tracking", config, AbstractTracking), Finished(run_dir, config, spec.choices, summary))
    if ended:
        raise ended


def _train(job: Job, simulation: Simulation, recorder: Recorder, watch: Callable[[], None]) -> None:
    batch, runs = simulation.begin([0], [job.settings.seed])
    clock_s = 0.0
    for t in range(job.settings.rounds):
        runs, *rounds = simulation.advance(batch, runs, 1, norms=True)
        played, norm = jax.tree.map(lambda values: np.asarray(values)[0, 0], rounds)
        if not np.isfinite(norm):
            raise Diverged(f"the gradient of round {t} is not finite: take smaller steps")
        clock_s += float(played.wall_s)
        recorder.write(
            RoundRecord(
                round=t,
                clock_s=clock_s,
                round_s=float(played.wall_s),
                waited=int(job.scheme.code.heard(played.got).sum()),
                exact=bool(played.decode_error < ROUNDING),
                decode_error=float(played.decode_error),
                grad_norm=float(norm),
                received_bytes=0,
                lost=0,
                faulty=0,
                last_host=SIMULATED,
                collected_s=float(played.round_s) + job.settings.overhead_s,
                arrival_s=np.where(played.got, played.arrival_s, np.nan),
                x=np.asarray(runs.x[:, 0]),
            )
        )
        watch()
