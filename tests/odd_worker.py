"""Run by test_survival.py on three ranks: one worker sends invalid messages, and one dies."""

import os
import signal
import time

import numpy as np

from erasurehead_jax.cluster.pieces import greeting
from erasurehead_jax.cluster.transport import Answer, MasterEnd, start
from erasurehead_jax.cluster.transport.wire import MPI, Packet, Tag

start()
comm, rank = MPI.COMM_WORLD, MPI.COMM_WORLD.Get_rank()
dtype = np.dtype(float)
if rank == 0:
    end, heard = MasterEnd(np.array([0, 1]), workers=2, dim=10, dtype=dtype), 0
    until_s = time.monotonic() + 30
    while heard < 5 and time.monotonic() < until_s:
        for event in end.poll(np.inf):
            heard += 1
            print(f"heard {event}", flush=True)
            if isinstance(event, Answer):
                end.release(event.message)
elif rank == 1:
    comm.Send(greeting(np.arange(4), [np.arange(4)]), 0, Tag.HELLO)
    for length, round_ in ((4, -1), (3, 0), (9, 0), (4, 7)):  # good, too short, too long, from the future
        packet = Packet(length, dtype)
        packet.label(round_)
        comm.Ssend(packet.bytes, 0, Tag.ANSWER)
        time.sleep(0.2)
    comm.Ssend(np.empty(0), 2, 99)  # your turn
    time.sleep(2)
else:
    comm.Send(greeting(np.arange(4), [np.arange(4)]), 0, Tag.HELLO)
    comm.Recv(np.empty(0), 1, 99)
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(0)  # without the dead, MPI_Finalize would need Shrink
