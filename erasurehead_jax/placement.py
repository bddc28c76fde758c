"""Placement: which worker takes which part of a code. It matters where slow workers stay slow.

A code decodes by message, whoever sends it: with its workers permuted it is the same code.
"""

import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.scheme import Scheme, collect

EXHAUSTIVE = 7  # workers up to which all permutations are tried
MOST_ROUNDS = 32  # recorded rounds that are used, evenly spaced
MOST_SWAPS = 256  # pairs of workers that are tried at once
COSTLY = 4  # times fewer of both for a code whose verdicts take long
STALLS = 3  # times in a row that no swap is better, where only some pairs are tried
BATCH = 1024  # permutations that are evaluated at once
GAIN = 1e-9  # relative; what is less is rounding

Order = Int[np.ndarray, " k"]  # part i of the code is worker order[i]'s
Costs = Callable[[Int[np.ndarray, "orders k"]], Float[np.ndarray, " orders"]]


def placed(scheme: Scheme, order: Order) -> Scheme:
    """The scheme with part i of its code at worker order[i]. Raises ConfigError unless it is a permutation."""
    order, workers = np.asarray(order), scheme.code.workers
    if sorted(order.tolist()) != list(range(workers)):
        raise ConfigError(f"placement={order.tolist()}: must have each worker from 0 to {workers - 1} once")
    return eqx.tree_at(lambda scheme: scheme.code.owner, scheme, order[scheme.code.owner])


def round_s(scheme: Scheme, times_s: Float[np.ndarray, "rounds k"], order: Order) -> float:
    """The mean time of a round (s) with this placement, if each worker's messages arrive at its recorded time."""
    return float(_costs(scheme, times_s)(order[None])[0])


def balanced_order(scheme: Scheme, times_s: Float[np.ndarray, "rounds k"], seed: int = 0) -> Order:
    """The placement with the smallest mean time of a round under recorded times; the given one if none is better.

    Exact for up to 7 workers. Beyond, the best of local searches that exchange two workers as long as this helps, from
    the given placement, from slow workers dealt among fast ones, and from a random one.
    """
    costs, workers = _costs(scheme, times_s), scheme.code.workers
    given, rng = np.arange(workers), np.random.default_rng(seed)
    if workers <= EXHAUSTIVE:
        found = [_best(costs, np.array(list(itertools.permutations(range(workers)))))]
    else:
        swaps = MOST_SWAPS // (COSTLY if scheme.code.costly else 1)
        found = [_search(costs, start, swaps, rng) for start in (given, _dealt(times_s), rng.permutation(workers))]
    best, cost = min(found, key=lambda each: each[1])
    return best if cost < costs(given[None])[0] * (1 - GAIN) else given


def dealt_order(scheme: Scheme, times_s: Float[np.ndarray, "rounds k"]) -> Order:
    """Slow workers dealt among fast ones, if that has a shorter mean round than the given placement, else that one.

    For so many workers that a search takes too long.
    """
    given, dealt = np.arange(scheme.code.workers), _dealt(times_s)
    given_s, dealt_s = _costs(scheme, times_s)(np.stack([given, dealt]))
    return dealt if dealt_s < given_s * (1 - GAIN) else given


def _search(costs: Costs, order: Order, swaps: int, rng: np.random.Generator) -> tuple[Order, float]:
    pairs = np.array(list(itertools.combinations(range(len(order)), 2)))
    cost, stalls = float(costs(order[None])[0]), 0
    while stalls < (1 if len(pairs) <= swaps else STALLS):
        tried = rng.permutation(pairs)[:swaps]
        swapped = np.repeat(order[None], len(tried), axis=0)
        np.put_along_axis(swapped, tried, order[tried[:, ::-1]], axis=1)
        better, found = _best(costs, swapped)
        if found < cost * (1 - GAIN):
            order, cost, stalls = better, found, 0
        else:
            stalls += 1
    return order, cost


def _dealt(times_s: Float[np.ndarray, "rounds k"]) -> Order:
    """The fastest worker, the slowest, the second fastest and so on."""
    ranked = np.median(times_s, axis=0).argsort(kind="stable")
    half = (len(ranked) + 1) // 2
    order = np.empty_like(ranked)
    order[::2], order[1::2] = ranked[:half], ranked[half:][::-1]
    return order


def _best(costs: Costs, orders: Int[np.ndarray, "orders k"]) -> tuple[Order, float]:
    found = costs(orders)
    best = int(np.argmin(found))
    return orders[best], float(found[best])


def _costs(scheme: Scheme, times_s: Float[np.ndarray, "rounds k"]) -> Costs:
    """A function from placements to their mean times of a round (s)."""
    slow = scheme.code.costly and scheme.code.workers > EXHAUSTIVE
    rounds = min(len(times_s), MOST_ROUNDS // (COSTLY if slow else 1))
    which = np.linspace(0, len(times_s) - 1, rounds).round().astype(int)
    some_s, owner = np.asarray(times_s, float)[which], scheme.code.owner
    elapsed_s = lambda times_s, order: collect(scheme, times_s[order][owner])[1]

    @jax.jit
    def means(orders: Int[Array, "orders k"]) -> Float[Array, " orders"]:
        return jax.vmap(lambda order: jax.vmap(elapsed_s, (0, None))(some_s, order).mean())(orders)

    def costs(orders: Int[np.ndarray, "orders k"]) -> Float[np.ndarray, " orders"]:
        size = min(BATCH, len(orders))  # of all batches, so that one compilation suffices
        batches = [np.resize(orders[i : i + size], (size, orders.shape[1])) for i in range(0, len(orders), size)]
        with jax.enable_x64(True):
            return np.concatenate([np.asarray(means(batch)) for batch in batches])[: len(orders)]

    return costs
