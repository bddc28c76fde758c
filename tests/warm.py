"""Run by harness.train: a process that has imported the package, and forks for every command.

Reads a line of JSON a command, [folder, overrides, environment], and writes one, [status, stdout, stderr].
"""

import json
import os
import sys
import tempfile
import time

from hydra.core.plugins import Plugins

from erasurehead_jax.cluster.launch import forkserver
from erasurehead_jax.train import main


def run(folder: str, overrides: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """The command in a fork of this process; JAX has not started in it yet."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if pid == 0:
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["train", *overrides]
            main()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for file in (out, err):
            file.seek(0)
        return status, out.read(), err.read()


if __name__ == "__main__":
    Plugins.instance()  # which Hydra looks for at every start
    forkserver.address(start=True)  # for the ranks of all commands; it imports more if they are not in a hurry
    time.sleep(forkserver.IDLE_S + 1.5)
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
