"""Moments of the gradient from r uniformly random answers (Lemmas 2 to 5 of the ErasureHead paper); exact decoding.

Fractional repetition: k workers in groups of `copies` = kc/n, each group on c of the n blocks, so c/n = copies/k.
r may be an array; for p and q so may copies.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num
from scipy.special import gammaln

Whole = int | np.integer | Int[np.ndarray, "..."]
Scalar = float | int  # a np.float64 is a float
Real = Scalar | Num[np.ndarray, "..."]
Value = Any  # a float for numbers, an array of the broadcast shape for arrays


def require_heard(k: int, r: Whole, least: int = 0) -> None:
    """Raises ValueError unless `least` <= r <= k."""
    if np.any(np.less(r, least) | np.greater(r, k)):
        raise ValueError(f"r={r}: must lie between {least} and k={k}, the number of workers")


def p(k: int, copies: Whole, r: Whole) -> Value:
    """Lemma 2: probability that none of r uniformly random workers is among `copies` given ones, C(k-l, r) / C(k, r).

    Computed with log-gamma, which does not overflow and has a relative error of about 1e-11 at k = 10_000.
    """
    require_heard(k, r)
    others = np.maximum(np.subtract(k, copies), 0)
    drawn = np.minimum(r, others)
    # Grouped so that both brackets are exactly zero for r = 0.
    log_p = (gammaln(others + 1) - gammaln(others - drawn + 1)) + (gammaln(k - drawn + 1) - gammaln(k + 1))
    return np.where(np.less_equal(r, others), np.exp(log_p), 0.0)[()]


def q(k: int, copies: Whole, r: Whole) -> Value:
    """Lemma 2: probability that at least one of two groups is missed, 2p - C(k-2l, r) / C(k, r)."""
    return 2 * p(k, copies, r) - p(k, 2 * copies, r)


def p_bound(k: int, copies: Whole, r: Whole) -> Value:
    """Lemma 5: p <= exp(-cr/n), here as exp(-copies r/k)."""
    return np.exp(-np.multiply(copies, r) / k)


def mean_factor(k: int, copies: Whole, r: Whole) -> Value:
    """Lemma 3: E[g] = (1 - p) * gradient of f, where g is 1/n times the plain sum over the blocks of r workers."""
    return 1 - p(k, copies, r)


def second_moment(
    k: int, copies: int, r: Whole, n: int, gradient_norm2: Scalar, group_norms2: Float[np.ndarray, " groups"]
) -> Value:
    """Lemma 3: E|g|^2 = (1-q) |gradient of f|^2 + (q-p)/n^2 * sum of |g[i]|^2 over the groups.

    g[i] is the sum of group i's c gradients of the paper's f_i, where f = (1/n) sum f_i; norms come squared.
    """
    missed, either = p(k, copies, r), q(k, copies, r)
    return (1 - either) * gradient_norm2 + (either - missed) * group_norms2.sum() / n**2


def second_moment_bound(k: int, copies: int, r: Whole, gradient_norm2: Scalar, sigma: Scalar) -> Value:
    """Lemma 4: Lemma 3 with |g[i]|^2 <= c^2 sigma^2, given |gradient of f_i| <= sigma for every (the paper's) f_i.

    The paper's (5) divides by n^2 once too often; Lemma 4 itself is printed correctly.
    """
    missed, either = p(k, copies, r), q(k, copies, r)
    return (1 - either) * gradient_norm2 + (either - missed) * copies / k * sigma**2


def exact_probability(groups: int, copies: int, r: Whole) -> Value:
    """Probability that r uniformly random workers cover every group, by inclusion-exclusion over the missed groups.

    Computed in integers up to the last division, because the terms alternate and cancel.
    """
    k = groups * copies
    require_heard(k, r)

    def chance(r):
        signed = ((-1) ** j * math.comb(groups, j) * math.comb(k - j * copies, r) for j in range(groups + 1))
        return sum(signed) / math.comb(k, r)

    return np.vectorize(chance, otypes=[float])(r)[()]


def workers_until_exact(groups: int, copies: int) -> float:
    """Expected number of workers, in random order of arrival, until every group is covered."""
    return np.sum(1 - exact_probability(groups, copies, np.arange(groups * copies)))
