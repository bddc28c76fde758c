"""The report on recorded times: who is slow, what that costs, and which model fits."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from erasurehead_jax.delays.fits import Fit, best_by_family, fit_times
from erasurehead_jax.delays.recording import NORMALISED, Recording, read_recording
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.stragglers.figure import trace_figure
from erasurehead_jax.stragglers.summary import FAST, FEW, SLOW, Summary, Worker, summarize

POOR = 0.1  # gap between distribution functions
MOST_WORKERS = 12  # that tables have
STAYS_SLOW = 0.1  # share of the variance between workers, from which on workers differ
UNLIKE = 100  # times as slow as others: another unit of time is likely

Rows = list[dict[str, str]]
PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}  # of lines on the console


class Traced(NamedTuple):
    """What `trace` has found in a recording, and the folder that it has written."""

    recording: Recording
    summary: Summary
    fits: list[Fit]  # the preferred one first
    folder: Path

    @property
    def unit(self) -> str:
        """The unit of time."""
        return "" if self.recording.unit == NORMALISED else " s"

    def lines(self) -> list[str]:
        """The findings in words."""
        found, best = self.summary, self.fits[0]
        said = [
            f"A round that waits for all takes {found.all_s:.3g}{self.unit} on average; the median of all times is "
            f"{found.median_s:.3g}{self.unit}."
        ]
        if found.rounds < FEW:
            said.append(
                f"Rounds are few ({found.rounds}): little is known of how long workers stay slow, and of rare times."
            )
        said += self._slow_workers()
        said.append(self._persistence())
        if found.slow_rounds:
            some = ", ".join(map(str, found.slow_rounds[:5])) + (", ..." if len(found.slow_rounds) > 5 else "")
            said.append(
                f"{len(found.slow_rounds)} of {found.rounds} rounds (counted from 0) are slow for nearly everybody, "
                f"and no code helps: {some}."
            )
        said.append(
            f"Best model: {best.name}, within {best.gap:.2g} of the recorded distribution function; it is in "
            f"{self.folder / 'delay' / 'fitted.yaml'}."
        )
        if best.gap > POOR:
            said.append("That is a poor fit: replay the recording rather than the model.")
        elif self._stays_slow and best.factors is None:
            said.append("It draws workers independently, and here they stay slow: replay the recording instead.")
        return said

    @property
    def _stays_slow(self) -> bool:
        return bool(self.summary.between >= STAYS_SLOW or self.summary.lag_1 >= STAYS_SLOW)

    def _persistence(self) -> str:
        found = self.summary
        if np.isnan(found.between):
            return "Whether workers differ cannot be told from so few times."
        between = f"{found.between:.0%} of the variance of log times lies between workers"
        if found.between >= STAYS_SLOW:
            return (
                f"{between}: slow workers stay slow, and it matters who shares blocks with whom (placement=balanced)."
            )
        if found.lag_1 >= STAYS_SLOW:
            lag = f"what a worker takes is correlated by {found.lag_1:.2f} from one round to the next"
            return f"{between}, but {lag}: workers are slow for several rounds."
        return f"{between}: workers are alike, and who is slow changes from round to round."

    def _slow_workers(self) -> list[str]:
        groups: dict[str, list[Worker]] = {}
        for worker in self.summary.workers:
            if worker.words:
                groups.setdefault(worker.words, []).append(worker)
        said = []
        for words, members in groups.items():
            ratios = [worker.ratio for worker in members]
            low, high = f"{min(ratios):.2g}", f"{max(ratios):.2g}"
            span = low if low == high else f"{low} to {high}"
            how = f" ({span} times as long as the fast ones)" if max(ratios) >= SLOW else ""
            said.append(f"{_named([worker.name for worker in members])}: {words}{how}.")
        return (
            said if len(said) <= MOST_WORKERS else [*said[:MOST_WORKERS], f"... and {len(said) - MOST_WORKERS} more."]
        )

    def tables(self) -> dict[str, Rows]:
        """The tables by their titles."""
        found = self.summary
        slowest = sorted(found.workers, key=lambda worker: (-worker.saved_s, -worker.ratio))[:MOST_WORKERS]
        workers = [
            {
                "worker": worker.name,
                "median": f"{worker.median_s:.4g}",
                "times the fast ones, when slow": f"{worker.ratio:.2f}",
                "the last one in": f"{worker.last:.0%}",
                "saves if as fast as the median one": f"{worker.saved_s:.3g} ({worker.saved_s / found.all_s:.0%})",
                "": worker.words,
            }
            for worker in slowest
        ]
        without = [
            {
                "the slowest": _named(each.slowest),
                "round if removed": f"{each.removed_s:.4g} ({each.removed_s / found.all_s:.0%})",
                "round if as fast as the median one": f"{each.replaced_s:.4g} ({each.replaced_s / found.all_s:.0%})",
            }
            for each in found.without
        ]
        first = self.fits[0]
        models = [
            {
                "model": fit.name,
                "held-out log-likelihood of a time": f"{fit.held_out:.3f}",
                "less than the best": f"{first.held_out - fit.held_out:.3f}",
                "largest gap of the distribution": f"{fit.gap:.2f}",
                "settings": _settings(fit),
            }
            for fit in best_by_family(self.fits)
        ]
        all_of_them = "" if len(found.workers) <= MOST_WORKERS else f", the {MOST_WORKERS} that matter most"
        unit = self.unit.strip() or "normalised units"
        return {
            f"workers ({unit}{all_of_them})": workers,
            f"waiting for all, without the slowest workers ({unit})": without,
            "models, fitted by maximum likelihood": models,
        }


def trace(
    paths: Sequence[str | Path],
    unit: str | None = None,
    out: str | Path | None = None,
    *,
    console: Console | None = None,
) -> list[Traced]:
    """Reports on recordings: in words, as tables and a figure, and with a model of each.

    Each gets a folder, `outputs/trace-NAME` or, for a single recording, `out`, with trace.md, trace.png and
    delay/fitted.yaml. `unit` (s, ms, us, ns) overrides the one that columns are named after. Raises ConfigError for a
    file that is no recording.
    """
    console = console or Console(quiet=True)
    read = [read_recording(str(path), unit=unit) for path in paths]
    names = [stem(recording.path) for recording in read]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"FILE={twice}: is the name of several recordings; report on them one by one, with --out")
    found = []
    for recording in read:
        folder = Path(out) if out is not None else Path("outputs") / f"trace-{stem(recording.path)}"
        console.print(f"{recording.path}: {size(recording)}", **PLAIN)
        for note in [*recording.notes, *_doubts(recording)]:
            console.print(f"  {note}", **PLAIN)
        summary = summarize(recording.times_s, recording.workers)
        traced = Traced(recording, summary, fit_times(recording.times_s), folder)
        for title, rows in traced.tables().items():
            console.print(_terminal(title, rows))
        for line in traced.lines():
            console.print(line, **PLAIN)
        with writing(folder):
            _save(traced)
        console.print(f"report: {folder / 'trace.md'}, figure: {folder / 'trace.png'}", **PLAIN)
        found.append(traced)
    for line in _about_loads(found):
        console.print(line, **PLAIN)
    return found


def size(recording: Recording) -> str:
    """How much was recorded, in words."""
    rounds, workers = recording.times_s.shape
    missing = int(np.isnan(recording.times_s).sum())
    return f"{rounds} rounds of {workers} workers" + (f", {missing} of the times missing" if missing else "")


def _doubts(recording: Recording) -> list[str]:
    if recording.unused and np.isnan(recording.times_s).any():
        return [
            "missing times are answers that the run did not use, mostly late ones: workers look faster than they are"
        ]
    medians = np.nanmedian(np.where(np.isfinite(recording.times_s).any(0), recording.times_s, 0), axis=0)
    medians = medians[medians > 0]
    if len(medians) and medians.max() > UNLIKE * np.quantile(medians, FAST, method="lower"):
        return [f"some workers take more than {UNLIKE} times as long as the others: are their times in another unit?"]
    return []


def _about_loads(found: Sequence[Traced]) -> list[str]:
    """How the median time depends on the load, if recordings have at least two different ones."""
    known = [(each.recording.load, each.summary.median_s) for each in found if each.recording.load is not None]
    if len({load for load, _ in known}) < 2 or any(each.unit == "" for each in found):
        return []
    loads, medians_s = map(np.array, zip(*known, strict=True))
    slope_s, start_s = np.polyfit(loads, medians_s, 1)
    if slope_s <= 0:
        return [f"Over {len(known)} recordings with different loads, the median time does not grow with the load."]
    return [
        f"Over {len(known)} recordings with loads from {loads.min():.3g} to {loads.max():.3g} of the data, the median "
        f"time is about {start_s:.3g} + {slope_s:.3g} x load s: compute_s={slope_s:.3g}."
    ]


def _save(traced: Traced) -> None:
    (traced.folder / "delay").mkdir(exist_ok=True)
    best = traced.fits[0]
    comment = (
        f"# {best.name}, fitted to {traced.recording.path}; use it with --config-dir {traced.folder} delay=fitted\n"
    )
    (traced.folder / "delay" / "fitted.yaml").write_text(comment + OmegaConf.to_yaml(_rounded(best.settings())))
    trace_figure(traced.recording, best, traced.folder / "trace.png")
    parts = [f"# {traced.recording.path}", f"{size(traced.recording)}.", *traced.recording.notes, *traced.lines()]
    parts += [f"## {title[0].upper()}{title[1:]}\n\n{_markdown(rows)}" for title, rows in traced.tables().items()]
    parts.append("![Times of workers and rounds, workers' ranges, and quantiles beside the model's](trace.png)")
    (traced.folder / "trace.md").write_text("\n\n".join(parts) + "\n")


def _settings(fit: Fit) -> str:
    """The numbers of a model on one line."""

    def numbers(settings: dict) -> list[str]:
        said = []
        for name, value in settings.items():
            if isinstance(value, dict):
                said += numbers(value)
            elif name == "parts":
                said += [each for part in value for each in numbers(part)]
            elif isinstance(value, float):
                said.append(f"{name}={value:.3g}")
        return said

    return " ".join(numbers(fit.settings()))


def _rounded(settings: dict) -> dict:
    rounded = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            rounded[name] = _rounded(value)
        elif isinstance(value, list):
            rounded[name] = [_rounded(each) if isinstance(each, dict) else float(f"{each:.6g}") for each in value]
        else:
            rounded[name] = float(f"{value:.6g}") if isinstance(value, float) else value
    return rounded


def _named(names: Sequence[str]) -> str:
    some = list(names[:MOST_WORKERS])
    more = len(names) - len(some)
    head, last = (", ".join(some[:-1]), some[-1]) if not more else (", ".join(some), f"{more} more")
    return f"{'workers' if len(names) > 1 else 'worker'} {head}{' and ' if head else ''}{last}"


def _terminal(title: str, rows: Rows) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for name in rows[0] if rows else []:
        table.add_column(name, justify="left" if name in ("", "worker", "model", "settings") else "right")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    return table


def _markdown(rows: Rows) -> str:
    if not rows:
        return "none"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def stem(path: str) -> str:
    """The name of a file without its ending."""
    return re.sub(r"\.(csv|npz|npy)(\.[a-z0-9]+)?$", "", Path(path).name, flags=re.IGNORECASE)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Creates the folder. Raises ConfigError if it, or what the block writes into it, cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigError(f"--out={folder}: cannot be written ({error.strerror or error})") from error
