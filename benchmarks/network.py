"""A network by stopwatch, and SVRG against plain mini-batches: the figures of docs/results.md. About 35 minutes.

python benchmarks/network.py [FOLDER]      (finished runs are not repeated; Covertype if ERASUREHEAD_DATA has it)

Twelve real workers with the paper's sleeps (exponential, mean 0.5 s), three seeds.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

import erasurehead_jax as eh
from erasurehead_jax.data import raw
from erasurehead_jax.data.covertype import FILE
from erasurehead_jax.data.dataset import split_rows

WORKERS, SEEDS = 12, (0, 1, 2)
SCHEMES = {
    "uncoded": eh.uncoded(WORKERS),
    "egc": eh.egc(WORKERS, load=3),
    "erasurehead": eh.erasurehead(WORKERS, load=3, wait_for=5),
    "ignore_stragglers": eh.ignore_stragglers(WORKERS, wait_for=5),
}


class Problem(NamedTuple):
    """A data set, an objective, and how it is trained."""

    dataset: Callable[[], eh.Dataset]
    objective: eh.AbstractObjective
    step_size: float
    rounds: int
    settings: dict[str, Any]


def dataset(name: str, X: np.ndarray, y: np.ndarray) -> eh.Dataset:
    """Standardised columns and a constant, split 80/20."""
    train, test = split_rows(len(y), 0)
    varying = X[train].std(0) > 0
    X = X[:, varying]
    X = np.column_stack([(X - X[train].mean(0)) / X[train].std(0), np.ones(len(y))]).astype(np.float32)
    return eh.Dataset(name, *(eh.Rows(eh.Dense(X[part]), y[part]) for part in (train, test)))


def digits() -> eh.Dataset:
    """1,797 images of 8 x 8 pixels, ten classes."""
    return dataset("digits", *load_digits(return_X_y=True))


def covertype() -> eh.Dataset:
    """581,012 rows of 54 numbers, all seven types of forest."""
    path = raw.find(FILE)
    if path is None:
        raise eh.ConfigError(f"ERASUREHEAD_DATA: has no {FILE.name}")
    with raw.open_raw(path) as file:
        values = pd.read_csv(file, header=None, dtype=np.int32).to_numpy()
    return dataset("covertype7", values[:, :-1].astype(float), values[:, -1])


network = eh.Model(eh.MLP(hidden=[64]))
NETWORKS = {
    "digits": Problem(digits, network, 0.5, 80, {"l2": 0.0}),
    "covertype7": Problem(covertype, network, 0.5, 80, {"l2": 0.0, "batch": 0.02}),
}
SVRG = {"variance_reduction": "svrg", "snapshot_every": 20}
VARIANTS: dict[str, dict[str, Any]] = {
    "all rows": {},
    "mini-batches": {"batch": 0.1},
    "SVRG": {"batch": 0.1, **SVRG},
    "SVRG, exact snapshots": {"batch": 0.1, **SVRG, "snapshot": "exact"},
}


def once(folder: Path, data: eh.Dataset, problem: Problem, scheme: eh.Scheme, seed: int, **more: Any) -> eh.Run:
    """The run in this folder, which is trained unless it is there."""
    if (folder / "summary.json").is_file():
        return eh.load(folder)
    step = functools.partial(eh.gd, step_size=problem.step_size)
    return eh.train(
        data,
        problem.objective,
        scheme,
        delay=eh.Exponential(0.5),
        optimizer=step,
        rounds=problem.rounds,
        backend="mpi",
        seed=seed,
        run_dir=folder,
        **problem.settings | more,
    )


def main() -> None:
    """Trains, reports, and prints where the tables and figures are."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/network").absolute()
    for name, problem in NETWORKS.items():
        try:
            data = problem.dataset()
        except eh.ConfigError as error:
            print(f"{name}: skipped ({error})")
            continue
        for seed in SEEDS:
            for label, scheme in SCHEMES.items():
                once(folder / "network" / name / f"{label}-{seed}", data, problem, scheme, seed)
    convex = Problem(digits, eh.Softmax(), 1.0, 200, {"l2": 1e-3})
    data = digits()
    for seed in SEEDS:
        for label, variant in VARIANTS.items():
            place = folder / "svrg" / f"{label}-{seed}".replace(", ", "-").replace(" ", "-")
            once(place, data, convex, SCHEMES["erasurehead"], seed, **variant, name=label)
    for part in ("network", "svrg"):
        found = eh.report([folder / part])
        for table in found.tables.values():
            print(table.to_string(index=False))
        print(f"tables and figures: {found.folder}")


if __name__ == "__main__":
    main()
