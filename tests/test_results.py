"""A finished run at work: predictions from Python and from the command, on columns like those of the training data."""

import io
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from harness import execute
from sklearn.metrics import roc_auc_score

import erasurehead_jax as eh
from erasurehead_jax.data import array_dataset, synthetic, table_dataset
from erasurehead_jax.training import train

RNG = np.random.default_rng(0)
ROWS = 400
AGE, TOWN = RNG.normal(40, 12, ROWS), RNG.choice(["Ely", "Bath", "Wells"], ROWS)
SCORE = (AGE - 40) / 12 + (TOWN == "Bath") + RNG.normal(0, 0.5, ROWS)
FRAME = pd.DataFrame({"age": np.where(RNG.random(ROWS) < 0.05, np.nan, AGE), "town": TOWN})
KINDS = {
    "logistic": (eh.Logistic(), np.where(SCORE > 0.3, "yes", "no")),
    "softmax": (eh.Softmax(), np.array(["low", "middle", "top"])[np.digitize(SCORE, [-0.5, 1])]),
    "least squares": (eh.LeastSquares(), SCORE),
    "Poisson": (eh.Poisson(), RNG.poisson(np.exp(0.3 * SCORE))),
    "network": (eh.Model(model=eh.MLP(hidden=[4])), np.where(SCORE > 0.3, "yes", "no")),
}
SCHEME = eh.egc(workers=4, load=2)


def trained(folder: Path, objective: eh.AbstractObjective, dataset: eh.Dataset, **more: Any) -> eh.Run:
    return train(dataset, objective, SCHEME, run_dir=folder / "run", rounds=30, optimizer=eh.nesterov(0.2), **more)


@pytest.mark.parametrize(("objective", "target"), KINDS.values(), ids=KINDS)
@pytest.mark.slow
def test_a_loaded_run_predicts_as_the_run_itself(objective: eh.AbstractObjective, target: np.ndarray, tmp_path: Path):
    data = table_dataset(FRAME.assign(target=target), "target", test=FRAME.assign(target=target))
    run = trained(tmp_path, objective, data)
    loaded = eh.load(run.folder)
    predicted = run.predict(FRAME)
    np.testing.assert_array_equal(loaded.predict(FRAME.iloc[::-1])[::-1], predicted)
    if data.train.target.dtype.kind in "US":
        assert set(predicted) <= set(target) and run.classes == tuple(sorted(set(target)))
        found = loaded.predict_proba(FRAME)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(np.array(run.classes)[found.argmax(1)], predicted)
        assert np.mean(predicted == target) == pytest.approx(_accuracy(run, target), abs=1e-9)
    else:
        assert run.classes is None and np.corrcoef(predicted, target)[0, 1] > 0.2
        with pytest.raises(eh.ConfigError, match="gives no probabilities; use predict"):
            run.predict_proba(FRAME)


def _accuracy(run: eh.Run, target: np.ndarray) -> float:
    """The accuracy that the run has recorded, or the one that agrees with its AUC."""
    final = run.summary["final"]
    if "test_accuracy" in final:
        return final["test_accuracy"]
    assert roc_auc_score(target == "yes", run.predict_proba(FRAME)[:, 1]) == pytest.approx(final["test_auc"])
    return float(np.mean(run.predict(FRAME) == target))


def test_parameters_as_their_user_knows_them(tmp_path: Path):
    objective, target = KINDS["network"]
    run = trained(tmp_path, objective, table_dataset(FRAME.assign(target=target), "target"))
    first, last = eh.load(run.folder).params
    assert first.weight.shape == (6, 4) and last.bias.shape == (2,)  # age, constant, three towns, others
    np.testing.assert_array_equal(first.weight, run.params[0].weight)


def test_other_columns_are_refused_or_ignored(tmp_path: Path):
    objective, target = KINDS["logistic"]
    run = trained(tmp_path, objective, table_dataset(FRAME.assign(target=target), "target"))
    with pytest.raises(eh.ConfigError, match="column town: not in the table"):
        run.predict(FRAME.drop(columns="town"))
    with pytest.warns(UserWarning, match="^column height: not in the training data; it is ignored$"):
        np.testing.assert_array_equal(run.predict(FRAME.assign(height=1)), run.predict(FRAME))
    with pytest.warns(UserWarning, match=r"400 of 400 values \(Truro\) were not seen in training \(Bath, Ely, Wells\)"):
        assert set(run.predict(FRAME.assign(town="Truro"))) <= {"no", "yes"}


def test_arrays_and_data_without_an_encoder(tmp_path: Path):
    X = np.column_stack([AGE / 40, SCORE])
    run = trained(tmp_path, eh.LeastSquares(), array_dataset(X, SCORE))
    np.testing.assert_allclose(eh.load(run.folder).predict(X), run.predict(X))
    with pytest.raises(eh.ConfigError, match="rows of shape"):
        run.predict(X[:, :1])
    synthetic_run = trained(tmp_path / "synthetic", eh.Logistic(), data := synthetic(rows=1003, fields=3, categories=9))
    assert set(synthetic_run.predict(data.test.features)) == {-1.0, 1.0}
    with pytest.raises(eh.ConfigError, match=r"X: has rows of shape \(2,\), but the model \(28,\)"):
        synthetic_run.predict(X)
    with pytest.raises(eh.ConfigError, match=r"its data came from no file"):
        synthetic_run.predict("rows.csv")


