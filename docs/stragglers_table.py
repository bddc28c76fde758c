"""The table of docs/stragglers.md: what `trace` and `advise` say of every recording in ERASUREHEAD_DATA/traces."""
# ruff: noqa: RUF001 - crosses, as in the page

import os
import re
from pathlib import Path

from erasurehead_jax.delays.fits import best_by_family, fit_times
from erasurehead_jax.delays.recording import read_recording
from erasurehead_jax.stragglers.advice import advise
from erasurehead_jax.stragglers.summary import summarize

PAGE = Path(__file__).with_name("stragglers.md")
TABLE = re.compile(r"(<!-- recordings -->\n).*?(?=<!-- end -->)", re.DOTALL)
HEAD = [
    "| recording | rounds × workers | between workers | lag 1 | model | held out | next | gap | take | uncoded takes |",
    "|---|--:|--:|--:|---|--:|---|--:|---|--:|",
]


def row(path: Path) -> str:
    """One recording."""
    recording = read_recording(str(path))
    found, models = summarize(recording.times_s, recording.workers), best_by_family(fit_times(recording.times_s))
    advice = advise(recording)
    gain, low, high = advice.taken.gain(advice.of("uncoded"))
    rounds, workers = recording.times_s.shape
    best, second = models[:2]
    cells = [
        path.stem,
        f"{rounds} × {workers}",
        f"{found.between:.0%}",
        f"{found.lag_1:.2f}",
        best.name,
        f"{best.held_out:.2f}",
        f"{second.family.name} {second.held_out - best.held_out:.2f}",
        f"{best.gap:.2f}",
        advice.taken.candidate.name,
        f"{gain:.2f} ({low:.2f} to {high:.2f})" if advice.taken.sure else f"{gain:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Writes the table into the page."""
    traces = sorted(Path(os.environ["ERASUREHEAD_DATA"], "traces").glob("*.npz"))
    rows = [row(path) for path in traces]
    PAGE.write_text(TABLE.sub(lambda found: found[1] + "\n".join([*HEAD, *rows]) + "\n", PAGE.read_text()))


if __name__ == "__main__":
    main()
