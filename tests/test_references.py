"""Every objective on both backends, round by round, against NumPy and SciPy."""

from pathlib import Path

import numpy as np
import pytest
from harness import SMALL, train
from reference import TASKS, gradient_descent, perceptron_descent
from user_code import drawn

from erasurehead_jax import MLP, Model
from erasurehead_jax.data import as_classes, as_signs
from erasurehead_jax.seeds import run_keys

KINDS = {"squared_hinge": "signs", "huber": "numbers", "poisson": "counts", "softmax": "classes", "mlp": "classes"}
PREPARED = {"signs": as_signs, "classes": as_classes}
ROUNDS = 8


def reference(objective: str) -> np.ndarray:
    kind = KINDS[objective]
    data = PREPARED.get(kind, lambda data: data)(drawn(kind))
    if objective in TASKS:
        return gradient_descent(data, objective, ROUNDS, 0.2)
    model = Model(MLP([6])).bind(data)
    layers = model.params(np.asarray(model.init(run_keys(0)[0], data)))
    start = [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in layers]
    assert [weight.shape for weight, _ in start] == [(data.dim, 6), (6, 4)]
    return perceptron_descent(data, start, ROUNDS, 0.2)


@pytest.mark.mpi
@pytest.mark.parametrize("objective", KINDS)
def test_an_exact_code_is_gradient_descent_on_both_backends(objective: str, tmp_path: Path):
    data = ("~data", f"+data={{_target_:user_code.drawn,kind:{KINDS[objective]}}}", f"+objective={objective}")
    small = [each for each in SMALL if not each.startswith("data.")]
    more = ["objective.model.hidden=[6]"] if objective == "mlp" else []
    expected = reference(objective)
    for backend, rtol in (("mpi", 1e-10), ("simulate", 1e-12)):
        (tmp_path / backend).mkdir()
        settings = ("scheme=egc", "x64=true", "optimizer.step_size=0.2", "cluster.chunk_rows=64", f"backend={backend}")
        run = train(tmp_path / backend, *small, *data, *more, *settings)
        assert run.status == 0, run.err
        np.testing.assert_allclose(run.history["train_loss"], expected, rtol=rtol)
        assert expected[-1] < expected[0]
        metric = list(run.history)[-1]
        assert np.isfinite(run.history[metric]).all()
        assert run.summary["more_is_better"] == (metric in ("test_auc", "test_accuracy"))
