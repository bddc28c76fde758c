"""Straggler models and recorded traces: the extra seconds a worker sleeps before it answers."""

from abc import abstractmethod
from pathlib import Path
from zipfile import BadZipFile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.errors import ConfigError, require_number
from erasurehead_jax.types import Key, Number

RUN = np.uint32(2**32 - 1)  # folded in instead of a round: what is drawn once a run
INCOMPLETE = 0.1  # share of a trace's rounds that may be left out because a time is missing


class AbstractDelay(eqx.Module):
    """Both backends ask for `sample(key, t, k, load)`, and worker j sleeps entry j in round t: the same key injects
    the same delays everywhere. The key is the run's, so that a model can have workers that stay slow."""

    @abstractmethod
    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        """Seconds in round t for each of k workers that hold this fraction of the data. `t` may be traced."""

    def check(self, workers: int, rounds: int) -> None:
        """Raises ConfigError if the model cannot serve so many workers and rounds."""


class NoDelay(AbstractDelay):
    """The machine's own speed."""

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.zeros(k)


class Exponential(AbstractDelay):
    """I.i.d. exponential sleeps of mean `mean_s` seconds, the same for every load.

    The published code's: it sleeps with *mean* 0.5 s (section 5.1 of the paper says "parameter 1/2").
    """

    mean_s: Number

    def __check_init__(self):
        require_number("delay.mean_s", self.mean_s)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(self.mean_s * _exponential(key, t, k))


class ShiftedExponential(AbstractDelay):
    """load * (shift_s + exponential of mean mean_s): compute time that scales with the load.

    Section 4 of the paper (equations 7 and 8): the whole data takes one node shift_s + Exp(mean_s) seconds, a fraction
    of it takes that fraction of the time. The paper's unit is shift_s = 1, mean_s = 1/lambda.
    """

    shift_s: Number
    mean_s: Number

    def __check_init__(self):
        require_number("delay.shift_s", self.shift_s)
        require_number("delay.mean_s", self.mean_s)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        return jnp.asarray(load * (self.shift_s + self.mean_s * _exponential(key, t, k)))


class SlowWorkers(AbstractDelay):
    """Exponential sleeps of mean `mean_s` seconds, but `slow` workers, drawn once a run, sleep `factor` times as long.

    Recorded clusters look like this: one node in ten or so is ten times slower for hundreds of rounds.
    """

    mean_s: Number
    slow: Number
    factor: Number

    def __check_init__(self):
        require_number("delay.mean_s", self.mean_s)
        require_number("delay.factor", self.factor)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        is_slow = jax.random.permutation(jax.random.fold_in(key, RUN), k) < self.slow
        return jnp.asarray(self.mean_s * jnp.where(is_slow, self.factor, 1) * _exponential(key, t, k))

    def check(self, workers: int, rounds: int) -> None:
        if type(self.slow) is not int or not 0 <= self.slow <= workers:
            raise ConfigError(f"delay.slow={self.slow}: must be a whole number between 0 and workers={workers}")


class Trace(AbstractDelay):
    """Recorded times, replayed whatever the load: arrivals.npz of a run, or any .npz with `times_s` (rounds, workers).

    As they are: round t is the recording's round t, worker j its column j. With `resample`, a run draws its columns
    once (different ones while there are enough) and a recorded round for every round of its own, so that it may be
    longer and wider than the recording; slow columns stay slow, and slow rounds are slow for all. Times are multiplied
    by `scale`: a recording of minutes can be replayed in seconds.

    Rounds with a missing time are left out. Raises ConfigError if that is more than one in ten, or for a file that is
    no recording.
    """

    times_s: Float[np.ndarray, "rounds workers"]
    path: str = eqx.field(static=True)
    resample: bool = eqx.field(static=True)

    def __init__(self, path: str, resample: bool = False, scale: float = 1.0):
        if type(resample) is not bool:
            raise ConfigError(f"delay.resample={resample}: must be true or false")
        require_number("delay.scale", scale, above=0.0)
        self.path, self.resample = path, resample
        self.times_s = np.float32(scale) * _read_times(path)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        times_s = jnp.asarray(self.times_s, float)
        if not self.resample:
            return times_s[t, :k]
        rounds, workers = times_s.shape
        columns_key = jax.random.fold_in(key, RUN)
        if k <= workers:
            columns = jax.random.permutation(columns_key, workers)[:k]
        else:
            columns = jax.random.randint(columns_key, (k,), 0, workers)
        return times_s[jax.random.randint(jax.random.fold_in(key, t), (), 0, rounds), columns]

    def check(self, workers: int, rounds: int) -> None:
        for name, asked, there in zip(("rounds", "workers"), (rounds, workers), self.times_s.shape, strict=True):
            if asked > there and not self.resample:
                raise ConfigError(
                    f"delay.path={self.path}: has {there} {name}, fewer than {name}={asked}; "
                    "ask for fewer, or draw from the recording with delay.resample=true"
                )


def _read_times(path: str) -> Float[np.ndarray, "rounds workers"]:
    named = f"delay.path={path}"
    try:
        with Path(path).expanduser().open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
        if "times_s" not in arrays:  # a run's own: one column a message, and a worker's last counts
            arrival_s, owner, workers = (arrays[name] for name in ("arrival_s", "owner", "workers"))
            arrays["times_s"] = np.stack([arrival_s[:, owner == j].max(1) for j in range(int(workers))], axis=1)
        recorded = np.asarray(arrays["times_s"])
    except KeyError as error:
        raise ConfigError(f"{named}: has no array {error}; needs times_s, or arrival_s, owner and workers") from error
    except (OSError, EOFError, ValueError, TypeError, IndexError, BadZipFile) as error:
        raise ConfigError(f"{named}: cannot be read as a .npz recording ({str(error).splitlines()[0]})") from error
    if recorded.ndim != 2 or not recorded.size or recorded.dtype.kind not in "fiu":
        raise ConfigError(f"{named}: times must be numbers (rounds, workers), not {recorded.dtype} {recorded.shape}")
    if (recorded < 0).any() or (recorded > np.finfo(np.float32).max).any():
        raise ConfigError(f"{named}: times must be finite and not negative")
    incomplete = np.isnan(recorded).any(1)
    if incomplete.mean() > INCOMPLETE:
        raise ConfigError(
            f"{named}: {incomplete.sum()} of {len(recorded)} rounds lack a time (nan: an answer never used); "
            "record a run that waits for everybody (scheme=uncoded)"
        )
    return recorded[~incomplete].astype(np.float32)


def _exponential(key: Key, t: Number, k: int) -> Float[Array, " k"]:
    """Drawn in float32, so that a seed means the same delays in every precision."""
    return jax.random.exponential(jax.random.fold_in(key, t), (k,), jnp.float32).astype(float)
