"""Run by harness.train_many: reads [[folder, overrides], ...], writes [[status, stdout, stderr], ...]. JSON."""

import json
import os
import sys
import tempfile

from erasurehead_jax.train import main


def run(folder: str, overrides: list[str]) -> tuple[int, str, str]:
    """Runs the command in a fork of this process, in which JAX has not started yet."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if pid == 0:
            os.chdir(folder)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            resumes = any(override.startswith("resume=") for override in overrides)
            sys.argv = ["train", *overrides, *([] if resumes else [f"hydra.run.dir={folder}/run"])]
            main()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        for file in (out, err):
            file.seek(0)
        return status, out.read(), err.read()


if __name__ == "__main__":
    print(json.dumps([run(*case) for case in json.load(sys.stdin)]))
