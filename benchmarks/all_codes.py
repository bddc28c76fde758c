"""Section 5 of the paper for all codes: time to what uncoded has after its last round, on Amazon.

    ERASUREHEAD_DATA=... python benchmarks/all_codes.py FOLDER [--stopwatch] [--traces NAME ...]

Simulated: 30 workers, the paper's sleeps and the recordings in ERASUREHEAD_DATA/traces, all unless named (rounds and
workers are drawn at random from them), 16 seeds, gradient descent with the paper's step. Of every
code the best of its loads and numbers of workers waited for is kept. With --stopwatch, the five best under the paper's
sleeps, and uncoded, then run on real ranks. Block designs have no size of 30 workers and are left out.
"""

import argparse
import functools
import os
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)  # runs are distributed over them

import erasurehead_jax as eh  # noqa: E402
from erasurehead_jax.data import amazon  # noqa: E402
from erasurehead_jax.optimizers import gd  # noqa: E402

WORKERS, SEEDS, STEP_SIZE = 30, 16, 10.0
UNCODED_ROUNDS, ROUNDS = 100, 200  # steps of an approximate gradient are shorter: more of them are needed
WITHIN = 1e-4  # of uncoded's last AUC, relative
HEARD = (11, 20)
SLEEPS = "exponential sleeps"
LEAST_SQUARES: dict[str, Any] = {"decode": {"_target_": "erasurehead_jax.decoding.ByLeastSquares"}}
EXACT = {
    "egc": (2, 3, 5),
    "egc_cyclic": (2, 3, 5),
    "cyclic_mds": (2, 4),
    "reed_solomon": (2, 4),
    "communication_efficient": (3, 5),
}
COUNTING = {
    "ignore_stragglers": (1,),
    "erasurehead": (2, 3, 5),
    "bernoulli": (3,),
    "block_model": (3,),
    "random_regular": (3,),
    "expander": (3,),
    "graph_code": (2,),
    "stochastic": (3,),
    "coupon_collector": (3,),
}
ALSO_OPTIMAL = ("bernoulli", "block_model", "random_regular", "expander")  # one-step decoding is their own


def schemes() -> dict[str, eh.Scheme]:
    """By name."""
    found = {"uncoded": eh.uncoded(WORKERS)}
    for name, loads in EXACT.items():
        found |= {f"{name} c={c}": eh.named_scheme(name, WORKERS, c) for c in loads}
    found["partial_replication c=4"] = eh.named_scheme("partial_replication", WORKERS, 4, blocks=2 * WORKERS)
    for name, loads in COUNTING.items():
        for c in loads:
            for r in HEARD:
                found[f"{name} c={c} r={r}"] = eh.named_scheme(name, WORKERS, c, r)
                if name in ALSO_OPTIMAL:
                    found[f"{name} c={c} r={r} optimal"] = eh.named_scheme(name, WORKERS, c, r, **LEAST_SQUARES)
    return found


def delays(names: list[str]) -> dict[str, eh.AbstractDelay]:
    """By name."""
    traces = Path(os.environ["ERASUREHEAD_DATA"], "traces")
    found: dict[str, eh.AbstractDelay] = {SLEEPS: eh.Exponential(0.5)}
    for name in names or sorted(path.stem for path in traces.glob("*.npz")):
        found[name] = eh.Trace(str(traces / f"{name}.npz"), resample=True)
    return found


def simulate(folder: Path, traces: list[str], data: eh.Dataset, target: float) -> pd.DataFrame:
    """The median time to the target (s) of every scheme (rows) under every delay (columns)."""
    columns = {}
    for name, delay in delays(traces).items():
        file = folder / f"{name}.csv"
        if not file.exists():
            optimizer: Any = functools.partial(gd, step_size=STEP_SIZE)
            found = eh.whatif(
                schemes(), delay, data, eh.Logistic(), optimizer=optimizer, rounds=ROUNDS, seeds=SEEDS, targets=[target]
            )
            found.table.to_csv(file, index=False)
            jax.clear_caches()  # hundreds of compiled programs reach the kernel's limit of memory maps
        columns[name] = pd.read_csv(file).set_index("scheme")["time_s"]
    return pd.DataFrame(columns)


