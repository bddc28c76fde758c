"""Expected decode errors ||w - 1||^2 with r uniformly random answers, worst cases, and lower bounds for all codes.

w is the weight of each of the n blocks in the decoded gradient. One-step decoding gives every answer the weight
k / (r copies). r is at least 1, and may be an array.
"""

from erasurehead_jax.theory.moments import Real, Scalar, Value, Whole, p, require_heard


def one_step_error(n: int, k: int, copies: int, r: Whole) -> Value:
    """Any 0/1 code with `copies` of every block: n (k-r)(k-l) / ((k-1) r l), the variance of a hypergeometric count.

    The one-step error therefore cannot rank such codes. For n = k it is k(k-r)(k-c) / ((k-1) r c).
    """
    require_heard(k, r, least=1)
    return n * (k - r) * (k - copies) / (max(k - 1, 1) * r * copies)


def fractional_repetition_error(n: int, k: int, copies: int, r: Whole) -> Value:
    """Optimal decoding of fractional repetition: n p, the expected number of missing blocks (Lemma 2)."""
    return n * p(k, copies, r)


def bernoulli_one_step_error(k: int, c: Scalar, r: Whole) -> Value:
    """G of k x k independent Bernoulli(c/k) entries: k(k-c) / (rc). Charles, Papailiopoulos, Ellenberg 2017."""
    require_heard(k, r, least=1)
    return k * (k - c) / (r * c)


def block_model_one_step_error(k: int, c: Scalar, m: int, r: Whole, inside: Scalar) -> Value:
    """n = k, entries Bernoulli(inside) in groups of m and Bernoulli(outside) elsewhere, with an expected load of c.

    Charles & Papailiopoulos 2018. `outside` follows from m inside + (k-m) outside = c. inside = c/k is Bernoulli;
    inside = 1 with m = c is fractional repetition.
    """
    require_heard(k, r, least=1)
    outside = (c - m * inside) / max(k - m, 1)
    if not (0 <= inside <= 1 and 0 <= outside <= 1):
        raise ValueError(
            f"inside={inside}: must be a probability, as must the one outside the groups (here {outside:g})"
        )
    own = m / k  # expected fraction of the answers that come from a block's own group
    within = r * own * inside * (1 - inside) + r * (1 - own) * outside * (1 - outside)
    between = (inside - outside) ** 2 * r * own * (1 - own) * (k - r) / max(k - 1, 1)
    return k * (k / (r * c)) ** 2 * (within + between)


def bibd_error(n: int, c: int, common: int, r: Whole) -> Value:
    """Optimal decoding of any r >= 1 columns of weight c that pairwise share `common` blocks.

    n - c^2 r / (c + common (r-1)), whichever workers answer. Kadhe, Koyluoglu, Ramchandran 2019.
    """
    return n - c**2 * r / (c + common * (r - 1))


def expander_error_bound(n: int, degree: int, eigenvalue: Scalar, stragglers: int) -> Value:
    """Worst case of G = adjacency / degree under the weight n/(n-s): (eigenvalue/degree)^2 n s/(n-s). Raviv et al.

    `eigenvalue` is the second largest of the adjacency matrix in absolute value; s < n stragglers.
    """
    return (eigenvalue / degree) ** 2 * n * stragglers / (n - stragglers)


def unbiased_share_variance_bound(straggling: Real, copies: Whole) -> Value:
    """The smallest variance of a block's weight under any unbiased decoder: p^d / (1 - p^d) with d copies.

    Workers straggle independently with probability p. Multiplied by n it is a lower bound on E||w - 1||^2, which
    rescaled fractional repetition attains.
    """
    lost = straggling**copies
    return lost / (1 - lost)


def fixed_share_variance_bound(straggling: Real, copies: Whole) -> Value:
    """As `unbiased_share_variance_bound`, for weights that do not depend on which workers answer: p / (d (1-p))."""
    return straggling / (copies * (1 - straggling))


def sgc_share_variance(straggling: Real, copies: Whole) -> Value:
    """Pair-wise balanced stochastic code: variance of a block's weight, p / (d (1-p)), minimal for fixed weights.

    Bitar, Wootters, El Rouayheb 2020; workers straggle independently with probability p.
    """
    return fixed_share_variance_bound(straggling, copies)


def least_exact_load(stragglers: int) -> int:
    """The smallest load (n = k) of a code that is exact for every set of s stragglers: s + 1. Tandon et al. 2017."""
    return stragglers + 1


def adversarial_erasures(stragglers: int, copies: int) -> int:
    """The blocks an adversary can always erase by stopping s workers: floor(s/d). Each adds 1 to the decode error."""
    return stragglers // copies
