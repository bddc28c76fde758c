"""Every scheme yaml keeps the contract of a code, and trains alike on real ranks and simulated. New ones are found."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import SMALL_DATA, Finished, execute
from shipped import names, scheme_of, settings_of
from test_multirun import multirun

from erasurehead_jax import AbstractCode, ConfigError, Count, FractionalRepetition, Scheme
from erasurehead_jax.codes import Bernoulli, CyclicMDS, PerBlock, on_host
from erasurehead_jax.decoding import ByCode
from erasurehead_jax.testing import check_code

# The order of arrival is certain, and float64 shows any difference.
RUN = (*SMALL_DATA, "rounds=6", "x64=true", "optimizer.step_size=2", "tracking=none", "delay._target_=harness.Spaced")


@pytest.mark.parametrize("name", names())
def test_the_contract(name: str):
    check_code(scheme_of(name).code)


@pytest.mark.parametrize("name", ["egc", "egc_cyclic", "bernoulli", "bibd"])
def test_the_contract_with_a_message_a_block(name: str):
    check_code(PerBlock(scheme_of(name).code))


def sweeps() -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Settings, and the schemes that share them: one multirun each."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names():
        found.setdefault(settings_of(name), []).append(name)
    yield from found.items()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Finished, Finished]]:
    """A run of every scheme on real ranks, and a simulated one."""
    runs: dict[str, list[Finished]] = {name: [] for name in names()}
    for backend in ("mpi", "simulate"):
        for settings, some in sweeps():
            chosen = f"scheme={','.join(some)}"
            folder = tmp_path_factory.mktemp(backend)
            jobs = multirun(folder, *RUN, f"backend={backend}", *settings, chosen)
            assert len(jobs) == len(some) and jobs[0].status == 0, jobs[0].err if jobs else settings
            for name, job in zip(some, jobs, strict=True):
                runs[name].append(job)
    return {name: (real, simulated) for name, (real, simulated) in runs.items()}


@pytest.mark.mpi
@pytest.mark.parametrize("name", names())
@pytest.mark.slow
def test_real_ranks_train_as_simulated_ones(both: dict[str, tuple[Finished, Finished]], name: str):
    real, simulated = (run.history for run in both[name])
    for column in ("round", "waited", "exact"):
        assert real[column].tolist() == simulated[column].tolist()
    np.testing.assert_allclose(real["decode_error"], simulated["decode_error"], atol=1e-9)
    np.testing.assert_allclose(real["train_loss"], simulated["train_loss"], rtol=1e-10)


@pytest.mark.mpi
@pytest.mark.slow
def test_a_message_a_block_trains_alike_on_both_backends(tmp_path: Path):
    sizes = ("workers=6", "load=2", "wait_for=3", "messages=per_block", "scheme=egc,erasurehead,egc_cyclic")
    runs = []
    for backend in ("mpi", "simulate"):
        (tmp_path / backend).mkdir()
        runs.append(multirun(tmp_path / backend, *RUN, *sizes, f"backend={backend}"))
    for real, simulated in zip(*runs, strict=True):
        assert real.status == 0, real.err
        np.testing.assert_allclose(real.history["train_loss"], simulated.history["train_loss"], rtol=1e-10)
        assert real.arrival_s.shape == (6, 12)


@pytest.mark.slow
def test_a_what_if_decodes_exactly_in_the_default_precision(tmp_path: Path):
    """Where x64 is enabled for the simulator's thread only, as in the command."""
    some = [name for name in names() if settings_of(name) == settings_of("egc")]
    grid = f"grid.scheme=[{','.join(some)}]"
    done = execute(
        [sys.executable, "-m", "erasurehead_jax.whatif", grid, *settings_of("egc"), "seeds=4", "hydra.run.dir=run"],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "run" / "timing.csv").set_index("scheme")
    exact = {"uncoded", "egc", "egc_cyclic", "cyclic_mds", "reed_solomon"}
    assert exact <= set(table.query("exact_fraction == 1").index) and len(table) == len(some)


