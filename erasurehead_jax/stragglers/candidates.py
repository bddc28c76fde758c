"""The schemes that make sense for recorded workers, and what their rounds would have been."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.errors import ConfigError
from erasurehead_jax.placement import balanced_order, dealt_order
from erasurehead_jax.scheme import Scheme, collect
from erasurehead_jax.schemes import named_scheme
from erasurehead_jax.stopping import AnyOf, Count
from erasurehead_jax.types import Seconds

LOADS = (2, 3, 4, 5, 6, 8, 10)
WAITED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # shares of the workers
ANY_LATE = (3, 5, 7)  # loads of the code that does without any load - 1 workers
WORTH, SURE = 0.01, 3  # by how much a placement must shorten the rounds of exact coding: relative, and in errors
STRETCH = 10  # rounds that count as neighbours, if there are enough
SEARCHED = 200  # workers up to which placements are searched for; beyond, slow workers are dealt among fast ones

Times = Float[np.ndarray, "rounds k"]


class Candidate(NamedTuple):
    """A scheme for these workers, and its rounds: when they end, and each block's share of the gradient."""

    scheme: str  # a file of configs/scheme
    load: int
    wait_for: int  # the number of workers if it waits for decodability alone
    placement: Int[np.ndarray, " k"] | None  # None: given
    exact: bool
    round_s: Float[np.ndarray, " rounds"]
    shares: Float[np.ndarray, "rounds n"]  # at most 1 of a block

    @property
    def name(self) -> str:
        """Short, unique among candidates."""
        load = f" c={self.load}" if self.load > 1 else ""
        waits = "" if self.exact else f" r={self.wait_for}"
        return f"{self.scheme}{load}{waits}{'' if self.placement is None else ', balanced'}"

    @property
    def settings(self) -> list[str]:
        """Its overrides of `train`, except the placement."""
        said = [f"scheme={self.scheme}", f"workers={self.shares.shape[1]}"]
        said += [f"load={self.load}"] if self.load > 1 else []
        return said if self.exact else [*said, f"wait_for={self.wait_for}"]


def candidates(times_s: Times, compute_s: float, recorded_load: float, place: bool) -> list[Candidate]:
    """Uncoded, ignoring stragglers, exact coding and ErasureHead with sensible loads, r and, if `place`, placements.

    A worker's time is its recorded one and, for what it holds beyond `recorded_load` of the data, its share of
    `compute_s`; if it holds less, it is shorter. Rounds with a placement are those of one that was found on other
    rounds, so that chance does not count.
    """
    workers = times_s.shape[1]
    waits = sorted({max(1, round(share * workers)) for share in WAITED} | {workers - 1} - {0})
    waits = [r for r in waits if r < workers]
    slower_s = lambda load: np.maximum(times_s + compute_s * (load / workers - recorded_load), 0.0)
    found = [*_play("uncoded", 1, slower_s(1), [workers])]
    found += _play("ignore_stragglers", 1, slower_s(1), waits)
    for load in (load for load in LOADS if workers % load == 0 and load < workers):
        own_s = slower_s(load)
        found += (given := _play("erasurehead", load, own_s, [*waits, workers]))
        order, placed_s = _placed(named_scheme("egc", workers, load), own_s) if place else (None, own_s)
        if order is not None:
            balanced = _play("erasurehead", load, placed_s, [*waits, workers], order)
            found += balanced if _better(balanced[-1].round_s, given[-1].round_s) else []
    for load in (load for load in ANY_LATE if load < workers):
        try:
            found += _play("cyclic_mds", load, slower_s(load), [workers])
        except ConfigError:  # this code has no such size
            continue
    return found


def _better(balanced_s: Float[np.ndarray, " rounds"], given_s: Float[np.ndarray, " rounds"]) -> bool:
    """Whether rounds are shorter by more than what is worth a word, and by more than chance."""
    if not np.isfinite([balanced_s.mean(), given_s.mean()]).all():
        return bool(balanced_s.mean() < given_s.mean())
    gain_s = given_s - balanced_s
    error_s = float(gain_s.std()) / np.sqrt(len(gain_s))
    return bool(gain_s.mean() > max(WORTH * given_s.mean(), SURE * error_s))


def _stretches(rounds: int) -> Int[np.ndarray, " rounds"]:
    """The number of the stretch that each round is in: rounds close to each other are alike."""
    return np.arange(rounds) // min(STRETCH, max(1, rounds // STRETCH))


def _placed(scheme: Scheme, times_s: Times) -> tuple[Int[np.ndarray, " k"] | None, Times]:
    """The best placement, None if it is the given one, and each round's times with a placement that it had no part in.

    Two placements are found, on every other stretch of rounds each, and applied to the others.
    """
    search = balanced_order if times_s.shape[1] <= SEARCHED else dealt_order
    order, even = search(scheme, times_s), _stretches(len(times_s)) % 2 == 0
    if np.array_equal(order, np.arange(len(order))):
        return None, times_s
    placed_s = np.empty_like(times_s)
    for own in (even, ~even):
        placed_s[own] = times_s[own][:, search(scheme, times_s[~own])]
    return order, placed_s


def _play(
    name: str, load: int, placed_s: Times, waits: Sequence[int], order: Int[np.ndarray, " k"] | None = None
) -> list[Candidate]:
    """The candidates of one code that differ in r; for r = workers ErasureHead is exact coding.

    Column i of `placed_s` has the times of the worker that takes part i of the code.
    """
    workers = placed_s.shape[1]
    scheme = named_scheme(name, workers, load, 1 if _waits(name) else None)
    with jax.enable_x64(True):
        round_s, shares = _rounds(scheme, placed_s[:, scheme.code.owner], waits)
    made = []
    for r, took_s, held in zip(waits, np.asarray(round_s), np.asarray(shares), strict=True):
        exact = r == workers
        called = "egc" if name == "erasurehead" and exact else name
        made.append(Candidate(called, load, r, order, exact, took_s, np.ones_like(held) if exact else held))
    return made


def _waits(name: str) -> bool:
    return name in ("erasurehead", "ignore_stragglers")


def _rounds(scheme: Scheme, arrival_s: Float[np.ndarray, "rounds M"], waits: Sequence[int]) -> Any:
    """When each round ends for each r, and the blocks' shares of the gradient."""

    def one(r: Any, arrival_s: Seconds):
        own = eqx.tree_at(_counts, scheme, [r]) if _counts(scheme) else scheme
        got, elapsed_s = collect(own, arrival_s)
        shares = jnp.ones(scheme.code.blocks) if not _counts(scheme) else scheme.code.shares(own.decode(own.code, got))
        return elapsed_s, jnp.minimum(shares, 1.0)

    play = jax.jit(lambda waits, arrival_s: jax.lax.map(lambda r: jax.vmap(one, (None, 0))(r, arrival_s), waits))
    return play(np.array(waits), arrival_s)


def _counts(scheme: Scheme) -> list[Any]:
    rules = scheme.stop.rules if isinstance(scheme.stop, AnyOf) else (scheme.stop,)
    return [rule.wait_for for rule in rules if isinstance(rule, Count)]
