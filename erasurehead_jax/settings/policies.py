"""Settings with a fixed set of values. Does not import JAX: reports start without it."""

from enum import StrEnum


class Late(StrEnum):
    """What happens to work that misses its round."""

    CANCEL = "cancel"  # abandoned at the next opportunity
    SKIP = "skip"  # finished, then the newest model is used
    QUEUE = "queue"  # every model is processed in order; simulator only
    WAIT = "wait"  # the master drains all workers before the next round, as the published code does


class Snapshot(StrEnum):
    """How SVRG's snapshots are taken."""

    SCHEME = "scheme"  # with the scheme of the run, so that they may be approximate
    EXACT = "exact"  # each waits until the exact gradient can be decoded


class OnLoss(StrEnum):
    """What the master does when the stopping rule can no longer hold because workers are lost."""

    STOP = "stop"
    APPROXIMATE = "approximate"
