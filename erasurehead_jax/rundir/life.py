"""The life cycle of a run, the same for both backends: train, evaluate, sum up."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from erasurehead_jax.errors import Status, StorageFailed
from erasurehead_jax.job import JobSpec
from erasurehead_jax.rundir.recorder import Recorder


class Ending(NamedTuple):
    """How a run ended: its exit status and, unless all rounds were done, why."""

    status: Status
    message: str


class AbstractBackend(ABC):
    """What makes the rounds."""

    name: str  # mpi or simulate
    hosts: Sequence[str]  # of the workers

    @abstractmethod
    def train(self, recorder: Recorder) -> Ending:
        """Records round after round until there are no more or something ends them. Raises StorageFailed."""

    @abstractmethod
    def facts(self, recorder: Recorder) -> dict[str, Any]:
        """What only this backend can add to the summary."""


def live(spec: JobSpec, backend: AbstractBackend, recorder: Recorder) -> tuple[Ending, dict[str, Any] | None]:
    """Trains, then evaluates and writes the summary, which is returned: None if the directory cannot be written.

    However training ended, the rounds that were done are evaluated and kept.
    """
    startup_s = time.time() - spec.launched_s
    try:
        ending = backend.train(recorder)
        if ending.status == Status.STORAGE:
            return ending, None
        recorder.evaluate()
        more = {"backend": backend.name, "startup_s": startup_s} | backend.facts(recorder)
        return ending, recorder.save(spec.choices["scheme"], backend.hosts, more)
    except StorageFailed as error:
        return Ending(Status.STORAGE, str(error)), None
    finally:
        recorder.close()
