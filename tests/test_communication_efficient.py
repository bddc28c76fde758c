"""Codes whose messages are shorter than the gradient (Ye and Abbe 2018)."""

import itertools
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from harness import SMALL_DATA, train
from test_codes import random_masks

from erasurehead_jax import AllOf, AnyOf, ConfigError, Count, Deadline, Decodable, Scheme
from erasurehead_jax.cluster.protocol import Fail, Protocol, Wait
from erasurehead_jax.codes import CommunicationEfficient, CyclicMDS
from erasurehead_jax.decoding import ByCode, ByLeastSquares, OneStep, Unbiased
from erasurehead_jax.testing import check_code

# blocks and workers, load, parts
SIZES = [(5, 2, 2), (6, 3, 2), (7, 4, 2), (7, 5, 5), (8, 4, 3), (8, 8, 3), (9, 6, 4), (6, 2, 1)]


def leaks(code: CommunicationEfficient, got: np.ndarray) -> np.ndarray:
    """What decoding makes of each part of each block's gradient, (n, parts, parts): an identity a block if exact."""
    a = np.asarray(code.weights(got)).reshape(code.messages, code.parts)
    return np.einsum("iqm,mp->iqp", code.coefficients, a) - np.eye(code.parts)


@pytest.mark.parametrize("construction", ["fourier", "gaussian"])
@pytest.mark.parametrize(("k", "load", "parts"), SIZES)
def test_any_load_minus_parts_workers_may_be_late(k: int, load: int, parts: int, construction: str):
    code = CommunicationEfficient(k, k, load, parts, construction)
    assert code.parts == parts and (code.holds.sum(0) == load).all() and (code.copies == load).all()
    np.testing.assert_array_equal(code.coefficients.any(1), code.holds)
    for late in itertools.combinations(range(k), load - parts):
        got = ~np.isin(np.arange(k), late)
        assert code.decodable(got)
        np.testing.assert_allclose(leaks(code, got), 0, atol=1e-9)
        np.testing.assert_allclose(code.shares(code.weights(got)), 1, atol=1e-9)
        assert not np.asarray(code.weights(got))[~got].any()


def test_too_few_answers_are_of_no_use():
    code = CommunicationEfficient(6, 6, 3, 2)
    got = np.arange(6) < 4
    assert not code.decodable(got) and not np.asarray(code.weights(got)).any()
    assert code.decode_error(code.weights(got)) == pytest.approx(6)
    for stop in (Count(4), AnyOf((Decodable(), Count(4))), AllOf((Count(4), Deadline(1.0)))):
        with pytest.raises(ConfigError, match=r"^scheme.stop: may hold before .* can decode, .*; must be Decodable$"):
            Scheme(code, stop, ByCode())
    protocol = Protocol(Scheme(code, AllOf((Decodable(), Deadline(1.0))), ByCode()), "cancel", "approximate")
    protocol.begin(0.0)
    protocol.arrived([(0, m) for m in range(4)], 1.0)
    assert isinstance(protocol.lost(4, 1.0), Wait)
    assert isinstance(protocol.lost(5, 1.0), Fail)


def test_whole_messages_are_those_of_the_cyclic_mds_code():
    """Its rows are determined up to a factor by the waves that they are orthogonal to."""
    ours, theirs = CommunicationEfficient(9, 9, 3, parts=1).coefficients[:, 0], CyclicMDS(9, 9, 3).G
    cosines = np.abs((ours * theirs).sum(1)) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-12)


def test_a_leak_between_parts_is_an_error():
    code = CommunicationEfficient(6, 6, 3, 2)
    a = np.array(code.weights(np.ones(6, bool)))
    assert code.decode_error(a) < 1e-20
    assert code.decode_error(a[:, ::-1]) == pytest.approx(
        12
    )  # the parts exchanged: 4 errors of 1 a block, over 2 parts


