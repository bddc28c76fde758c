"""The life cycle of a run, the same for both backends: train, evaluate, summarise."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from erasurehead_jax.errors import Status, StorageFailed
from erasurehead_jax.job import JobSpec
from erasurehead_jax.rundir.recorder import Recorder


class Ending(NamedTuple):
    """How a run ended: its exit status and, unless all rounds were completed, the reason."""

    status: Status
    message: str


class AbstractBackend(ABC):
    """The part that runs the rounds: MPI ranks or the simulator."""

    name: str  # mpi or simulate
    hosts: Sequence[str]  # of the workers

    @abstractmethod
    def train(self, recorder: Recorder) -> Ending:
        """Runs and records rounds until all are completed or the run is stopped. Raises StorageFailed."""

    @abstractmethod
    def facts(self, recorder: Recorder) -> dict[str, Any]:
        """The entries of the summary that are specific to this backend."""


def live(spec: JobSpec, backend: AbstractBackend, recorder: Recorder) -> tuple[Ending, dict[str, Any] | None]:
    """Trains, evaluates, and writes the summary. Returns the ending and the summary, None if it cannot be written.

    The completed rounds are evaluated and kept however training ended.
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
