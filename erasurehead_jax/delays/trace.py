"""Replay of recorded times."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasurehead_jax.delays.base import RUN, AbstractDelay
from erasurehead_jax.delays.recording import read_times
from erasurehead_jax.errors import ConfigError, require_choice, require_number
from erasurehead_jax.types import Key, Number


class Trace(AbstractDelay):
    """Replays recorded times, whatever the load.

    The recording is the arrivals.npz of a run, an .npz file with an array `times_s` (rounds, workers), that array as a
    .npy file, or a CSV table: a row for each worker and round, or a column for each worker; from Python, also the array
    itself. By default round t is the recording's round t, and worker j its column j. With `resample`, a run draws its
    columns once, each as often as any other, and a recorded round for each of its rounds, so that it may have more
    rounds and workers than the recording; slow columns stay slow, and slow rounds are slow for all workers, except that
    further copies of columns take their times from other rounds. With `resample="rounds"`, rounds are drawn and worker
    j stays column j. Times are multiplied by `scale`, so that a recording of minutes can be replayed in seconds.

    Rounds with a missing time are dropped. With `missing="dead"` a worker without any more times is lost from then on:
    its time is infinite. Raises ConfigError if more than one round in ten is dropped, or if the file is no recording.
    """

    times_s: Float[np.ndarray, "rounds workers"]
    path: str = eqx.field(static=True)
    resample: bool | str = eqx.field(static=True)

    def __init__(
        self,
        path: str | Float[np.ndarray, "rounds workers"],
        resample: bool | str = False,
        scale: float = 1.0,
        missing: str = "drop",
    ):
        if type(resample) is not bool and resample != "rounds":
            raise ConfigError(f"delay.resample={resample}: must be true, false or rounds")
        require_number("delay.scale", scale, above=0.0)
        require_choice("delay.missing", missing, ("drop", "dead"))
        if missing == "dead" and resample:
            raise ConfigError("delay.missing=dead: needs the order of rounds; set delay.resample=false")
        self.path, self.resample = path if isinstance(path, str) else "(an array)", resample
        times_s = (
            read_times(path, "delay.path", missing == "dead") if isinstance(path, str) else np.asarray(path, np.float32)
        )
        self.times_s = np.asarray(scale * times_s, np.float32)

    def sample(self, key: Key, t: Number, k: int, load: Number) -> Float[Array, " k"]:
        times_s = jnp.asarray(self.times_s, float)
        if not self.resample:
            return times_s[t, :k]
        rounds, workers = times_s.shape
        row = jax.random.randint(jax.random.fold_in(key, t), (), 0, rounds, np.int32)
        if self.resample == "rounds":
            return times_s[row, :k]
        copies = -(-k // workers)
        columns_key, rows_key = jax.random.split(jax.random.fold_in(key, RUN))
        keys = jax.random.split(columns_key, copies)
        columns = jax.vmap(lambda key: jax.random.permutation(key, workers))(keys).ravel()[:k]
        later = jax.random.randint(rows_key, (copies,), 0, rounds, np.int32).at[0].set(0)
        return times_s[(row + later[np.arange(k) // workers]) % rounds, columns]

    def check(self, workers: int, rounds: int) -> None:
        for name, needed, recorded in zip(("rounds", "workers"), (rounds, workers), self.times_s.shape, strict=True):
            if needed > recorded and self.resample is not True and (name, self.resample) != ("rounds", "rounds"):
                raise ConfigError(
                    f"delay.path={self.path}: has {recorded} {name}, fewer than {name}={needed}; "
                    f"reduce {name}, or sample from the recording with delay.resample=true"
                )
