"""Replay of recorded times."""

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

INCOMPLETE = 0.1  # the largest fraction of a trace's rounds that may be dropped because a time is missing


class Trace(AbstractDelay):
    """Replays recorded times, whatever the load.

    The recording is the arrivals.npz of a run, an .npz file with an array `times_s` (rounds, workers), or that array as
    a .npy file. By default round t is the recording's round t, and worker j its column j. With `resample`, a run draws
    its columns once (without replacement if there are enough) and a recorded round for each of its rounds, so that it
    may have more rounds and workers than the recording; slow columns stay slow, and slow rounds are slow for all
    workers. Times are multiplied by `scale`, so that a recording of minutes can be replayed in seconds.

    Rounds with a missing time are dropped. Raises ConfigError if these are more than one in ten, or if the file is not
    a recording.
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
        for name, needed, recorded in zip(("rounds", "workers"), (rounds, workers), self.times_s.shape, strict=True):
            if needed > recorded and not self.resample:
                raise ConfigError(
                    f"delay.path={self.path}: has {recorded} {name}, fewer than {name}={needed}; "
                    f"reduce {name}, or sample from the recording with delay.resample=true"
                )


def _read_times(path: str) -> Float[np.ndarray, "rounds workers"]:
    setting = f"delay.path={path}"
    try:
        with Path(path).expanduser().open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            arrays = {"times_s": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        if "times_s" not in arrays:  # arrivals.npz of a run: one column per message; a worker's last message counts
            arrival_s, owner, workers = (arrays[name] for name in ("arrival_s", "owner", "workers"))
            arrays["times_s"] = np.stack([arrival_s[:, owner == j].max(1) for j in range(int(workers))], axis=1)
        recorded = np.asarray(arrays["times_s"])
    except KeyError as error:
        raise ConfigError(
            f"{setting}: has no array {error}; must have times_s, or arrival_s, owner and workers"
        ) from error
    except (OSError, EOFError, ValueError, TypeError, IndexError, BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:  # NumPy takes unknown bytes for a pickle and suggests loading it unsafely
            reason = "it contains no numeric arrays; write it with np.savez(FILE, times_s=np.array(times, float))"
        raise ConfigError(f"{setting}: cannot be read as a recording ({reason})") from error
    if recorded.ndim != 2 or not recorded.size or recorded.dtype.kind not in "fiu":
        raise ConfigError(f"{setting}: times must be numbers (rounds, workers), not {recorded.dtype} {recorded.shape}")
    if (recorded < 0).any() or (recorded > np.finfo(np.float32).max).any():
        raise ConfigError(f"{setting}: times must be finite and not negative")
    incomplete = np.isnan(recorded).any(1)
    if incomplete.mean() > INCOMPLETE:
        raise ConfigError(
            f"{setting}: {incomplete.sum()} of {len(recorded)} rounds have missing times (nan: the answer was not "
            "used); record a run that waits for all workers (scheme=uncoded)"
        )
    return recorded[~incomplete].astype(np.float32)
