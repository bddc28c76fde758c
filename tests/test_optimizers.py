"""The updates against plain NumPy loops written from their definitions."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
import yaml

from erasurehead_jax import ConfigError
from erasurehead_jax.job import make_optimizer
from erasurehead_jax.optimizers import agd, gd, nesterov
from erasurehead_jax.settings import CONFIG_DIR
from erasurehead_jax.update import State, apply_gradient, iterate, start

ROUNDS, ROWS, DIM, L2 = 30, 50, 8, 0.03
RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((DIM, DIM)) / math.sqrt(DIM)
CENTRE, START = RNG.standard_normal((2, DIM))

Slope = Callable[[np.ndarray], np.ndarray]
OPTIMIZERS = {"gd": gd(0.1), "agd": agd(0.1), "nesterov": nesterov(0.1, 0.99), "adam": optax.adam(0.1)}


def decoded_sum(x: np.ndarray) -> np.ndarray:
    """ROWS times the gradient of |ROOT (x - CENTRE)|^2 / 2: a sum over rows, as decoded by the master."""
    return ROWS * ROOT.T @ (ROOT @ (x - CENTRE))


def regularised(x: np.ndarray) -> np.ndarray:
    """The gradient of the mean loss + L2 |x|^2."""
    return decoded_sum(x) / ROWS + 2 * L2 * x


def gd_loop(slope: Slope, x: np.ndarray, steps: list[float]) -> list[np.ndarray]:
    iterates = []
    for step in steps:
        x = x - step * slope(x)
        iterates.append(x)
    return iterates


def agd_loop(slope: Slope, x: np.ndarray, steps: list[float]) -> list[np.ndarray]:
    """Heavy ball with momentum (t - 1)/(t + 2); iteration 0 discards the starting point."""
    iterates = [-steps[0] * slope(x)]
    for t in range(1, len(steps)):
        before, x = x, iterates[-1]
        iterates.append(x + (t - 1) / (t + 2) * (x - before) - steps[t] * slope(x))
    return iterates


def nesterov_loop(slope: Slope, x: np.ndarray, steps: list[float]) -> list[np.ndarray]:
    iterates, y = [], x
    for t, step in enumerate(steps):
        before, x = x, y - step * slope(y)
        y = x + t / (t + 3) * (x - before)
        iterates.append(x)
    return iterates


def run(optimizer: optax.GradientTransformation, rounds: int = ROUNDS) -> list[State]:
    """The state after each round."""
    step = jax.jit(lambda state, decoded: apply_gradient(optimizer, L2, ROWS, state, decoded)[0])
    states = [start(optimizer, START)]
    for _ in range(rounds):
        states.append(step(states[-1], decoded_sum(np.asarray(states[-1].x))))
    return states[1:]


@pytest.mark.parametrize("decay", [1.0, 0.9])
@pytest.mark.parametrize(("rule", "loop"), [(gd, gd_loop), (agd, agd_loop), (nesterov, nesterov_loop)])
def test_iterates_are_those_of_the_definition(rule, loop, decay: float):
    steps = [0.3 * decay**t for t in range(ROUNDS)]
    iterates = [iterate(state) for state in run(rule(0.3, decay))]
    np.testing.assert_allclose(iterates, loop(regularised, START, steps), rtol=0, atol=1e-12)


def test_agd_discards_the_starting_point():
    np.testing.assert_allclose(run(agd(0.3), 1)[0].x, -0.3 * regularised(START), atol=1e-15)


def test_nesterov_takes_its_gradient_ahead_of_its_iterate():
    first, second, third = run(nesterov(0.3), 3)
    np.testing.assert_array_equal(first.x, iterate(first))  # no momentum yet
    np.testing.assert_allclose(third.x, iterate(third) + 2 / 5 * (iterate(third) - iterate(second)), atol=1e-14)
    assert not np.allclose(third.x, iterate(third))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_starting_point_is_the_first_iterate(optimizer: optax.GradientTransformation):
    np.testing.assert_array_equal(iterate(start(optimizer, START)), START)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_approaches_the_minimum(optimizer: optax.GradientTransformation):
    last = np.asarray(iterate(run(optimizer)[-1]))
    assert np.linalg.norm(regularised(last)) < 0.5 * np.linalg.norm(regularised(START))


def test_any_optax_transformation_works():
    optimizer = optax.adam(0.1)
    x, state = START, optimizer.init(START)
    for _ in range(ROUNDS):
        updates, state = optimizer.update(regularised(x), state, x)
        x = np.asarray(optax.apply_updates(x, updates))
    np.testing.assert_allclose(iterate(run(optimizer)[-1]), x, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_norm_is_of_the_regularised_gradient(optimizer: optax.GradientTransformation):
    _, norm = apply_gradient(optimizer, L2, ROWS, start(optimizer, START), decoded_sum(START))
    np.testing.assert_allclose(norm, np.linalg.norm(regularised(START)), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_nothing_recompiles_and_no_precision_changes(optimizer: optax.GradientTransformation, dtype: type):
    traces = []

    @jax.jit
    def step(state: State, decoded: jax.Array) -> State:
        traces.append(1)
        return apply_gradient(optimizer, L2, ROWS, state, decoded)[0]

    state = start(optimizer, START.astype(dtype))
    for _ in range(3):
        state = step(state, np.ones(DIM, dtype))
    assert len(traces) == 1
    assert iterate(state).dtype == dtype


@pytest.mark.parametrize("rule", [gd, agd, nesterov])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_step_sizes_must_be_positive(rule, bad: float):
    with pytest.raises(ConfigError, match=rf"^optimizer\.step_size={bad}: must be a finite number, above 0"):
        rule(bad)


@pytest.mark.parametrize("rule", [gd, agd, nesterov])
@pytest.mark.parametrize("bad", [0.0, -0.5, 1.01, math.nan])
def test_decay_must_not_grow_the_steps(rule, bad: float):
    with pytest.raises(ConfigError, match=rf"^optimizer\.decay={bad}: must be a finite number, above 0 and at most 1"):
        rule(1.0, bad)


@pytest.mark.parametrize("path", sorted(Path(CONFIG_DIR, "optimizer").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_of_configs_makes_an_optimizer(path: Path):
    settings = yaml.safe_load(path.read_text())
    states = run(make_optimizer({"optimizer": settings})())
    assert np.isfinite(iterate(states[-1])).all() and not np.array_equal(iterate(states[-1]), START)
    if path.stem == "adam":
        np.testing.assert_array_equal(iterate(states[-1]), iterate(run(optax.adam(settings["learning_rate"]))[-1]))