@pytest.mark.parametrize(("construction", "median"), [("fourier", 44), ("gaussian", 300), ("polynomial", 1.4e11)])
def test_conditioning(construction: str, median: float):
    """|a| |G| over random sets of late workers, and what float32 makes of it."""
    k, load, parts = 30, 5, 2
    code = CommunicationEfficient(k, k, load, parts, construction)
    norm = np.linalg.norm(code.coefficients.reshape(-1, k), 2)
    masks = random_masks(k, k - load + parts, 200)
    found = [np.linalg.norm(np.asarray(code.weights(got)), 2) * norm for got in masks]
    assert np.median(found) == pytest.approx(median, rel=0.2)
    gradients = np.random.default_rng(0).standard_normal((k, parts, 50)).astype(np.float32)
    messages = np.einsum("ipm,ipl->ml", code.coefficients.astype(np.float32), gradients)
    decoded = np.asarray(code.weights(masks[0]), np.float32).T @ messages
    error = np.abs(decoded - gradients.sum(0)).max() / np.abs(gradients.sum(0)).max()
    assert (error < 1e-4) == (construction != "polynomial")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((6, 5, 3, 2), r"^blocks=6: a communication-efficient code needs as many blocks as workers \(5\)$"),
        ((6, 6, 3, 0), r"^scheme.code.parts=0: must be a whole number, at least 1$"),
        (
            (6, 6, 3, 4),
            r"^scheme.code.parts=4: must be at most load=3: messages 4 times shorter .* 4 \+ s$",
        ),
        ((6, 6, 4, 2), r"^load=4: scheme.code.construction=fourier is real only if .* \(4\) is odd; use load=5 or"),
        ((6, 6, 6, 2), r"^load=6: .* is odd; use load=5 or construction=gaussian$"),
        ((5, 5, 5, 5, "polynomial", -1), r"^code_seed=-1: "),
        ((6, 6, 3, 2, "random"), r"^scheme.code.construction=random: must be one of fourier, gaussian, polynomial$"),
    ],
)
def test_what_cannot_be_built_is_refused(sizes, message: str):
    with pytest.raises(ConfigError, match=message):
        CommunicationEfficient(*sizes)


@pytest.mark.parametrize("decode", [ByLeastSquares(), OneStep(), Unbiased(0.1)])
def test_decoders_with_one_weight_a_message_are_refused(decode):
    with pytest.raises(ConfigError, match=r"^scheme.decode: \w+ has one weight a message, .*; use ByCode"):
        Scheme(CommunicationEfficient(6, 6, 3, 2), Decodable(), decode)


def test_the_decoder_is_traced_in_the_default_precision():
    code = CommunicationEfficient(9, 9, 4, 2, "gaussian")
    scheme = Scheme(code, Decodable(), ByCode())
    got = np.array([random_masks(9, r, 1)[0] for r in range(1, 10)])
    with jax.enable_x64(False):
        a = jax.jit(jax.vmap(lambda mask: scheme.decode(code, mask)))(got)
    assert a.shape == (9, 9, 2) and a.dtype == np.float32
    np.testing.assert_allclose(a, [code.weights(mask) for mask in got], rtol=1e-6, atol=1e-6)


def test_coefficients_that_are_not_decoded_are_found_out():
    class Doubled(CommunicationEfficient):
        @property
        def coefficients(self):
            return 2 * self.mixing

    with pytest.raises(AssertionError, match=r"^Doubled.decodable for .*: is True, but the decode error"):
        check_code(Doubled(6, 6, 3, 2))  # pyright: ignore[reportCallIssue]


@pytest.mark.mpi
def test_inaccurate_gradients_are_said(tmp_path: Path):
    scheme = ("scheme=communication_efficient", "scheme.code.construction=polynomial", "workers=14", "load=5")
    settings = (*SMALL_DATA, *scheme, "scheme.code.parts=5", "rounds=4", "tracking=none")
    said = "decoding multiplies rounding errors of float32 answers by up to"
    for x64, times in (("false", 1), ("true", 0)):
        (tmp_path / x64).mkdir()
        run = train(tmp_path / x64, *settings, f"x64={x64}")
        assert run.status == 0 and run.err.count(said) == times, run.err


@pytest.mark.mpi
@pytest.mark.parametrize("batch", ["null", "0.5"])
@pytest.mark.slow
def test_messages_have_the_length_of_a_part(tmp_path: Path, batch: str):
    """On real ranks, with a network, whose parameters are all touched; the last part is padded."""
    scheme = ("workers=5", "load=3", "scheme=communication_efficient", "scheme.code.parts=3")
    settings = (*SMALL_DATA, *scheme, f"batch={batch}", "objective=mlp", "rounds=3", "x64=true", "tracking=none")
    runs = {}
    for backend in ("mpi", "simulate"):
        (tmp_path / backend).mkdir()
        runs[backend] = train(tmp_path / backend, *settings, f"backend={backend}")
        assert runs[backend].status == 0, runs[backend].err
    real, simulated = runs["mpi"], runs["simulate"]
    parameters = len(np.load(real.run_dir / "model.npz")["x"])
    assert parameters % 3 and (real.history["received_bytes"] == 5 * (16 + 8 * math.ceil(parameters / 3))).all()
    np.testing.assert_allclose(real.history["train_loss"], simulated.history["train_loss"], rtol=1e-12)