class Wrong(FractionalRepetition):
    """Fractional repetition with one fault."""

    fault: str = "none"

    def __init__(self, fault: str):
        super().__init__(blocks=6, workers=6, load=2)
        self.fault = fault

    def decodable(self, got):
        true = super().decodable(got)
        if self.fault == "promises too much":
            return got.sum() >= 4
        if self.fault == "forgets":
            return true & (got.sum() != 5)
        return true if self.fault != "many verdicts" else got

    def weights(self, got):
        a = super().weights(got)
        if self.fault == "uses what is missing":
            return a + 0.5 * ~got
        if self.fault == "a weight a block":
            return a[:-1]
        if self.fault == "other when traced":
            return a if isinstance(got, np.ndarray) else 0.5 * a
        return a


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "promises too much",
            r"^Wrong.decodable for messages \[.*\]: is True, but the decode error .* is ",
        ),
        ("forgets", r"^Wrong.decodable for messages \[.*\]: is True, but no more once message \d has arrived too$"),
        ("many verdicts", r"^Wrong.decodable: returned bool of shape \(6,\); must return a single bool$"),
        ("uses what is missing", r"^Wrong.weights for .*: returned 0.5 for a message that has not arrived; must be 0$"),
        (
            "a weight a block",
            r"^Wrong.weights: returned float64 of shape \(5,\); must return numbers of shape \(6,\)$",
        ),
        ("other when traced", r"^Wrong.weights for .*: differs between a NumPy mask and a traced one$"),
    ],
)
def test_a_code_that_breaks_its_contract_is_found_out(fault: str, message: str):
    with pytest.raises((AssertionError, ConfigError), match=message):
        check_code(Wrong(fault))
    check_code(Wrong("none"))


def test_a_code_that_lies_is_noticed_in_a_run_and_said_once(caplog: pytest.LogCaptureFixture):
    scheme = Scheme(Wrong("promises too much"), Count(4), ByCode())
    for _ in range(3):
        scheme.weights(np.array([1, 1, 1, 1, 0, 0], bool))
    assert caplog.text.count("`decodable` is True for messages whose decode error exceeds") == 1


def test_a_decoder_in_numpy_is_called_for_every_run():
    check_code(Plain(CyclicMDS(6, 6, 2).G))


class Plain(AbstractCode):
    """A code whose decoder uses NumPy and `if`, which JAX cannot trace."""

    G: np.ndarray
    owner: np.ndarray

    def __init__(self, G: np.ndarray):
        self.G, self.owner = G, np.arange(G.shape[1])

    def decodable(self, got):
        return on_host(lambda mask: np.bool_(mask.sum() >= 5), got)

    def weights(self, got):
        return on_host(self._weights, got)

    def _weights(self, got: np.ndarray) -> np.ndarray:
        a = np.zeros(len(got))
        if got.sum() >= 5:
            a[got] = np.linalg.lstsq(self.G[:, got], np.ones(len(self.G)), rcond=None)[0]
        return a


def test_workers_begin_with_different_blocks():
    code = PerBlock(FractionalRepetition(6, 6, 3))
    first = code.G[:, :6].argmax(0)
    assert sorted(first) == list(range(6))  # after the first messages of all, everything can be decoded
    assert code.decodable(np.arange(code.messages) < 6)
    np.testing.assert_array_equal(code.holds, FractionalRepetition(6, 6, 3).holds)
    np.testing.assert_allclose(code.work_until, np.repeat([1, 2, 3], 6) / 6)


def test_a_worker_without_blocks_has_an_empty_message():
    code = PerBlock(next(code for code in (Bernoulli(8, 8, 1, code_seed=i) for i in range(99)) if 0 in code.G.sum(0)))
    assert code.workers == 8 and 0 in code.G.sum(0)


def test_a_lie_about_sizes_is_refused():
    with pytest.raises(ConfigError, match=r"^Plain.G: must be finite$"):
        Plain(np.full((2, 2), np.nan))
