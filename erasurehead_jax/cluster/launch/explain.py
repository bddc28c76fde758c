"""What mpirun and srun print when ranks do not start, as one line that says what to do."""

import re

# Messages of mpirun and srun about what the user can fix, and what to do about it.
SAME = "the same Python environment at the same path"
NO_EXECUTABLE = r"could not\s+access an executable:\s+Executable: (\S+)\s+Node: (\S+)"
MEANINGS = {
    r"There are not enough slots": (
        "more ranks than slots: use fewer workers, or more slots= in cluster.hosts (under SLURM, a larger --ntasks=)"
    ),
    r"(?s)A daemon failed to report back.*?Remote host: +(\S+)": (
        f"host {{0}} cannot be reached: cluster.agent must log in without a password and find {SAME} there"
    ),
    NO_EXECUTABLE: f"host {{1}} has no {{0}}: every host needs {SAME}",
    r"^srun: error: (.*(?:pmix|PMIx).*)$": (
        "this SLURM has no PMIx support ({0}): use cluster=slurm_mpirun, or install SLURM's PMIx plugin and libpmix"
    ),
    r"^srun: error: (?!.*: tasks? \d)(.*)$": "srun: {0}",
}


def explain(log: str) -> str | None:
    """One line on what the user can fix, if the log of a job that failed to start shows it."""
    for pattern, meaning in MEANINGS.items():
        if found := re.search(pattern, log, re.MULTILINE):
            return meaning.format(*found.groups())
    return None
