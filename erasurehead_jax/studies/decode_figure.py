"""The figure of `mode=decode`: errors against the number of stragglers."""

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from erasurehead_jax.reports.figure import STYLES

MOST_LINES = 10
LINEAR_BELOW = 0.01  # of a logarithmic axis that has to show 0


def decode_figure(table: pd.DataFrame, path: Path) -> None:
    """Mean errors (left) and worst ones (right) of the codes; crosses are closed forms, dots what no code can avoid."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.5), layout="constrained", sharey=True)
    names = list(dict.fromkeys(table["name"]))
    for place, ((style, marker), name) in enumerate(zip(itertools.cycle(STYLES), names[:MOST_LINES], strict=False)):
        mine = table.query("name == @name")
        s = mine["stragglers"]
        shown = {"marker": marker, "markevery": (place % 4, 5), "markersize": 5, "label": name}
        (line,) = left.plot(s, mine["mean_error"], style, **shown)
        left.plot(s, mine["closed_form"].astype(float), "+", color=line.get_color(), markersize=6, label="_")
        right.plot(s, mine["worst_error"], style, color=line.get_color(), **shown)
    for axis, least in ((left, "least_mean_error"), (right, "least_worst_error")):
        most_copies = table.loc[table["load"] == table["load"].max()]
        bound = most_copies.groupby("stragglers")[least].min()
        axis.plot(bound.index, bound, ":", color="black", linewidth=1, label="blocks without a copy: unavoidable")
    left.plot([], [], "+", color="black", label="closed form")
    top = float(np.nanmax(table["worst_error"]))
    left.set(xlabel="stragglers, a sample of random sets", ylabel=r"decode error $\|w - 1\|^2$")
    right.set(xlabel="stragglers, the worst set found")
    for axis in (left, right):
        axis.set_yscale("symlog", linthresh=LINEAR_BELOW)
        axis.set_ylim(0, 1.5 * top)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False, fontsize=8)
    if len(names) > MOST_LINES:
        left.set_title(f"the first {MOST_LINES} of {len(names)} codes; all are in decode.csv", fontsize=9, loc="left")
    figure.savefig(path, dpi=140)
    plt.close(figure)
