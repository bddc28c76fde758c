"""What may be chosen from a few names. No JAX here: a report does not load it."""

from enum import StrEnum


class Late(StrEnum):
    """What happens to work that missed its round."""

    CANCEL = "cancel"  # abandoned at the next opportunity
    SKIP = "skip"  # finished; then the newest model is taken
    QUEUE = "queue"  # every model is worked through in order; in the simulator only
    WAIT = "wait"  # the master drains every worker before the next round, as the published code does


class OnLoss(StrEnum):
    """What the master does when lost workers leave a stopping rule that can no longer hold."""

    STOP = "stop"
    APPROXIMATE = "approximate"
