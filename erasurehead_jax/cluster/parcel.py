"""Objects made in Python, on their way to the ranks: a file in the run directory that is removed when the run ends.

cloudpickle sends what a notebook or a script defines by value. Unpickling executes code, so ranks unpickle only the
parcel that their own launcher has just written, as the same user; nothing else is ever unpickled. Arrays follow the
pickle as they are, and the ranks of a host map them into memory, where they share one copy.
"""

import contextlib
import io
import mmap
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.rundir.files import storing

PARCEL = ".parcel"  # in the run directory
LENGTH = struct.Struct("<Q")
ALIGNED = 64  # bytes: where arrays begin


@contextlib.contextmanager
def parcel(folder: Path, content: Any) -> Iterator[None]:
    """Has the content in the folder for the time of the block.

    Raises ConfigError for what cannot be sent, and StorageFailed if there is no room.
    """
    path = folder / PARCEL
    try:
        pack(path, content)
        yield
    finally:
        path.unlink(missing_ok=True)


def pack(path: Path, content: Any) -> None:
    """Writes the content to a file that only this user can read. Raises ConfigError for what cannot be sent."""
    from erasurehead_jax.cluster.pickler import Pickler  # late: only runs from Python need it

    buffers: list[pickle.PickleBuffer] = []
    pickled = io.BytesIO()
    try:
        Pickler(pickled, protocol=5, buffer_callback=buffers.append).dump(content)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise ConfigError(
            f"cannot be sent to the ranks: {error}; open files, locks and generators cannot, functions and arrays can"
        ) from error
    parts = [pickled.getbuffer(), *(buffer.raw() for buffer in buffers)]
    private = lambda name, flags: os.open(name, flags, 0o600)
    with storing(path.parent), open(path, "wb", opener=private) as file:
        for length in (len(parts), *(part.nbytes for part in parts)):
            file.write(LENGTH.pack(length))
        for part in parts:
            file.write(bytes(-file.tell() % ALIGNED))
            file.write(part)


def unpack(folder: Path) -> Any:
    """The content of the parcel in the folder. Its arrays cannot be written to.

    Raises ConfigError if it is not there or needs a module that cannot be imported here.
    """
    path = folder / PARCEL
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it must be on a disk that all hosts share") from None
    count, *_ = LENGTH.unpack_from(data)
    at, parts = LENGTH.size * (count + 1), []
    for i in range(count):
        (length,) = LENGTH.unpack_from(data, LENGTH.size * (i + 1))
        at += -at % ALIGNED
        parts.append(data[at : at + length])
        at += length
    try:
        return pickle.loads(parts[0], buffers=parts[1:])
    except ImportError as error:
        raise ConfigError(
            f"{error}: a rank needs it; put the module beside the script or on the PYTHONPATH, or define what is in it "
            "in the script or notebook itself"
        ) from error
