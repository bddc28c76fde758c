"""Failure detection by heartbeats: silent workers are first suspected, then lost."""

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

LOOK_EVERY_S = 0.1

log = logging.getLogger(__name__)


class SilenceWatch:
    """Looks regularly for silent workers among those that are awaited.

    `silence_s(listen_after_s)` returns the seconds since each worker's last sign of life, as `MasterEnd.silence_s`.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        heartbeat_s: float,
        lost_s: float,
        silence_s: Callable[[float], Float[np.ndarray, " k"]],
    ):
        self._hosts, self._heartbeat_s, self._lost_s, self._silence_s = hosts, heartbeat_s, lost_s, silence_s
        self._looked_s = 0.0
        self._suspect = np.zeros(len(hosts), bool)
        self.suspected = np.zeros(len(hosts), int)  # how often each worker was suspected

    def look(self, alive: Bool[np.ndarray, " k"], awaited: Callable[[], Bool[np.ndarray, " k"]]) -> list[int]:
        """The workers that have been silent for too long and are lost; `awaited` is a subset of `alive`.

        Logs the workers that become suspected after `heartbeat_s`, and those that respond again.
        """
        now_s = time.perf_counter()
        if now_s < self._looked_s + LOOK_EVERY_S:
            return []
        self._looked_s = now_s
        silence_s = self._silence_s(self._heartbeat_s / 2)
        silent = awaited() & (silence_s > self._heartbeat_s)
        for j in np.flatnonzero(silent & ~self._suspect).tolist():
            log.warning("worker %d on %s is suspected: no heartbeat for %g s", j, self._hosts[j], self._heartbeat_s)
        for j in np.flatnonzero(self._suspect & alive & ~silent).tolist():
            log.warning("worker %d responds again", j)
        self.suspected += silent & ~self._suspect
        self._suspect = silent
        return np.flatnonzero(silent & (silence_s > self._lost_s)).tolist()
