"""A network by stopwatch, and SVRG against plain mini-batches: the figures of docs/results.md. About 25 minutes.

python benchmarks/network.py [FOLDER]      (finished runs are not repeated; Covertype if ERASUREHEAD_DATA has it)

Twelve real workers with the paper's sleeps (exponential, mean 0.5 s), three seeds.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.datasets import load_digits

import erasurehead_jax as eh
from erasurehead_jax.data import raw
from erasurehead_jax.data.covertype import FILE
from erasurehead_jax.data.dataset import split_rows

WORKERS, SEEDS = 12, (0, 1, 2)
L2, WITHIN = 0.01, 1e-3  # of the comparison of variants: the regulariser, and how close "close" is
TIGHT = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-10}
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
    rows = [eh.Rows(eh.Dense(X[part]), y[part]) for part in (train, test)]
    return eh.Dataset(name, rows[0], rows[1])


def digits() -> eh.Dataset:
    """1,797 images of 8 x 8 pixels, ten classes."""
    images = load_digits()
    return dataset("digits", images["data"], images["target"])  # pyright: ignore


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
    "digits": Problem(digits, network, 0.5, 60, {"l2": 0.0}),
    "covertype7": Problem(covertype, network, 0.5, 60, {"l2": 0.0, "batch": 0.02}),
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


class Gap:
    """Writes F(x) - F(x*) after every evaluation, where F is the regularised softmax loss on the training rows."""

    def __init__(self, data: eh.Dataset, path: Path):
        self._X, self._path = np.asarray(data.train.features.matrix, float), path  # pyright: ignore
        self._y = np.asarray(data.train.target)
        least = minimize(self.loss, np.zeros(self._X.shape[1] * 10), jac=True, method="L-BFGS-B", options=TIGHT)
        self._least = least.fun

    def loss(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """F and its gradient."""
        N, W = len(self._y), x.reshape(-1, 10)
        logits = log_softmax(self._X @ W, 1)
        slopes = np.exp(logits)
        slopes[np.arange(N), self._y] -= 1
        value = -logits[np.arange(N), self._y].mean() + L2 * float(x @ x)
        return value, (self._X.T @ slopes / N + 2 * L2 * W).ravel()

    def __call__(self, evaluation: eh.Evaluation) -> None:
        gap = self.loss(np.asarray(evaluation.params, float).ravel())[0] - self._least
        with self._path.open("a") as file:
            file.write(f"{evaluation.last['round']},{evaluation.last['clock_s']},{gap}\n")


def variance_reduction(folder: Path) -> None:
    """Softmax regression on the digits under ErasureHead: how close each variant comes to the minimum, and when."""
    data = digits()
    problem = Problem(digits, eh.Softmax(), 1.0, 200, {"l2": L2, "x64": True, "evaluate_every": 5})
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    rows = []
    for (label, variant), style in zip(VARIANTS.items(), ("-", "--", "-.", ":"), strict=True):
        runs = []
        for seed in SEEDS:
            place = folder / f"{label}-{seed}".replace(", ", "-").replace(" ", "-")
            gaps = Gap(data, folder / f"{place.name}.csv")
            folder.mkdir(parents=True, exist_ok=True)
            once(place, data, problem, SCHEMES["erasurehead"], seed, **variant, callbacks=[gaps], name=label)
            runs.append(pd.read_csv(folder / f"{place.name}.csv", names=["round", "clock_s", "gap"]))
        floor = np.median([run["gap"].iloc[-len(run) // 4 :].median() for run in runs])
        clock_s = np.median([run["clock_s"].iloc[-1] for run in runs])
        within = [run["clock_s"][run["gap"] <= WITHIN].min() for run in runs]
        rows.append({"variant": label, "clock_s": clock_s, "floor": floor, f"seconds to {WITHIN:g}": np.median(within)})
        axes.semilogy(runs[0]["clock_s"], runs[0]["gap"], style, label=label)
    axes.set(
        xlabel="clock (s)", ylabel="distance of the objective to its minimum", title="Softmax on digits, ErasureHead"
    )
    axes.legend()
    figure.savefig(folder / "svrg.png", dpi=150)
    table = pd.DataFrame(rows)
    table.to_csv(folder / "svrg.csv", index=False)
    print(table.to_string(index=False))


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
    variance_reduction(folder / "svrg")
    found = eh.report([folder / "network"])
    for table in found.tables.values():
        print(table.to_string(index=False))
    print(f"tables and figures: {found.folder}, {folder / 'svrg'}")


if __name__ == "__main__":
    main()