class Patches:
    """A model that needs the two axes of an image."""

    targets = "numbers"

    def init(self, key: Any, dataset: eh.Dataset) -> jax.Array:
        return jnp.zeros(dataset.train.features.matrix.shape[1])  # pyright: ignore

    def predict(self, params: jax.Array, images: jax.Array) -> jax.Array:
        return images.sum(2) @ params

    def loss(self, params: jax.Array, images: jax.Array, target: jax.Array) -> jax.Array:
        return (target - self.predict(params, images)) ** 2


def test_a_model_of_images_is_loaded_without_an_encoder(tmp_path: Path):
    images = RNG.normal(size=(60, 3, 4))
    rows = eh.Rows(eh.Dense(images), images.sum((1, 2)))
    run = trained(tmp_path, eh.Model(model=Patches()), eh.Dataset("images", rows, rows))
    loaded = eh.load(run.folder, eh.Model(model=Patches()))
    assert run.params.shape == loaded.params.shape == (3,)
    np.testing.assert_array_equal(loaded.predict(images), run.predict(images))


def test_an_objective_of_a_script_must_be_given(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    class Mine(eh.Logistic):
        """Nobody can import this class."""

    objective, target = Mine(), KINDS["logistic"][1]
    run = trained(tmp_path, objective, table_dataset(FRAME.assign(target=target), "target"))
    capfd.readouterr()
    with pytest.raises(eh.ConfigError, match=r"Mine: was defined in a script, .*; give objective=.*\(\.\.\.\) to load"):
        eh.load(run.folder).predict(FRAME)
    np.testing.assert_array_equal(eh.load(run.folder, Mine()).predict(FRAME), run.predict(FRAME))
    assert capfd.readouterr().err == ""  # Hydra has a log of its own


SCRIPT = """
import erasurehead_jax as eh
import numpy as np

class Rings(eh.MLP):
    pass

if __name__ == "__main__":
    X = np.arange(40.0).reshape(20, 2) / 40
    eh.train(eh.array_dataset(X, [0, 1] * 10), eh.Model(model=Rings()), eh.uncoded(2), rounds=2, run_dir="run")
    np.savez("new.npz", X=X)
"""


@pytest.mark.slow
def test_a_model_of_a_script_is_named_in_one_line(tmp_path: Path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    predict = [sys.executable, "-m", "erasurehead_jax.predict", "run", "new.npz"]
    assert execute([sys.executable, "mine.py"], tmp_path).returncode == 0
    done = execute(predict, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: objective.model._target_=__main__.Rings: was defined in a script, a notebook or a function, where it "
        "cannot be found again; give objective=Model(...) to load, or put the class into a module that can be "
        "imported\n"
    )
    config = tmp_path / "run" / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("__main__.Rings", "gone.Rings"))
    done = execute(predict, tmp_path)
    assert done.stderr.startswith("error: objective.model._target_=gone.Rings: there is no module 'gone' in the")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_command_writes_what_python_predicts(tmp_path: Path):
    objective, target = KINDS["logistic"]
    FRAME.assign(target=target).to_csv(tmp_path / "train.csv", index=False)
    from erasurehead_jax.data import table

    run = trained(tmp_path, objective, table(str(tmp_path / "train.csv"), "target"))
    FRAME.to_csv(tmp_path / "new.csv", index=False)
    command = ["erasurehead_jax.predict", str(run.folder), "new.csv"]
    done = execute([sys.executable, "-m", *command], tmp_path)
    assert done.returncode == 0, done.stderr
    table_ = pd.read_csv(io.StringIO(done.stdout))
    assert list(table_) == ["prediction", "probability_no", "probability_yes"]
    assert table_["prediction"].tolist() == run.predict(FRAME).tolist()
    np.testing.assert_allclose(table_["probability_yes"], run.predict_proba(FRAME)[:, 1], rtol=1e-6)
    FRAME.assign(town="Truro", height=1).to_csv(tmp_path / "other.csv", index=False)
    warned = execute([sys.executable, "-m", *command[:-1], "other.csv"], tmp_path)
    assert warned.returncode == 0 and len(warned.stdout.splitlines()) == ROWS + 1
    assert warned.stderr.splitlines() == [
        "warning: column height: not in the training data; it is ignored",
        "warning: column town: 400 of 400 values (Truro) were not seen in training (Bath, Ely, Wells); they count as "
        "unknown",
    ]
    pd.concat([FRAME] * 20).to_csv(tmp_path / "long.csv", index=False)  # more than a pipe holds
    piped = f"set -o pipefail; {sys.executable} -m erasurehead_jax.predict {run.folder} long.csv | head -1"
    unread = execute(["bash", "-c", piped], tmp_path)
    assert (unread.returncode, unread.stdout.count("\n"), unread.stderr) == (1, 1, "")
    refused = execute([sys.executable, "-m", *command[:-1], "missing.csv"], tmp_path)
    assert refused.returncode == 2 and "missing.csv" in refused.stderr and refused.stderr.count("\n") == 1
    assert execute([sys.executable, "-m", "erasurehead_jax.predict", ".", "new.csv"], tmp_path).returncode == 2
