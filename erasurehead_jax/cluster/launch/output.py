"""Reads the ranks' output: messages go to the launcher, everything else to the log of the current job."""

import contextlib
import os
import queue
import threading
from pathlib import Path
from typing import IO

from erasurehead_jax.cluster.signals import Message, receive

KEPT = 100_000  # characters of output kept in memory, to explain a failed start without the disk


class Output:
    """Reads a pipe in a thread until it closes. An unwritable log loses only the log."""

    def __init__(self, pipe: IO[bytes], log: Path):
        self.text = ""
        self._pipe, self._log = pipe, _opened(log)
        # not a SimpleQueue, whose `get` waits for ever after a signal whose handler has run beyond the timeout
        self._messages: queue.Queue[Message] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def follow(self, log: Path) -> None:
        """Writes to this log from now on."""
        before, self._log = self._log, _opened(log)
        with contextlib.suppress(OSError):
            before.close()

    def next_message(self, within_s: float) -> Message | None:
        """The next message, or None if none arrives within this time."""
        with contextlib.suppress(queue.Empty):
            return self._messages.get(timeout=within_s)
        return None

    def close(self, within_s: float) -> None:
        """Waits until everything is read, or the time is up: ranks that cannot be killed may still print."""
        self._thread.join(within_s)
        if not self._thread.is_alive():
            self._pipe.close()
        with contextlib.suppress(OSError):
            self._log.close()

    def _read(self) -> None:
        blank = b""  # a message is preceded by a line break, in case something else did not end with one
        for line in iter(self._pipe.readline, b""):
            text = line.decode(errors="replace")
            if message := receive(text.rstrip("\n")):
                self._messages.put(message)
                blank = b""
            elif line == b"\n" and not blank:
                blank = line
            else:
                self.text = (self.text + text)[-KEPT:]
                with contextlib.suppress(OSError, ValueError):
                    self._log.write(blank + line)
                    self._log.flush()
                blank = b""


def _opened(log: Path) -> IO[bytes]:
    try:
        return log.open("ab")
    except OSError:
        return open(os.devnull, "ab")
