"""The progress bar. It reads history.csv as it grows, so that the training loop does not depend on it."""

import csv
import os
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from erasurehead_jax.rundir.files import ARRIVED, CHECKPOINT, HISTORY, LOG
from erasurehead_jax.rundir.telemetry import RECENT, slow_now, worker_times
from erasurehead_jax.types import Owner

MOST_NAMED = 5  # slow workers
WARNING = " WARNING "  # as in the ranks' log lines


class RoundsBar:
    """Shows round, workers waited for and slow, decode error, gradient norm and time left; call `update` regularly.

    `owner` tells who sends each message.
    """

    def __init__(self, run_dir: Path, rounds: int, owner: Owner, label: str, starting: str):
        self._log, self._read = run_dir / LOG, (run_dir / LOG).stat().st_size if (run_dir / LOG).exists() else 0
        self._path, self._rounds, self._workers = run_dir / HISTORY, rounds, int(owner.max()) + 1
        self._arrived, self._owner = run_dir / CHECKPOINT / ARRIVED, owner
        self._names: list[str] = []
        self._file, self._offset = 0, 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(label, total=rounds, start=False, last=starting)

    def __enter__(self) -> "RoundsBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()  # the last warnings come after the last round
        self._bar.stop()

    def update(self) -> None:
        """Shows the rows and prints the warnings of train.log that are new since the last call."""
        for line in self._new_lines():
            if WARNING in line:
                self._bar.console.print(line.partition(WARNING)[2], markup=False, highlight=False)
        rows = self._new_rows()
        if not self._names:
            return
        if not self._bar.tasks[self._task].started:
            self._bar.start_task(self._task)
            self._bar.update(self._task, last="")
        if rows:
            row = dict(zip(self._names, rows[-1], strict=True))
            done = int(row["round"]) + 1
            last = (
                (
                    f"waited for {row['waited']}/{self._workers}  decode error {float(row['decode_error']):.3g}  "
                    f"‖g‖ {float(row['grad_norm']):.3g}"
                )
                + (f"  lost {row['lost']}" if row["lost"] != "0" else "")
                + self._slow()
            )
            self._bar.update(self._task, completed=done, last=last if done < self._rounds else "evaluating")

    def _slow(self) -> str:
        """Who is slow now. Only real ranks leave their times while they train."""
        if not self._arrived.exists():
            return ""
        size = len(self._owner) * np.dtype(float).itemsize  # of a round
        with self._arrived.open("rb") as file:
            whole = file.seek(0, os.SEEK_END) // size
            file.seek(max(0, whole - RECENT) * size)
            rows = np.frombuffer(file.read(min(whole, RECENT) * size)).reshape(-1, len(self._owner))
        slow = [str(worker) for worker in slow_now(worker_times(rows, self._owner))]
        more = f" and {len(slow) - MOST_NAMED} more" if len(slow) > MOST_NAMED else ""
        return f"  slow: {', '.join(slow[:MOST_NAMED])}{more}" if slow else ""

    def _new_lines(self) -> list[str]:
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()

    def _new_rows(self) -> list[list[str]]:
        try:
            with self._path.open(newline="") as file:
                if (now := os.fstat(file.fileno()).st_ino) != self._file:  # rewritten by a resume or with metrics
                    self._file, self._offset, self._names = now, 0, []
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind("\n") + 1]
        self._offset += len(whole.encode())
        rows = list(csv.reader(whole.splitlines()))
        if rows and not self._names:
            self._names = rows.pop(0)
        return [row for row in rows if len(row) == len(self._names)]


def summary_table(summary: dict, run_dir: Path) -> Table:
    """The results that are printed at the end of a run."""
    table = Table(title=f"{summary['scheme']} on {summary['data']}", show_header=False, title_justify="left")
    size = f"{summary['workers']} workers, {summary['blocks']} blocks, load {summary['load']}, late={summary['late']}"
    rounds, clock_s = summary["rounds"], summary["clock_s"]
    per_round = f", {1e3 * clock_s / rounds:.1f} ms per round" if rounds else ""
    table.add_row("cluster", size)
    if summary["backend"] == "simulate":
        still = "none: without delays, compute_s or overhead_s, no time passes in the simulation"
        table.add_row("simulated clock", f"{clock_s:.3f} s for {rounds} rounds{per_round}" if clock_s else still)
    else:
        table.add_row("clock", f"{clock_s:.3f} s for {rounds} rounds{per_round} (compilation and evaluation excluded)")
    if summary["overhead"]:
        table.add_row(
            "ideal", f"{summary['ideal_s']:.3f} s under the injected delays: overhead {summary['overhead']:.3f}"
        )
    for name, value in summary["final"].items():
        table.add_row(name, "" if value is None else f"{value:.6g}")
    table.add_row("run directory", str(run_dir))
    return table
