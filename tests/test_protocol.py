"""The protocol without processes: it uses the same answers as the simulation (contract 2 of docs/architecture.md)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from shipped import names, scheme_of

from erasurehead_jax import AllOf, Count, Deadline, Decodable, FractionalRepetition, Logistic, Scheme, Uncoded, collect
from erasurehead_jax.cluster.protocol import Fail, Proceed, Protocol, Update, Wait
from erasurehead_jax.data import block_bounds, synthetic
from erasurehead_jax.decoding import ByCode
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.optimizers import gd
from erasurehead_jax.update import apply_gradient, start

WORKERS = 6


SPECIAL = {
    "deadline": Scheme(Uncoded(WORKERS, WORKERS), Deadline(1.5), ByCode()),
    "at least a second and three workers": Scheme(
        FractionalRepetition(WORKERS, WORKERS, 2), AllOf((Deadline(1.0), Count(3))), ByCode("covered")
    ),
}
ALL = [*names(), *SPECIAL]
DATASET = synthetic(rows=103, fields=3, categories=7)
gradient, step = jax.jit(Logistic().gradient), jax.jit(apply_gradient, static_argnums=(0, 1, 2))


def scheme_named(name: str) -> Scheme:
    return SPECIAL[name] if name in SPECIAL else scheme_of(name)


@functools.cache
def simulation(name: str) -> Callable:
    return jax.jit(functools.partial(collect, scheme_named(name)))


def play(scheme: Scheme, arrival_s: np.ndarray) -> tuple[np.ndarray, float]:
    """Plays a round through the protocol: simultaneous messages together, and a tick whenever it requests one."""
    protocol = Protocol(scheme, "cancel")
    decision, now_s = protocol.begin(0.0), 0.0
    pending = sorted(set(arrival_s[np.isfinite(arrival_s)].tolist()))
    while isinstance(decision, Wait):
        next_s = pending[0] if pending else np.inf
        now_s = min(next_s, decision.until_s)
        assert np.isfinite(now_s), "the protocol waits for what never comes"
        if now_s == next_s:
            pending.pop(0)
            together = np.flatnonzero(arrival_s == now_s)
            decision = protocol.arrived([(0, int(m)) for m in together[::-1]], now_s)
        else:
            decision = protocol.tick(now_s)
    assert isinstance(decision, Update)
    return np.asarray(decision.got), float(now_s)


times = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0])


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_protocol_and_simulation_agree(name: str, data: st.DataObject):
    scheme = scheme_named(name)
    messages = scheme.code.messages
    arrival_s = np.array(data.draw(st.lists(times, min_size=messages, max_size=messages)))
    got, elapsed_s = play(scheme, arrival_s)
    simulated, simulated_s = simulation(name)(arrival_s)
    np.testing.assert_array_equal(got, simulated)
    assert elapsed_s == float(simulated_s)


@pytest.mark.parametrize("name", ALL)
def test_all_at_once(name: str):
    for instant_s in (0.0, 0.7):
        scheme = scheme_named(name)
        arrival_s = np.full(scheme.code.messages, instant_s)
        got, elapsed_s = play(scheme, arrival_s)
        assert got.all() or elapsed_s < instant_s or name == "deadline"
        np.testing.assert_array_equal(got, simulation(name)(arrival_s)[0])


@pytest.mark.parametrize("name", names())
def test_iterates_agree(name: str):
    """The master adds messages and the simulator weights blocks; the steps agree to 1e-12."""
    scheme, optimizer = scheme_of(name), gd(1.0)
    code, rows = scheme.code, DATASET.train
    bounds = block_bounds(len(rows), code.blocks)
    block_of = np.repeat(np.arange(code.blocks), np.diff(bounds))
    padding = (0, -DATASET.dim % code.parts)
    master = simulated = start(optimizer, jnp.zeros(DATASET.dim))
    for t in range(5):
        arrival_s = np.asarray(jax.random.exponential(jax.random.key(t), (scheme.code.messages,)))
        got, _ = play(scheme, arrival_s)
        a = np.asarray(scheme.decode(scheme.code, got))
        gradients = [gradient(master.x, rows, 1.0 * (block_of == block)) for block in range(code.blocks)]
        parts = np.array([np.pad(each, padding).reshape(code.parts, -1) for each in gradients])
        messages = np.einsum("ipm,ipl->ml", code.coefficients, parts)[got]
        decoded = (a.reshape(len(a), -1)[got].T @ messages).ravel()[: DATASET.dim]
        master, _ = step(optimizer, 0.01, len(rows), master, jnp.asarray(decoded))
        got, _ = simulation(name)(arrival_s)
        w = jnp.asarray(code.shares(scheme.decode(code, got)))
        decoded = gradient(simulated.x, rows, w[block_of])
        simulated, _ = step(optimizer, 0.01, len(rows), simulated, decoded)
        np.testing.assert_allclose(master.x, simulated.x, rtol=0, atol=1e-12)


def erasurehead_protocol(late="cancel") -> Protocol:
    return Protocol(scheme_of("erasurehead"), late)


def test_late_answers_are_counted_and_never_used():
    protocol = erasurehead_protocol()
    protocol.begin(0.0)
    decision = protocol.arrived([(0, 0), (0, 1), (0, 2)], 1.0)
    assert isinstance(decision, Update) and decision.got.sum() == 3
    assert protocol.updated(1.0) == Proceed()
    protocol.begin(1.0)
    decision = protocol.arrived([(0, 3), (0, 4), (0, 5)], 2.0)
    assert isinstance(decision, Wait)
    assert protocol.late_answers.sum() == 3
    decision = protocol.arrived([(1, 3), (1, 4), (1, 5)], 3.0)
    assert isinstance(decision, Update)
    np.testing.assert_array_equal(decision.got, [False, False, False, True, True, True])


def test_an_answer_counts_once():
    protocol = erasurehead_protocol()
    protocol.begin(0.0)
    protocol.arrived([(0, 0)], 1.0)
    assert isinstance(protocol.arrived([(0, 0), (0, 0)], 2.0), Wait)


def test_the_mask_of_an_update_is_frozen():
    protocol = erasurehead_protocol("wait")
    protocol.begin(0.0)
    decision = protocol.arrived([(0, 0), (0, 1), (0, 2)], 1.0)
    assert isinstance(decision, Update)
    protocol.updated(1.0)
    protocol.arrived([(0, 3)], 2.0)
    assert decision.got.sum() == 3


def test_wait_drains_everybody():
    protocol = erasurehead_protocol("wait")
    protocol.begin(0.0)
    protocol.arrived([(0, m) for m in range(3)], 1.0)
    assert isinstance(protocol.updated(1.0), Wait)
    assert isinstance(protocol.arrived([(0, 3), (0, 4)], 2.0), Wait)
    assert protocol.arrived([(0, 5)], 3.0) == Proceed()
    assert protocol.late_answers.sum() == 3


def test_draining_does_not_wait_for_the_lost():
    protocol = erasurehead_protocol("wait")
    protocol.begin(0.0)
    protocol.arrived([(0, m) for m in range(3)], 1.0)
    protocol.updated(1.0)
    protocol.arrived([(0, 3), (0, 4)], 2.0)
    assert protocol.lost(5, 3.0) == Proceed()


def test_a_rule_that_can_never_hold_fails_at_once():
    protocol = Protocol(scheme_of("uncoded"), "cancel")
    protocol.begin(0.0)
    protocol.lost(2, 0.5)
    decision = protocol.arrived([(0, m) for m in (0, 1, 3, 4, 5)], 1.0)
    assert isinstance(decision, Fail) and "round 0" in decision.reason
    assert isinstance(protocol.begin(2.0), Wait)


def test_a_deadline_outlives_lost_workers():
    protocol = Protocol(SPECIAL["deadline"], "cancel")
    protocol.begin(10.0)
    assert [protocol.lost(worker, 10.5) for worker in range(WORKERS)] == [Wait(11.5)] * WORKERS
    assert isinstance(protocol.tick(11.5), Update)


def test_clock_rules_name_their_instant():
    protocol = Protocol(SPECIAL["at least a second and three workers"], "cancel")
    assert protocol.begin(5.0) == Wait(6.0)
    assert protocol.arrived([(0, 0), (0, 1), (0, 2)], 5.5) == Wait(6.0)
    assert isinstance(protocol.tick(6.0), Update)


@given(began_s=st.floats(0, 1e6), seconds=st.floats(0, 1e3))
def test_a_tick_at_its_instant_decides(began_s: float, seconds: float):
    """Whatever the rounding of began_s + seconds and t - began_s."""
    protocol = Protocol(Scheme(Uncoded(3, 3), Deadline(seconds), ByCode()), "cancel")
    decision = protocol.begin(began_s)
    if isinstance(decision, Wait):
        assert np.isfinite(decision.until_s)
        decision = protocol.tick(decision.until_s)
    assert isinstance(decision, Update)


def test_a_deadline_of_a_tenth_of_a_second():
    protocol = Protocol(Scheme(Uncoded(3, 3), Deadline(0.1), ByCode()), "cancel")
    assert protocol.begin(0.8) == Wait(0.9)
    assert isinstance(protocol.tick(0.9), Update)  # though 0.9 - 0.8 < 0.1


def test_what_cannot_be_used_is_an_erasure():
    """Faulty answers are counted per worker. A valid answer stays valid; one of an impossible round is faulty."""
    protocol = Protocol(scheme_of("uncoded"), "cancel")
    protocol.begin(0.0)
    protocol.arrived([(0, 0)], 0.1)
    for message in (0, 1, 1):
        protocol.faulty(message, 0.2)
    decision = protocol.arrived([(5, 2), (-1, 3), (0, 1), (0, 4), (0, 5)], 0.3)
    assert protocol.faulty_answers.tolist() == [1, 2, 1, 1, 0, 0]
    assert isinstance(decision, Fail) and decision.reason.endswith("(lost workers: none; faulty answers: 3)")


def test_approximate_goes_on_with_what_is_left():
    protocol = Protocol(scheme_of("uncoded"), "cancel", on_loss="approximate")
    protocol.begin(0.0)
    protocol.lost(2, 0.1)
    assert isinstance(protocol.arrived([(0, m) for m in (0, 1, 3, 4)], 0.2), Wait)
    decision = protocol.faulty(5, 0.3)
    assert isinstance(decision, Update) and decision.got.tolist() == [True, True, False, True, True, False]
    protocol.updated(0.3)
    protocol.begin(1.0)
    decisions = [protocol.lost(worker, 1.1) for worker in (0, 1, 2, 3, 4, 5)]
    assert isinstance(decisions[-2], Wait) and isinstance(decisions[-1], Fail)
    assert protocol.losses == [(2, 0), (0, 1), (1, 1), (3, 1), (4, 1), (5, 1)]


def test_a_decided_round_stays_decided():
    protocol = erasurehead_protocol()
    protocol.begin(0.0)
    decision = protocol.arrived([(0, 0), (0, 1), (0, 2)], 1.0)
    assert protocol.lost(0, 1.0) is decision and protocol.arrived([(0, 3)], 1.0) is decision


def test_unknown_policy():
    with pytest.raises(ConfigError, match=r"cluster.on_loss=hope: must be stop or approximate"):
        Protocol(Scheme(Uncoded(2, 2), Decodable(), ByCode()), "skip", "hope")
    with pytest.raises(ConfigError, match="late=queue: must be one of cancel, skip, wait"):
        Protocol(Scheme(Uncoded(2, 2), Decodable(), ByCode()), "queue")
