"""The recorded rounds that advice rests on: without gaps, and for as many workers as asked."""

import numpy as np
from jaxtyping import Float

from erasurehead_jax.delays.recording import INCOMPLETE, Recording
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.stragglers.summary import ABSENT

MOST_ROUNDS = 300  # recorded rounds that are used, evenly spaced


def complete_times(recording: Recording) -> Float[np.ndarray, "rounds workers"]:
    """The recorded times (s) without gaps; inf where a worker never answers again.

    Raises ConfigError if a worker has no time at all, and for a run that did not wait for all.
    """
    times_s, missing = recording.times_s, np.isnan(recording.times_s)
    if (never := missing.all(0)).any():
        raise ConfigError(
            f"{recording.path}: worker {recording.workers[int(never.argmax())]} has no time; leave it out"
        )
    if not (times_s > 0).any():
        raise ConfigError(f"{recording.path}: all times are 0; there are no stragglers")
    if recording.unused and (share := float(missing.any(1).mean())) > INCOMPLETE:
        raise ConfigError(
            f"{recording.path}: {share:.0%} of the rounds have answers that were not used, so that late ones are "
            "unknown; record a run that waits for all workers (scheme=uncoded)"
        )
    filled, rounds = np.array(times_s), np.arange(len(times_s))
    for j in np.flatnonzero(missing.any(0)):
        known = rounds[~missing[:, j]]
        nearest = known[np.abs(known - rounds[missing[:, j], None]).argmin(1)]
        filled[missing[:, j], j] = times_s[nearest, j]
        if len(times_s) - 1 - known[-1] >= ABSENT:
            filled[known[-1] + 1 :, j] = np.inf
    return filled


def used_rounds(recording: Recording) -> Float[np.ndarray, "rounds workers"]:
    """Evenly spaced rounds, without gaps."""
    times_s = complete_times(recording)
    which = np.unique(np.linspace(0, len(times_s) - 1, MOST_ROUNDS).round().astype(int))
    return times_s[which]


def more_workers(
    times_s: Float[np.ndarray, "rounds workers"], k: int, rng: np.random.Generator
) -> Float[np.ndarray, "rounds k"]:
    """Each recorded worker about equally often; a further copy of it has the same times in other rounds."""
    rounds, recorded = times_s.shape
    copies = [times_s[:, rng.permutation(recorded)]]
    for _ in range(-(-k // recorded) - 1):
        copies.append(np.roll(times_s, int(rng.integers(rounds)), axis=0)[:, rng.permutation(recorded)])
    return np.concatenate(copies, axis=1)[:, :k]
