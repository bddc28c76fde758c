"""Mini-batches and SVRG: against NumPy on both backends, as distributions, and their refusals."""

from pathlib import Path

import jax
import numpy as np
import pytest
from harness import SMALL, train, train_many
from hypothesis import given, strategies as st
from reference import mini_batches

from erasurehead_jax import ConfigError
from erasurehead_jax.data import synthetic
from erasurehead_jax.sampling import Sampling, drawn_rows, make_sampling

DATA = synthetic(rows=1003, fields=5, categories=40)
SVRG = ("variance_reduction=svrg", "snapshot_every=3")
VARIANTS = {"mini-batches": (), "SVRG": SVRG, "SVRG with exact snapshots": (*SVRG, "snapshot=exact")}
EXACT = (*SMALL, "x64=true", "scheme=egc", "batch=20", "seed=5", "optimizer.step_size=2")


@pytest.mark.mpi
@pytest.mark.parametrize("more", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.slow
def test_an_exact_code_equals_numpy_on_both_backends(more: tuple[str, ...], tmp_path: Path):
    expected = mini_batches(DATA, 8, 2.0, blocks=4, batch=20, seed=5, snapshot_every=3 if more else None)
    for backend, tolerance in (("mpi", 1e-10), ("simulate", 1e-12)):
        (tmp_path / backend).mkdir()
        done = train(tmp_path / backend, *EXACT, *more, f"backend={backend}", "cluster.chunk_rows=17")
        assert done.status == 0, done.err
        np.testing.assert_allclose(done.history["train_loss"], expected, rtol=tolerance)


@pytest.mark.mpi
@pytest.mark.slow
def test_an_approximate_scheme_is_the_same_on_both_backends(tmp_path: Path):
    """Exact snapshots wait for everybody, the rounds between for two of four; a resumed run goes on as if whole."""
    own = (*SMALL, "x64=true", "scheme=ignore_stragglers", "batch=0.1", *SVRG, "snapshot=exact", "checkpoint.every=1")
    delays = ("delay._target_=harness.Spaced",)
    for backend in ("mpi", "simulate"):
        (tmp_path / backend).mkdir()
    real = train(tmp_path / "mpi", *own, *delays, "rounds=5")
    assert real.status == 0, real.err
    real = train(tmp_path / "mpi", f"resume={real.run_dir}", "rounds=8")
    simulated = train(tmp_path / "simulate", *own, *delays, "backend=simulate")
    assert real.status == simulated.status == 0, real.err + simulated.err
    assert real.history["waited"].tolist() == simulated.history["waited"].tolist() == [4, 2, 2, 4, 2, 2, 4, 2]
    assert real.history["exact"].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    np.testing.assert_allclose(real.history["train_loss"], simulated.history["train_loss"], rtol=1e-12)
    np.testing.assert_allclose(real.summary["ideal_s"], simulated.summary["clock_s"], rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(1, 50), st.data())
def test_rows_are_drawn_once_each_and_depend_on_seed_round_and_block_alone(seed, t, rows, data):
    batch = data.draw(st.integers(1, rows))
    drawn = drawn_rows(seed, t, 3, rows, batch)
    assert len(set(drawn.tolist())) == batch and drawn.min() >= 0 and drawn.max() < rows
    assert (drawn == drawn_rows(seed, t, 3, rows, batch)).all()


def test_every_row_is_drawn_equally_often():
    counts = np.zeros(7)
    for t in range(3000):
        counts[drawn_rows(0, t, 0, 7, 3)] += 1
    deviation = np.sqrt(3000 * 3 / 7 * 4 / 7)
    assert (abs(counts - 3000 * 3 / 7) < 4 * deviation).all()


def test_the_work_of_a_round():
    svrg = make_sampling(0.25, True, 4, "scheme", rows=400, blocks=4)
    assert svrg == Sampling(25, 0.25, 4, False) and svrg.points == 2
    assert [float(svrg.work(t)) for t in range(5)] == [1, 0.5, 0.5, 0.5, 1]  # two gradients on a quarter of the rows
    assert float(jax.jit(svrg.work)(3)) == 0.5
    assert float(make_sampling(30, False, 4, "scheme", rows=400, blocks=4).work(0)) == 0.3
    assert float(Sampling().work(0)) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ((101, False), "batch=101: must be at most 100, the rows of the smallest of 4 blocks"),
        ((None, True), "variance_reduction=svrg: needs mini-batches; set batch=0.1"),
    ],
)
def test_what_does_not_fit_is_refused(settings, says: str):
    batch, svrg = settings
    with pytest.raises(ConfigError, match=says):
        make_sampling(batch, svrg, 4, "scheme", rows=403, blocks=4)


def test_refusals_of_the_command_line(tmp_path: Path):
    cases = {
        "batch=1.5": "batch=1.5: must be a share between 0 and 1, such as 0.1, or a whole number of rows",
        "batch=0": "batch=0: must be a share",
        "batch=201": "batch=201: must be at most 200, the rows of the smallest of 4 blocks",
        "variance_reduction=saga": "variance_reduction=saga: must be one of svrg",
        "snapshot=often": "snapshot=often: must be scheme or exact",
    }
    runs = [(tmp_path, [*SMALL, override]) for override in cases]
    for (override, says), done in zip(cases.items(), train_many(runs), strict=True):
        assert done.status == 2 and says in done.err, (override, done.err)
