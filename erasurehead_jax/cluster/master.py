"""The master: rounds of its workers, and the step after each (Algorithm 1)."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
import optax
from jaxtyping import Float

from erasurehead_jax.cluster.checkpoint import Snapshot
from erasurehead_jax.cluster.protocol import Journal
from erasurehead_jax.cluster.rounds import Rounds
from erasurehead_jax.errors import Diverged
from erasurehead_jax.job import Job
from erasurehead_jax.rundir.recorder import RoundRecord
from erasurehead_jax.update import apply_gradient, iterate, start


class Master:
    """Trains a job on its workers."""

    def __init__(
        self,
        job: Job,
        optimizer: optax.GradientTransformation,
        hosts: Sequence[str],
        journal: Journal | None = None,
    ):
        problem, self._sampling = job.problem, job.sampling
        x = problem.start(job.settings.seed)
        self.state = start(optimizer, x, self._sampling.points > 1)
        rows = len(problem.dataset.train)
        step = lambda *state_decoded_snapshot: apply_gradient(optimizer, problem.l2, rows, *state_decoded_snapshot)
        self._step = jax.jit(step).lower(self.state, x, np.bool_(False)).compile()
        self.rounds = Rounds(job, hosts, journal)
        self._step(self.state, self.rounds.rehearse(self._points(0)), np.bool_(False))

    def _points(self, t: int) -> list[Float[np.ndarray, " d"]]:
        """What workers need in round t: the model and, with SVRG, the snapshot."""
        x, anchor = np.asarray(self.state.x), self.state.anchor
        if anchor is None:
            return [x]
        return [x, x if self._sampling.is_snapshot(t) else np.asarray(anchor.x)]

    def resume(self, snapshot: Snapshot) -> None:
        """Restores the state and the counters of a checkpoint."""
        self.state, counters = snapshot.state, snapshot.counters
        self.rounds.asked, self.rounds.silence.suspected = int(counters["asked"]), counters["suspected"]
        losses = [(int(worker), int(round_)) for worker, round_ in counters["losses"]]
        late, faulty = counters["late_answers"], counters["faulty_answers"]
        self.rounds.protocol.restore(snapshot.progress.rounds, late, faulty, losses)

    def counters(self) -> dict[str, np.ndarray]:
        """The counters that a checkpoint keeps."""
        protocol = self.rounds.protocol
        return {
            "late_answers": protocol.late_answers.copy(),
            "faulty_answers": protocol.faulty_answers.copy(),
            "suspected": self.rounds.silence.suspected.copy(),
            "losses": np.array(protocol.losses, int).reshape(-1, 2),
            "asked": np.array(self.rounds.asked),
        }

    def round(self, interrupted: Callable[[], bool], meanwhile: Callable[[], None]) -> RoundRecord | None:
        """Runs one round. Returns None if it was interrupted before its step.

        `meanwhile` is called, on the clock, while the workers compute. Raises Stopped if the round can never end, and
        Diverged before a step to a model that is not finite.
        """
        t = self.rounds.protocol.round + 1
        collected = self.rounds.collect(self._points(t), interrupted, meanwhile)
        if collected is None:
            return None
        state, norm = self._step(self.state, collected.decoded, np.bool_(self._sampling.is_snapshot(t)))
        grad_norm = float(norm)  # waits for the step
        if not np.isfinite(grad_norm) or not np.isfinite(np.asarray(state.x).sum()):
            raise Diverged(f"the gradient or the model of round {t} is not finite; use a smaller step size")
        self.state = state
        return self.rounds.finish(collected, grad_norm, np.asarray(iterate(state)), interrupted)
