"""Messages between master and workers over MPI; only wire.py imports mpi4py.

Messages never accumulate. Each worker has a mailbox for one model: while the previous send is unfinished, only the
newest model is kept. Sends are synchronous (`Issend`), so they complete when the receiver has begun to receive the
message, however small it is; a buffer is reused only after its send has completed, and no send is ever cancelled.
Receives are posted in advance, one per message. Waiting is polling with sleeps: a blocking MPI wait would use a core.

A dead worker is detected through ULFM (User-Level Failure Mitigation): every pending operation of the master with it
fails with MPI_ERR_PROC_FAILED, once, and all other communication continues.
"""

from erasurehead_jax.cluster.transport.master_end import Answer, Faulty, Lost, MasterEnd
from erasurehead_jax.cluster.transport.wire import (
    REHEARSAL,
    Broken,
    finalize,
    hand_out,
    hand_out_without,
    introduce,
    mpi_version,
    rank,
    report,
    reports,
    shrink,
    size,
    start,
    take_job,
)
from erasurehead_jax.cluster.transport.worker_end import WorkerEnd

__all__ = [
    "REHEARSAL",
    "Answer",
    "Broken",
    "Faulty",
    "Lost",
    "MasterEnd",
    "WorkerEnd",
    "finalize",
    "hand_out",
    "hand_out_without",
    "introduce",
    "mpi_version",
    "rank",
    "report",
    "reports",
    "shrink",
    "size",
    "start",
    "take_job",
]
