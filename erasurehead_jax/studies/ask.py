"""What-ifs from Python."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import jax

from erasurehead_jax.data import Dataset, require_sound
from erasurehead_jax.delays import AbstractDelay
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.job import suited
from erasurehead_jax.objectives import AbstractObjective
from erasurehead_jax.optimizers import gd
from erasurehead_jax.rundir.metrics import why_no_metric
from erasurehead_jax.sampling import make_sampling
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.schemes import name_of
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.study import Study, Timed, Trained, progress_bar


def whatif(
    schemes: Mapping[str, Scheme] | Sequence[Scheme],
    delay: AbstractDelay | Mapping[str, AbstractDelay],
    dataset: Dataset | None = None,
    objective: AbstractObjective | None = None,
    *,
    optimizer: Any = functools.partial(gd, step_size=1.0),  # noqa: B008
    rounds: int = 100,
    seeds: int = 64,
    seed: int = 0,
    targets: Sequence[float] | None = None,
    evaluate_every: int = 5,
    late: str = "cancel",
    l2: float | None = None,
    batch: float | int | None = None,
    compute_s: float = 0.0,
    overhead_s: float = 0.0,
    x64: bool = False,
) -> Timed | Trained:
    """Simulates schemes under the same delays, with `seeds` seeds from `seed` on.

    With a data set and an objective they are trained, and the result says how long each takes to the `targets` (values
    of the test metric, by default what uncoded has half-way) and which is best; otherwise only rounds are timed.
    Several delay models are compared side by side. The other settings are those of the command `whatif`.

    Raises ConfigError for what does not fit.
    """
    delays = delay if isinstance(delay, Mapping) else {"": delay}
    named = schemes.items() if isinstance(schemes, Mapping) else [(name_of(scheme), scheme) for scheme in schemes]
    make: Any = optimizer if callable(optimizer) else lambda: optimizer
    if (dataset is None) != (objective is None):
        raise ConfigError("dataset, objective: give both, to train, or neither, to time rounds")
    with jax.enable_x64(x64), ExitStack() as stack:
        if dataset is not None and objective is not None:
            require_sound(dataset)
            objective, dataset = suited(objective, dataset, data_checked=False)
            if problem := why_no_metric(objective, dataset):
                raise ConfigError(f"{problem}, and without it no time to a target can be measured")
        rows = None if dataset is None else len(dataset.train)
        regularizer = 1 / (rows or 1) if l2 is None else l2
        points = []
        for name, scheme in named:
            sampling = make_sampling(batch, False, 1, "scheme", rows, scheme.code.blocks)
            for where, model in delays.items():
                model.check(scheme.code.workers, rounds)
                point = Point(scheme, model, late, compute_s, overhead_s, make, regularizer, sampling)
                points.append(GridPoint(_labels(name, scheme, late) | ({"delay": where} if where else {}), point))
        own = list(range(seed, seed + seeds))
        aims = None if targets is None else [float(target) for target in targets]
        study = Study(points, own, rounds, evaluate_every, None, aims, dataset, objective, [])
        advance: Callable[[float], object] = stack.enter_context(progress_bar(len(points) * seeds))
        return study.run(advance)


def _labels(name: str, scheme: Scheme, late: str) -> dict[str, Any]:
    code = scheme.code
    return {"scheme": name, "load": code.load, "wait_for": scheme.stop.at_most(code.workers), "late": late}
