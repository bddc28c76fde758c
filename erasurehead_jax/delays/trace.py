"""Recorded times, replayed."""

from pathlib import Path
from zipfile import BadZipFile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import RUN, AbstractDelay
from erasurehead_jax.errors import ConfigError, require_number
from erasurehead_jax.types import Key, Number

INCOMPLETE = 0.1  # share of a trace's rounds that may be left out because a time is missing


class Trace(AbstractDelay):
    """Recorded times, replayed whatever the load: arrivals.npz of a run, or any .npz with `times_s`
    (rounds, workers), or a .npy of it.

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
            columns = jax.random.randint(columns_key, (k,), 0, workers, np.int32)
        return times_s[jax.random.randint(jax.random.fold_in(key, t), (), 0, rounds, np.int32), columns]

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
        with Path(path).expanduser().open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            arrays = {"times_s": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        if "times_s" not in arrays:  # a run's own: one column a message, and a worker's last counts
            arrival_s, owner, workers = (arrays[name] for name in ("arrival_s", "owner", "workers"))
            arrays["times_s"] = np.stack([arrival_s[:, owner == j].max(1) for j in range(int(workers))], axis=1)
        recorded = np.asarray(arrays["times_s"])
    except KeyError as error:
        raise ConfigError(f"{named}: has no array {error}; needs times_s, or arrival_s, owner and workers") from error
    except (OSError, EOFError, ValueError, TypeError, IndexError, BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # numpy takes any unknown bytes for one, and says how to load it unsafely
            reason = "it holds no arrays of numbers; save them as np.savez(FILE, times_s=np.array(times, float)) does"
        raise ConfigError(f"{named}: cannot be read as a recording ({reason})") from error
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
