"""Reproduces the paper's experiments, each by a command that can be run by hand. Finished runs are not repeated."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from erasurehead_jax.errors import JobFailed
from erasurehead_jax.hydra_app import run_command
from erasurehead_jax.rundir.files import SUMMARY
from erasurehead_jax.studies.recommendation import RELIABLE
from erasurehead_jax.train import train

Command = list[str]  # what follows `python -m erasurehead_jax.`

DATA_SETS = ("amazon", "covertype", "kc_housing")
NAMES = {  # of run directories: the settings on which the scheme depends
    "uncoded": "uncoded",
    "egc": "egc-c${load}",
    "erasurehead": "erasurehead-c${load}-r${wait_for}",
    "ignore_stragglers": "ignore_stragglers-r${wait_for}",
}


class Size(NamedTuple):
    """The size of the experiments."""

    workers: int
    mean_s: float  # of the sleeps
    rounds: int
    seeds: tuple[int, ...]
    candidates: tuple[int, ...]  # for r
    tuning_seeds: int

    @property
    def patient(self) -> int:
        """Rounds of schemes that use a partial gradient."""
        return 2 * self.rounds

    def loads(self, data: str) -> tuple[int, ...]:
        """The paper's loads, and on Amazon a larger one if it divides the workers."""
        return (2, 3, 5) if data == "amazon" and self.workers % 5 == 0 else (2, 3)


PAPER = Size(30, 0.5, 100, (0, 1, 2), (7, 9, 11, 13, 15), 8)
QUICK = Size(12, 0.1, 30, (0,), (4, 5, 6), 4)


def commands(size: Size, folder: Path) -> Iterator[Command]:
    """All commands in order: r is tuned on the simulator; then, for each seed, runs with sleeps, without, and a report.

    On Amazon there are also runs with neighbouring r, and runs whose late work cannot be interrupted. A command may
    depend on the results of earlier ones.
    """
    for data in DATA_SETS:
        if not (folder / data / "tuning" / SUMMARY).exists():
            yield tuning(size, folder, data)
    for seed in size.seeds:
        for data in DATA_SETS:
            yield from comparison(size, folder, data, seed)
        yield from late_work(size, folder, seed)
        if has_recording():
            recorded = ["experiment=ec2", f"seed={seed}"]
            for scheme in ("uncoded", "egc", "ignore_stragglers"):
                yield multirun(folder / "ec2", scheme, recorded)
            yield multirun(folder / "ec2", "erasurehead", recorded, "wait_for=10")
        for data in DATA_SETS:
            yield from comparison(size, folder, data, seed, sleeps=False)
        if seed == size.seeds[0]:
            yield neighbours(size, folder)
        yield ["report", str(folder)]


def has_recording() -> bool:
    """Whether the recording of experiment=ec2 exists. It has no licence, so it is neither shipped nor downloaded."""
    data = os.environ.get("ERASUREHEAD_DATA")
    return data is not None and Path(data, "traces", "ec2_data8.npz").expanduser().exists()


def tuning(size: Size, folder: Path, data: str) -> Command:
    """Simulates which r, for each load, takes erasurehead first to what uncoded reaches half-way, after `rounds`."""
    grid = ["grid.scheme=[uncoded,erasurehead]", f"grid.load=[{listed(size.loads(data))}]"]
    grid += [f"grid.wait_for=[{listed(size.candidates)}]", f"seeds={size.tuning_seeds}"]
    grid += ["mode=training", f"rounds={size.patient}", f"hydra.run.dir={folder / data / 'tuning'}"]
    return ["whatif", *settings(size, data), *grid]


def tuned(size: Size, folder: Path, data: str) -> dict[int, int]:
    """The r that `tuning` found for each load."""
    rows = pd.read_csv(folder / data / "tuning" / "frontier.csv").to_dict("records")
    coded = [row for row in rows if row["scheme"] == "erasurehead"]
    fastest = sorted(coded, key=lambda row: (row["reached"] < RELIABLE, row["time_s"]))
    return {load: next(int(row["wait_for"]) for row in fastest if row["load"] == load) for load in size.loads(data)}


