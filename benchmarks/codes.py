"""Every scheme yaml at 1,000 workers: time to build, worker-rounds per second of `mode=timing`, and decoding.

    python benchmarks/codes.py

On one core. Where a code has no such sizes, the nearest ones. Decoding is of the master: a NumPy mask, medians.
"""

import os
import resource
import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from erasurehead_jax import ConfigError, Exponential, Scheme, named_scheme
from erasurehead_jax.codes.graph_code import optimal_weights
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.codes.regular_graph import random_regular
from erasurehead_jax.schemes import names
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.studies.montecarlo import timer

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX sizes its thread pools, at its first use
SEEDS, ROUNDS, TAKES = 8, 25, 9
OWN_FILE = "custom"  # has no sizes of its own
SIZES = [(k, c, n) for k in (1000, 999, 991) for c in (4, 3, 5) for n in (k, 2 * k)] + [(991, 495, 991)]


def built(name: str) -> tuple[Scheme, float]:
    """The scheme with the first sizes that it accepts, and the seconds to build it."""
    for workers, load, blocks in SIZES:
        began_s = time.perf_counter()
        try:
            return named_scheme(name, workers, load, workers // 2, blocks), time.perf_counter() - began_s
        except ConfigError:
            continue
    raise SystemExit(f"{name}: no size fits")


def median_ms(call: Callable[[], object], takes: int = TAKES) -> float:
    times = []
    for _ in range(takes):
        began_s = time.perf_counter()
        call()
        times.append(time.perf_counter() - began_s)
    return 1e3 * float(np.median(times))


def worker_rounds_per_s(scheme: Scheme) -> float:
    play = timer([Point(scheme, Exponential(0.5), "cancel")], ROUNDS, jax.devices()[:1])
    which, seeds = [0] * SEEDS, list(range(SEEDS))
    play(which, seeds)  # compiles
    return SEEDS * ROUNDS * scheme.code.workers / (median_ms(lambda: play(which, seeds), 3) / 1e3)


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"{'scheme':<20}{'k':>6}{'c':>5}{'n':>6}{'build s':>9}{'worker-rounds/s':>17}{'decode ms':>11}{'GiB':>7}")
    for name in names():
        if name == OWN_FILE:
            continue
        scheme, build_s = built(name)
        code = scheme.code
        half = rng.random(code.workers)[code.owner] < 0.5
        one_late = code.owner != 7
        got = one_late if code.decodable(one_late) else half
        decode_ms = median_ms(partial(scheme.weights, got))
        rate = worker_rounds_per_s(scheme)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sizes = f"{code.workers:>6}{code.load:>5}{code.blocks:>6}"
        print(f"{name:<20}{sizes}{build_s:>9.2f}{rate:>17,.0f}{decode_ms:>11.3f}{peak:>7.2f}", flush=True)

    G = named_scheme("random_regular", 1000, 4, 500).code.G
    for r in (300, 500, 900):
        got = rng.permutation(1000) < r
        lapack = median_ms(partial(np.linalg.lstsq, G[:, got], np.ones(1000)), 3)
        ours = median_ms(partial(least_squares_weights, G, got))
        print(f"least squares, k=1000, r={r}: {ours:.1f} ms (NumPy's lstsq takes {lapack / ours:.1f} times as long)")
    edges = random_regular(40_000, 5, [0])
    got = rng.random(len(edges)) < 0.5
    print(f"graph code, k={len(edges)}: {median_ms(lambda: optimal_weights(edges, 40_000, got), 3):.0f} ms")


if __name__ == "__main__":
    main()
