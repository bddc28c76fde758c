"""Mean and distribution of the round time when workers' times are i.i.d. exponential with mean `mean_s`.

Lemmas 6 to 8 of the ErasureHead paper, extended to the late policies `cancel`, `wait` and `skip`. Computation and
communication take no time here. Fractional repetition has k = groups * copies workers.
"""

import numpy as np
from scipy.integrate import quad
from scipy.special import betainc, digamma, gammainc
from scipy.stats import binom

from erasurehead_jax.theory.moments import Real, Scalar, Value, Whole, exact_probability, require_heard


def harmonic(m: Whole) -> Value:
    """H_m = 1 + 1/2 + ... + 1/m, and H_0 = 0."""
    return digamma(np.add(m, 1)) + np.euler_gamma


def order_statistic_s(k: int, r: Whole, mean_s: Real) -> Value:
    """Lemma 6: mean of the r-th smallest of k exponentials, mean_s (H_k - H_{k-r}).

    This is a round that waits for the r fastest workers, late=cancel.
    """
    require_heard(k, r)
    return mean_s * (harmonic(k) - harmonic(np.subtract(k, r)))


def minimum_s(c: Whole, mean_s: Real) -> Value:
    """Lemma 7: the minimum of c exponentials is exponential with mean mean_s / c."""
    return mean_s / c


def wait_for_all_s(k: int, mean_s: Real) -> Value:
    """mean_s H_k: a round that waits for all workers; with late=wait, the time to the next round under any rule."""
    return order_statistic_s(k, k, mean_s)


def exact_s(groups: int, copies: int, mean_s: Real) -> Value:
    """Fractional repetition until it decodes, late=cancel: (mean_s / copies) H_groups.

    The maximum of `groups` minima of `copies` exponentials (Lemmas 6 and 7).
    """
    return order_statistic_s(groups, groups, minimum_s(copies, mean_s))


def erasurehead_s(groups: int, copies: int, r: int, mean_s: Scalar) -> float:
    """Fractional repetition until it decodes or r workers have answered, late=cancel.

    Sum over i < r of mean_s / (k-i) * P(i workers do not decode): spacings do not depend on which workers arrive.
    """
    k, answers = groups * copies, np.arange(r)
    require_heard(k, r)
    return np.sum(mean_s / (k - answers) * (1 - exact_probability(groups, copies, answers)))


def skip_s(k: int, r: int, mean_s: Scalar) -> float:
    """Count(r) under late=skip, from the second round on: integral of P(fewer than r have answered by t).

    Late policies differ only if workers are late: for r = k this is `wait_for_all_s`. There is no closed form here for
    late=queue, nor for rules that depend on which workers answer, because a backlog then depends on the past: simulate
    these.
    """
    return mean_s * quad(lambda t: 1 - skip_cdf(t, k, r, 1.0), 0, np.inf)[0]


def count_cdf(t_s: Real, k: int, r: int, mean_s: Scalar) -> Value:
    """P(round <= t) for the r >= 1 fastest, late=cancel: at least r of k exponentials, a regularised beta function."""
    require_heard(k, r, least=1)
    return betainc(r, k - r + 1, _answered(t_s, mean_s))


def wait_for_all_cdf(t_s: Real, k: int, mean_s: Scalar) -> Value:
    """P(round <= t) when waiting for all workers; with late=wait, of the time to the next round under any rule."""
    return _answered(t_s, mean_s) ** k


def exact_cdf(t_s: Real, groups: int, copies: int, mean_s: Scalar) -> Value:
    """P(round <= t) for fractional repetition until it decodes, late=cancel: (1 - exp(-copies t / mean_s))^groups."""
    return _answered(t_s, mean_s / copies) ** groups


def erasurehead_cdf(t_s: Real, groups: int, copies: int, r: int, mean_s: Scalar) -> Value:
    """P(round <= t) for fractional repetition until it decodes or r >= 1 workers have answered, late=cancel."""
    k, answers = groups * copies, np.arange(r)
    exactly = binom.pmf(answers, k, np.expand_dims(_answered(t_s, mean_s), -1))
    return count_cdf(t_s, k, r, mean_s) + (exactly * exact_probability(groups, copies, answers)).sum(-1)


def skip_cdf(t_s: Real, k: int, r: int, mean_s: Scalar) -> Value:
    """P(round <= t) for count(r) under late=skip, from the second round on.

    The r workers that were used start afresh; the k-r others first finish old work, whose remaining time is again
    exponential (memorylessness), so that the time of their answer has a Gamma distribution of shape 2.
    """
    require_heard(k, r, least=1)
    fresh = np.expand_dims(_answered(t_s, mean_s), -1)
    stale = gammainc(2, np.expand_dims(np.maximum(t_s, 0) / mean_s, -1))
    by_fresh = np.arange(r + 1)
    return (binom.pmf(by_fresh, r, fresh) * binom.sf(r - 1 - by_fresh, k - r, stale)).sum(-1)


def shifted_s(load: Real, shift_s: Real, round_s: Real) -> Value:
    """Section 4: workers hold a fraction `load` of the data and take load * (shift_s + exponential), late=cancel.

    `round_s` is the round time for the exponentials alone, from any of the functions above (with late=cancel).
    """
    return load * (shift_s + round_s)


def uncoded_round(n: int, mean_s: Real, shift_s: Real = 1.0) -> Value:
    """Lemma 8 (12): 1/n + H_n/(lambda n). The paper's unit is shift_s = 1, mean_s = 1/lambda; n = k."""
    return shifted_s(1 / n, shift_s, wait_for_all_s(n, mean_s))


def egc_round(n: int, c: int, mean_s: Real, shift_s: Real = 1.0) -> Value:
    """Lemma 8 (13), corrected: c/n + H_{n/c}/(lambda n), n/c minima of c exponentials of mean c/(lambda n)."""
    if n % c:
        raise ValueError(f"c={c}: must divide n={n}")
    return shifted_s(c / n, shift_s, exact_s(n // c, c, mean_s))


def egc_round_as_printed(n: int, c: int, mean_s: Real, shift_s: Real = 1.0) -> Value:
    """Lemma 8 (13) as printed: c/n + (H_n - H_c)/(lambda n), always too small; c = 1 contradicts (12)."""
    return shift_s * c / n + mean_s * (harmonic(n) - harmonic(c)) / n


def agc_round(n: int, c: int, r: Whole, mean_s: Real, shift_s: Real = 1.0) -> Value:
    """Lemma 8 (14): c/n + c(H_n - H_{n-r})/(lambda n), an upper bound: fewer than r answers may decode."""
    return shifted_s(c / n, shift_s, order_statistic_s(n, r, mean_s))


def speed_up_limit(k: int, r: Whole) -> Value:
    """H_k / (H_k - H_{k-r}): uncoded over the r fastest, if sleeps do not grow with the load and nothing else costs."""
    return harmonic(k) / order_statistic_s(k, r, 1.0)


def _answered(t_s: Real, mean_s: Scalar) -> Value:
    return -np.expm1(-np.maximum(t_s, 0) / mean_s)
