"""Placement: which worker takes which part of a code. It matters where slow workers stay slow.

A code decodes by message, whoever sends it: any permutation of the workers is the same code.
"""

import functools
import itertools
from collections.abc import Iterator

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.scheme import Scheme, collect

EXHAUSTIVE = 7  # workers up to which all permutations are tried
MOST_ROUNDS = 32  # recorded rounds that are used, evenly spaced
MOST_SWAPS = 256  # pairs of workers that are tried at once
STALLS = 3  # times in a row that no swap is better, where only some pairs are tried
BATCH = 1024  # permutations that are evaluated at once
GAIN = 1e-9  # relative; what is less is rounding

Order = Int[np.ndarray, " k"]  # part i of the code is worker order[i]'s


def placed(scheme: Scheme, order: Order) -> Scheme:
    """The scheme with part i of its code at worker order[i]. Raises ConfigError unless it is a permutation."""
    workers = scheme.code.workers
    if sorted(np.asarray(order).tolist()) != list(range(workers)):
        raise ConfigError(f"placement={np.asarray(order).tolist()}: must have each worker from 0 to {workers - 1} once")
    return eqx.tree_at(lambda scheme: scheme.code.owner, scheme, np.asarray(order)[scheme.code.owner])


def round_s(scheme: Scheme, times_s: Float[np.ndarray, "rounds k"], order: Order) -> float:
    """The mean time of a round (s) with this placement, if each worker's messages arrive at its recorded time."""
    return float(_costs(scheme, _some(times_s), order[None])[0])


def balanced_order(scheme: Scheme, times_s: Float[np.ndarray, "rounds k"], seed: int = 0) -> Order:
    """The placement with the smallest mean time of a round under recorded times; the given one if none is better.

    Exact for up to 7 workers. Beyond, the best of local searches that exchange two workers as long as this helps, from
    the given placement, from slow workers dealt among fast ones, and from a random one.
    """
    times_s, workers = _some(times_s), scheme.code.workers
    given = np.arange(workers)
    rng = np.random.default_rng(seed)
    if workers <= EXHAUSTIVE:
        found = [_best(scheme, times_s, np.array(list(itertools.permutations(range(workers)))))]
    else:
        found = [_search(scheme, times_s, start, rng) for start in (given, _dealt(times_s), rng.permutation(workers))]
    best, cost = min(found, key=lambda each: each[1])
    return best if cost < _costs(scheme, times_s, given[None])[0] * (1 - GAIN) else given


def _search(scheme: Scheme, times_s: np.ndarray, order: Order, rng: np.random.Generator) -> tuple[Order, float]:
    cost, stalls = float(_costs(scheme, times_s, order[None])[0]), 0
    pairs = np.array(list(itertools.combinations(range(len(order)), 2)))
    while stalls < (1 if len(pairs) <= MOST_SWAPS else STALLS):
        tried = rng.permutation(pairs)[:MOST_SWAPS]
        swapped = np.repeat(order[None], len(tried), axis=0)
        which = np.arange(len(tried))[:, None]
        swapped[which, tried] = order[tried[:, ::-1]]
        better, found = _best(scheme, times_s, swapped)
        if found < cost * (1 - GAIN):
            order, cost, stalls = better, found, 0
        else:
            stalls += 1
    return order, cost


def _dealt(times_s: np.ndarray) -> Order:
    """Slow and fast workers in turn: the fastest, the slowest, the second fastest and so on."""
    ranked = np.median(times_s, axis=0).argsort(kind="stable")
    half = (len(ranked) + 1) // 2
    order = np.empty_like(ranked)
    order[::2], order[1::2] = ranked[:half], ranked[half:][::-1]
    return order


def _best(scheme: Scheme, times_s: np.ndarray, orders: Int[np.ndarray, "orders k"]) -> tuple[Order, float]:
    costs = _costs(scheme, times_s, orders)
    best = int(np.argmin(costs))
    return orders[best], float(costs[best])


def _costs(scheme: Scheme, times_s: np.ndarray, orders: Int[np.ndarray, "orders k"]) -> Float[np.ndarray, " orders"]:
    """The mean time of a round (s) for each placement."""
    with jax.enable_x64(True):
        cost = _cost_of(_Same(scheme))
        return np.concatenate([np.asarray(cost(times_s, each)) for each in _batches(orders)])[: len(orders)]


def _batches(orders: Int[np.ndarray, "orders k"]) -> Iterator[Int[np.ndarray, "batch k"]]:
    """Batches of one size, the last one padded, so that one compilation suffices."""
    size = min(BATCH, len(orders))
    for i in range(0, len(orders), size):
        yield np.resize(orders[i : i + size], (size, orders.shape[1]))


class _Same:
    """A scheme by identity, as the key of a cache."""

    def __init__(self, scheme: Scheme):
        self.scheme = scheme

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.scheme is self.scheme

    def __hash__(self) -> int:
        return id(self.scheme)


@functools.lru_cache(maxsize=8)
def _cost_of(key: _Same):
    scheme = key.scheme
    owner = scheme.code.owner

    def one(times_s: Float[Array, " k"], order: Int[Array, " k"]) -> Float[Array, ""]:
        return collect(scheme, times_s[order][owner])[1]

    return jax.jit(jax.vmap(lambda times_s, order: jax.vmap(one, (0, None))(times_s, order).mean(), (None, 0)))


def _some(times_s: Float[np.ndarray, "rounds k"]) -> Float[np.ndarray, "some k"]:
    which = np.linspace(0, len(times_s) - 1, min(len(times_s), MOST_ROUNDS)).round().astype(int)
    return np.asarray(times_s, float)[which]
