"""Convergence of gradient descent in T rounds: Lemma 1 and Theorems 1 to 3 of the ErasureHead paper.

f is mu-PL and beta-smooth; gap = f(x_0) - f*; sigma bounds |gradient of f_i| for the paper's f_i, where
f = (1/n) sum f_i: n/N times block i's sum of row losses. r uniformly random workers answer, independently in every
round; the update uses g / (1-p), so that the step size (1-p)/beta is Algorithm 1's plain sum with 1/beta. c/n =
copies/k. T may be an array.
"""

from typing import Literal

import numpy as np

from erasurehead_jax.theory.moments import Real, Scalar, Value, Whole, p, p_bound, q, require_heard

StepSize = Literal["1/beta", "(1-p)/beta"]


def exact_gap_bound(T: Whole, gap: Scalar, mu: Scalar, beta: Scalar) -> Value:
    """Lemma 1: (1 - mu/beta)^T gap, with the exact gradient and step size 1/beta (uncoded, exact gradient coding)."""
    return (1 - _kappa(mu, beta)) ** T * gap


def gap_bound(
    T: Whole, gap: Scalar, mu: Scalar, beta: Scalar, sigma: Scalar, k: int, copies: int, r: int, step_size: StepSize
) -> Value:
    """Theorem 1: bound on E f(x_T) - f* with approximate gradient coding, for either of its step sizes."""
    require_heard(k, r, least=1)
    missed, either = p(k, copies, r), q(k, copies, r)
    spread = (either - missed) * copies / k
    noise = missed + spread / (1 - missed) if step_size == "1/beta" else spread
    return _decay(T, mu, beta, missed, step_size) * gap + noise * sigma**2 / (2 * (1 - missed) * mu)


def simple_gap_bound(
    T: Whole, gap: Scalar, mu: Scalar, beta: Scalar, sigma: Scalar, k: int, copies: int, r: int, step_size: StepSize
) -> Value:
    """Theorem 2: Theorem 1 with exp(-cr/n) for p and q <= 2p.

    Raises ValueError unless c >= n ln(2)/r, which makes p at most 1/2.
    """
    missed = _missed_at_most_half(k, copies, r)
    noise = 1 + 4 * copies / k if step_size == "1/beta" else 2 * copies / k
    return _decay(T, mu, beta, missed, step_size) * gap + noise * missed * sigma**2 / mu


def uncoded_time_bound(n: int, c: int, gap: Scalar, target: Real, mu: Scalar, beta: Scalar) -> Value:
    """Theorem 3: expected time of uncoded gradient descent to a gap of `target`, at step size 1/beta.

    Section 4's model with n = k and straggling 1/lambda = c. The unit of all four bounds is the fixed time of one node
    for the whole data set. Rounds are counted as real numbers, as in the paper; add one round to be safe.
    """
    return _rounds(gap, target, _kappa(mu, beta)) * (c * np.log(n) + c + 1) / n


def egc_time_bound(n: int, c: int, gap: Scalar, target: Real, mu: Scalar, beta: Scalar) -> Value:
    """Theorem 3 for exact gradient coding, corrected: (c log(n/c) + 2c) / n per round."""
    return _rounds(gap, target, _kappa(mu, beta)) * (c * np.log(n / c) + 2 * c) / n


def egc_time_bound_as_printed(n: int, c: int, gap: Scalar, target: Real, mu: Scalar, beta: Scalar) -> Value:
    """Theorem 3 for exact gradient coding as printed: (c log(n/c) + c + 1) / n per round, too small for c >= 2."""
    return _rounds(gap, target, _kappa(mu, beta)) * (c * np.log(n / c) + c + 1) / n


def agc_time_bound(
    n: int, c: int, r: int, gap: Scalar, target: Scalar, mu: Scalar, beta: Scalar, sigma: Scalar
) -> Value:
    """Theorem 3 for approximate gradient coding at step size (1-p)/beta, with answers of r < n workers.

    Raises ValueError if target < epsilon_0 = 3c exp(-cr/n) sigma^2 / (mu n), or unless c >= n ln(2)/r (the condition of
    Theorem 2, which the paper does not state here).
    """
    missed = _missed_at_most_half(n, c, r)
    floor = 3 * c / n * missed * sigma**2 / mu
    if target < floor:
        raise ValueError(f"target={target}: must be at least epsilon_0={floor:g}, the noise floor of Theorem 3")
    if r >= n:
        raise ValueError(f"r={r}: must be below n={n}, where the bound diverges")
    round_time = (c**2 * np.log(n / (n - r)) + c**2 + c) / n
    return _rounds(3 * gap, target, (1 - missed) * _kappa(mu, beta)) * round_time


def _kappa(mu: Scalar, beta: Scalar) -> Scalar:
    if not 0 < mu <= beta:
        raise ValueError(f"mu={mu}: must be positive and at most beta={beta}")
    return mu / beta


def _decay(T: Whole, mu: Scalar, beta: Scalar, missed: Value, step_size: StepSize) -> Value:
    rate = {"1/beta": 1, "(1-p)/beta": 1 - missed}[step_size]
    return (1 - rate * _kappa(mu, beta)) ** T


def _rounds(gap: Scalar, target: Real, rate: Value) -> Value:
    if rate == 1:
        raise ValueError("mu/beta=1: must be below 1; one round reaches the minimum")
    return np.log(np.maximum(gap / target, 1)) / -np.log1p(-rate)


def _missed_at_most_half(k: int, copies: int, r: int) -> Value:
    require_heard(k, r, least=1)
    if copies * r < k * np.log(2):
        raise ValueError(
            f"r={r}: Theorem 2 needs c >= n ln(2)/r, that is copies*r >= {k * np.log(2):g} (here {copies * r})"
        )
    return p_bound(k, copies, r)
