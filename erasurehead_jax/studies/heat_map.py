"""A heat map of the fastest scheme at each (c, r)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from erasurehead_jax.studies.grid import GridPoint


def heat_map(
    axis: Axes, points: Sequence[GridPoint], time_s: Float[np.ndarray, "points seeds"], inside: Sequence[int]
) -> None:
    """Draws the smallest median time at each (c, r) on a logarithmic scale, with the scheme that attains it."""
    loads = sorted({points[i].labels["load"] for i in inside})
    waited = sorted({points[i].labels["wait_for"] for i in inside})
    fastest: dict[tuple[int, int], int] = {}
    median_s = {i: float(np.median(time_s[i])) for i in inside}
    for i in inside:
        cell = loads.index(points[i].labels["load"]), waited.index(points[i].labels["wait_for"])
        fastest[cell] = min(fastest.get(cell, i), i, key=lambda each: median_s[each])
    values = np.full((len(loads), len(waited)), np.nan)
    for cell, i in fastest.items():
        values[cell] = median_s[i] if np.isfinite(median_s[i]) else np.nan
    norm = _scale(values)
    image = axis.imshow(values, aspect="auto", origin="lower", cmap="Greys", norm=norm)
    bar = axis.figure.colorbar(image, ax=axis, label="seconds")
    if isinstance(norm, LogNorm):
        plain_logarithms(bar.ax.yaxis)
    for (row, column), i in fastest.items():
        reached = np.isfinite(median_s[i])
        digits = ".0f" if median_s[i] >= 100 else ".3g"
        words = f"{median_s[i]:{digits}}" if reached else "not reached"
        dark = reached and float(norm(median_s[i])) > 0.65
        scheme = str(points[i].labels["scheme"]).replace("_", "\n")
        colour = "white" if dark else "black"
        axis.text(column, row, f"{words}\n{scheme}", ha="center", va="center", fontsize=7, color=colour)
    axis.set(xlabel="r, maximum number of workers waited for", ylabel="c, blocks per worker")
    axis.set_xticks(range(len(waited)), [str(each) for each in waited])
    axis.set_yticks(range(len(loads)), [str(each) for each in loads])


def _scale(values: Float[np.ndarray, "loads waited"]) -> Normalize:
    """Logarithmic, padded so that a single value or equal ones have a colour; linear if a time is zero."""
    known = values[np.isfinite(values)]
    if not len(known) or known.min() <= 0:
        return Normalize(0, known.max() if len(known) and known.max() > 0 else 1)
    return LogNorm(known.min() / 1.1, known.max() * 1.1)


def plain_logarithms(axis: Axis) -> None:
    """Labels a logarithmic axis with plain numbers at 1, 2 and 5."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