def comparison(size: Size, folder: Path, data: str, seed: int, sleeps: bool = True) -> Iterator[Command]:
    """Figures 2 and 3 (with sleeps) and 4 (without)."""
    best = tuned(size, folder, data)
    few, many = f"rounds={size.rounds}", f"rounds={size.patient}"
    where = folder / data / ("sleeps" if sleeps else "no_sleeps")
    setting = [*settings(size, data, sleeps), f"seed={seed}"]
    yield multirun(where, "uncoded", setting, few)
    yield multirun(where, "egc", setting, few, f"load={listed(best)}")
    for load, r in best.items():
        yield multirun(where, "erasurehead", setting, many, f"load={load}", f"wait_for={r}")
    yield multirun(where, "ignore_stragglers", setting, many, f"wait_for={listed(sorted(set(best.values())))}")


def late_work(size: Size, folder: Path, seed: int) -> Iterator[Command]:
    """Runs whose late work cannot be interrupted (late=skip)."""
    r = tuned(size, folder, "amazon")[3]
    where = folder / "amazon" / "sleeps"
    setting = [*settings(size, "amazon"), f"seed={seed}", "late=skip", "load=3", f"wait_for={r}"]
    yield multirun(where, "egc", setting, f"rounds={size.rounds}")
    for scheme in ("erasurehead", "ignore_stragglers"):
        yield multirun(where, scheme, setting, f"rounds={size.patient}")


def neighbours(size: Size, folder: Path) -> Command:
    """Runs with neighbouring r, to check on real time that the simulator's r is best."""
    best = tuned(size, folder, "amazon")[3]
    setting = [*settings(size, "amazon"), f"seed={size.seeds[0]}", f"rounds={size.patient}"]
    others = f"wait_for={listed((best - 2, best + 2))}"
    return multirun(folder / "amazon" / "sleeps", "erasurehead", setting, "load=3", others)


def settings(size: Size, data: str, sleeps: bool = True) -> list[str]:
    """The settings of a data set: the published code's optimizer with the step sizes of Table 1."""
    delay = f"delay.mean_s={size.mean_s}" if sleeps else "delay=none"
    return [f"experiment={data}", "optimizer=agd", f"workers={size.workers}", delay]


def listed(values: Iterable[int]) -> str:
    """Several values in Hydra's syntax."""
    return ",".join(map(str, values))


def multirun(where: Path, scheme: str, setting: list[str], *overrides: str) -> Command:
    """One multirun of a scheme, with one directory per run."""
    subdir = f"{NAMES[scheme]}-${{late}}-seed${{seed}}"
    place = [f"hydra.sweep.dir={where}", f"hydra.sweep.subdir={subdir}", "resume=auto"]
    return ["train", "-m", *setting, f"scheme={scheme}", *overrides, *place]


def reproduce() -> None:
    """Runs the commands that are not done yet, one after another; ends with the status of the first that fails."""
    parser = argparse.ArgumentParser(prog="erasurehead_jax.reproduce", description="Reproduce the paper's experiments.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a quick check with 12 workers, few rounds and one seed")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings for every run, such as tracking=none"
    )
    arguments = parser.parse_args()
    if not has_recording():
        print("left out: experiment=ec2, because $ERASUREHEAD_DATA/traces/ec2_data8.npz does not exist")
    for command in commands(QUICK if arguments.quick else PAPER, arguments.folder):
        run([*command, *(arguments.overrides if command[0] == "train" else [])])


def run(command: Command) -> None:
    """Runs training commands in this process, so that they share their ranks; raises if a command fails."""
    print(f"\n$ {shlex.join(['python', '-m', f'erasurehead_jax.{command[0]}', *command[1:]])}", flush=True)
    if command[0] == "train":
        sys.argv[1:] = command[1:]
        train()
    elif status := subprocess.run([sys.executable, "-m", f"erasurehead_jax.{command[0]}", *command[1:]]).returncode:
        raise JobFailed(status)


def main() -> None:
    """The command `python -m erasurehead_jax.reproduce`."""
    run_command(reproduce)


if __name__ == "__main__":
    main()
