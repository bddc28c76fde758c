"""Messages between master and workers over MPI; only wire.py imports mpi4py.

Nothing piles up. A model for a worker waits in a mailbox of one: while the previous send is unfinished, only the newest
model is remembered. Sends are synchronous-mode (`Issend`), so they finish when the receiver has begun to take the
message, however small it is; a buffer is written again only after its send finished, and no send is ever cancelled.
Receives are posted ahead, one a message. Waiting is polling with naps: a blocking MPI wait would burn a core.

A worker that dies is noticed through ULFM (User-Level Failure Mitigation): whatever the master has in flight with it
fails with MPI_ERR_PROC_FAILED, once, and everything else goes on.
"""

from erasurehead_jax.cluster.transport.master_end import Answer, Faulty, Lost, MasterEnd
from erasurehead_jax.cluster.transport.wire import (
    REHEARSAL,
    Broken,
    finalize,
    hand_out,
    introduce,
    mpi_version,
    rank,
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
    "introduce",
    "mpi_version",
    "rank",
    "size",
    "start",
    "take_job",
]
