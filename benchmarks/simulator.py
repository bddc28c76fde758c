"""The simulator against the same iteration in SciPy CSR, and the worker-rounds per second of `mode=timing`.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python benchmarks/simulator.py

Medians on one core, timed alternately: 64 runs of ErasureHead (c = 3, r = 11, 30 workers, sleeps of mean 0.5 s) on
Amazon if ERASUREHEAD_DATA has it, otherwise on built-in data of its size. A GPU, if there is one, is timed as well.
"""

import os
import time
from collections.abc import Callable

import jax
import numpy as np
import scipy.sparse as sp
from jax.tree_util import Partial
from scipy.special import expit

from erasurehead_jax import (
    AnyOf,
    ByCode,
    ConfigError,
    Count,
    Decodable,
    Exponential,
    FractionalRepetition,
    Logistic,
    Scheme,
    Uncoded,
)
from erasurehead_jax.data import amazon, synthetic
from erasurehead_jax.optimizers import gd
from erasurehead_jax.simulation.engine import Simulation
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.studies.montecarlo import timer

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX sizes its thread pools, at its first use
SEEDS, ROUNDS, TAKES = 64, 5, 9
TIMED_SEEDS, TIMED_ROUNDS = 256, 1000
CODE = FractionalRepetition(blocks=30, workers=30, load=3)
ERASUREHEAD = Scheme(CODE, AnyOf((Decodable(), Count(11))), ByCode())


def data():
    try:
        return amazon(split_seed=0)
    except ConfigError:
        return synthetic(rows=32_769, fields=44, categories=6_000, task="classification")


def scipy_rounds(dataset, dtype) -> Callable[[], object]:
    """ROUNDS iterations of one run from zeros with given w; the transpose is a view, as in X.T @ r."""
    index, N = np.asarray(dataset.train.features.index), len(dataset.train)
    fields, y = len(index), np.asarray(dataset.train.target, dtype)
    entries = np.ones(index.size, dtype), (np.tile(np.arange(N), fields), index.ravel())
    X = sp.csr_matrix(entries, (N, dataset.dim))
    block = np.arange(N) * 30 // N
    w = np.repeat(np.random.default_rng(0).random(10) < 0.76, 3).astype(dtype)

    def play() -> None:
        x = np.zeros(dataset.dim, dtype)
        for _ in range(ROUNDS):
            slopes = -y * expit(-y * (X @ x)) * w[block]
            x = x - 10 * (X.T @ slopes / N + 2 * x / N)

    return play


def simulator_rounds(dataset, device) -> Callable[[], object]:
    """ROUNDS rounds of SEEDS runs, including delays and decoding."""
    point = Point(ERASUREHEAD, Exponential(0.5), "cancel", optimizer=Partial(gd, step_size=10.0), l2=1 / 26_215)
    simulation = Simulation(dataset, Logistic(), [point], [device])
    batch, state = simulation.begin([0] * SEEDS, range(SEEDS))

    def play() -> None:
        nonlocal state
        state, *_ = simulation.advance(batch, state, ROUNDS)
        jax.block_until_ready(state)

    return play


def medians(*plays: Callable[[], object], takes: int = TAKES) -> list[float]:
    """Median seconds; the first take, which compiles, is not counted."""
    times = [[] for _ in plays]
    for take in range(takes + 1):
        for play, seconds in zip(plays, times, strict=True):
            began_s = time.perf_counter()
            play()
            if take:
                seconds.append(time.perf_counter() - began_s)
    return [float(np.median(seconds)) for seconds in times]


def main() -> None:
    dataset = data()
    devices = [jax.devices("cpu")[0], *(jax.devices()[:1] if jax.default_backend() != "cpu" else [])]
    peers = [scipy_rounds(dataset, dtype) for dtype in (np.float64, np.float32)]
    *ours_s, double_s, single_s = medians(*(simulator_rounds(dataset, device) for device in devices), *peers)
    print(f"{dataset.name}, {len(dataset.train)} rows, {dataset.dim} columns; ms per round of {SEEDS} runs")
    for device, seconds in zip(devices, ours_s, strict=True):
        print(f"  simulator, float32, {device.device_kind}: {1e3 * seconds / ROUNDS:.1f}")
    for name, seconds in (("float64", double_s), ("float32", single_s)):
        one_by_one_s = seconds * SEEDS
        ratios = ", ".join(f"{one_by_one_s / ours:.2f}" for ours in ours_s)
        print(f"  SciPy CSR, {name}, one after another: {1e3 * one_by_one_s / ROUNDS:.1f} ({ratios} times as long)")
    print(f"mode=timing, million worker-rounds per second ({TIMED_SEEDS} runs of {TIMED_ROUNDS} rounds, 30 workers)")
    uncoded = Uncoded(blocks=30, workers=30)
    schemes = {
        "uncoded": Scheme(uncoded, Decodable(), ByCode()),
        "ignore_stragglers": Scheme(uncoded, Count(11), ByCode(rescale="covered")),
        "egc": Scheme(CODE, Decodable(), ByCode()),
        "erasurehead": ERASUREHEAD,
    }
    for late in ("cancel", "skip", "queue", "wait"):
        rates = []
        for name, scheme in schemes.items():
            play = timer([Point(scheme, Exponential(0.5), late)], TIMED_ROUNDS, jax.devices()[:1])
            (seconds,) = medians(lambda play=play: play([0] * TIMED_SEEDS, range(TIMED_SEEDS)), takes=3)
            rates.append(f"{name} {30 * TIMED_SEEDS * TIMED_ROUNDS / seconds / 1e6:.1f}")
        print(f"  {late}: {', '.join(rates)}")


if __name__ == "__main__":
    main()
