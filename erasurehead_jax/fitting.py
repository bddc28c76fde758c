"""Trains what is in memory, on either backend, for estimators: no run directory is left."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float

from erasurehead_jax.codes.base import ROUNDING
from erasurehead_jax.data import Dataset
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.sampling import make_sampling
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.settings.policies import Late, Snapshot
from erasurehead_jax.simulation.engine import Simulation
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.training import train

HISTORY = ["round", "clock_s", "waited", "exact", "decode_error"]


class Fit(NamedTuple):
    """What is trained. The optimizer applies the penalty, if there is one."""

    dataset: Dataset
    objective: AbstractObjective
    scheme: Scheme
    delay: AbstractDelay
    optimizer: Any  # makes an optax transformation
    rounds: int
    batch: float | int | None
    seed: int


def simulated(fit: Fit) -> tuple[Float[np.ndarray, " d"], pd.DataFrame]:
    """Trains all rounds in one scan, and writes nothing. Fits to other data of the same shape compile nothing."""
    code = fit.scheme.code
    fit.delay.check(code.workers, fit.rounds)
    sampling = make_sampling(fit.batch, False, 1, Snapshot.SCHEME, len(fit.dataset.train), code.blocks)
    with jax.enable_x64(True):
        array = lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
        optimizer = jax.tree.map(array, fit.optimizer)  # JAX arrays are traced
        point = Point(fit.scheme, fit.delay, Late.CANCEL, optimizer=optimizer, sampling=sampling)
        simulation = Simulation(fit.dataset, fit.objective, [point])
        runs, played, _ = simulation.advance(*simulation.begin([0], [fit.seed]), fit.rounds)
        x = np.asarray(runs.x)[:, 0]
    got, wall_s, decode_error = (each[:, 0] for each in (played.got, played.wall_s, played.decode_error))
    waited = [int(code.heard(each).sum()) for each in got]
    columns = np.arange(fit.rounds), wall_s.cumsum(), waited, decode_error < ROUNDING, decode_error
    return x, pd.DataFrame(dict(zip(HISTORY, columns, strict=True)))


def on_ranks(fit: Fit) -> tuple[Float[np.ndarray, " d"], pd.DataFrame]:
    """Trains on MPI ranks; the run directory is removed."""
    with tempfile.TemporaryDirectory() as folder:
        once: dict[str, Any] = {"evaluate_every": fit.rounds}  # nobody looks at the metrics
        run = train(**fit._asdict(), backend="mpi", run_dir=Path(folder) / "run", l2=0.0, x64=True, **once)
        return run.x, pd.DataFrame(run.history, columns=HISTORY).astype({"exact": bool})