def last_auc(data: eh.Dataset) -> float:
    """What uncoded has after its last round: the same whatever the delays."""
    settings: dict[str, Any] = {"rounds": UNCODED_ROUNDS, "backend": "simulate", "optimizer": eh.gd(STEP_SIZE)}
    return eh.train(data, eh.Logistic(), eh.uncoded(WORKERS), **settings).summary["final"]["test_auc"]


def best_of_each(speed_up: pd.DataFrame) -> pd.DataFrame:
    """The best loads and r of each code and decoder, code by code: uncoded's time over its own."""
    families: dict[str, list[str]] = {}
    for name in map(str, speed_up.index):
        families.setdefault(name.split(" ")[0] + " optimal" * name.endswith("optimal"), []).append(name)
    best = pd.DataFrame({family: speed_up.filter(names, axis="index").max() for family, names in families.items()})
    return best.transpose().sort_values(SLEEPS, ascending=False)


def figure(best: pd.DataFrame, path: Path) -> None:
    """Speed-ups over uncoded as a table of colours and numbers."""
    shown, axis = plt.subplots(figsize=(0.45 * len(best.columns) + 3, 0.35 * len(best) + 2.2), layout="constrained")
    image = axis.imshow(np.log2(best.clip(0.25, 16)), cmap="RdBu", vmin=-3, vmax=3, aspect="auto")
    for i, row in enumerate(best.to_numpy()):
        for j, value in enumerate(row):
            colour = "white" if abs(np.log2(max(value, 0.25))) > 2 else "black"
            text = "-" if value == 0 else f"{value:.2g}"
            axis.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(best.columns)), list(best.columns), rotation=60, ha="right", fontsize=7)
    axis.set_yticks(range(len(best)), list(best.index), fontsize=8)
    bar = shown.colorbar(image, ax=axis, ticks=[-2, -1, 0, 1, 2, 3])
    bar.ax.set_yticklabels(["1/4", "1/2", "1", "2", "4", "8 x"])
    axis.set_title("times as fast as uncoded to its last AUC; -: not reached by half of the seeds", fontsize=9)
    shown.savefig(path, dpi=140)


def stopwatch(folder: Path, data: eh.Dataset, speed_up: dict[str, float], target: float) -> pd.DataFrame:
    """Uncoded and the five best schemes under the paper's sleeps, one of each code, on real ranks."""
    names, seen = ["uncoded"], {"uncoded", 1.0}
    for name in sorted(speed_up, key=lambda name: -speed_up[name]):
        family = name.split(" ")[0]
        if not {family, speed_up[name]} & seen and len(names) < 6:  # equal times: the expander is the regular graph
            seen |= {family, speed_up[name]}
            names.append(name)
    rows = []
    for name in names:
        rounds = UNCODED_ROUNDS if name == "uncoded" else ROUNDS
        settings: dict[str, Any] = {"rounds": rounds, "backend": "mpi", "target": target, "optimizer": eh.gd(STEP_SIZE)}
        run = eh.train(data, eh.Logistic(), schemes()[name], delay=eh.Exponential(0.5), **settings)
        rows.append({"scheme": name, "clock_s": run.summary["clock_s"], "time_s": run.summary["time_to_target_s"]})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table["speed_up"] = table["time_s"].iloc[0] / table["time_s"]
    table.to_csv(folder / "stopwatch.csv", index=False)
    return table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stopwatch", action="store_true")
    parser.add_argument("--traces", nargs="*", default=[])
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = amazon(split_seed=0)
    target = last_auc(data) * (1 - WITHIN)
    time_s = simulate(folder, arguments.traces, data, target)
    speed_up = time_s.loc["uncoded"] / time_s
    speed_up.to_csv(folder / "speed-up.csv")
    best = best_of_each(speed_up)
    best.to_csv(folder / "best.csv")
    print(f"target: AUC {target:.5f}\n{best.round(2).to_string()}")
    figure(best, folder / "all-codes.png")
    if arguments.stopwatch:
        print(stopwatch(folder, data, speed_up[SLEEPS].to_dict(), target).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
