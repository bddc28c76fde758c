"""Optimal decoding: the weights with the smallest decode error, for any code and any messages."""

import numpy as np
from jaxtyping import Bool, Float

from erasurehead_jax.codes.on_host import on_host
from erasurehead_jax.types import Got, Weights

DENSE_UP_TO = 64  # messages; below, LAPACK's singular value decomposition is as fast
DAMPING = 1e-11  # relative to the largest eigenvalue: what float64 needs to factorise a singular matrix
CONVERGED, MOST_STEPS = 1e-13, 30


def least_squares_weights(G: Float[np.ndarray, "n M"], got: Got) -> Weights:
    """The a that minimises ||G a - 1||^2 with a = 0 where `got` is False (optimal decoding); of several, a short one.

    Always computed in float64 and by NumPy, for a traced mask too: in float32 a random G is too ill-conditioned to be
    decoded exactly.
    """
    return on_host(lambda mask: _weights(G, mask), got)


def _weights(G: Float[np.ndarray, "n M"], got: Bool[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    a = np.zeros(len(got))
    if got.any():
        A = G[:, got]
        found = None if A.shape[1] <= DENSE_UP_TO else _damped(A)
        a[got] = np.linalg.lstsq(A, np.ones(len(A)), rcond=None)[0] if found is None else found
    return a


def _damped(A: Float[np.ndarray, "n r"]) -> Float[np.ndarray, " r"] | None:
    """The same by iterated Tikhonov regularisation: a += (A'A + damping)^-1 A'(1 - A a), from zero.

    One Cholesky factorisation instead of a singular value decomposition, which takes 20 times as long. None if it does
    not converge, because A has singular values that are tiny, but not zero.
    """
    import scipy.linalg  # SciPy is slow to import, and few codes need it
    import scipy.sparse

    sparse = scipy.sparse.csr_array(A)
    gram = (sparse.T @ sparse).toarray()
    gram[np.diag_indices_from(gram)] += DAMPING * np.abs(gram).sum(1).max()
    factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    a = np.zeros(A.shape[1])
    for _ in range(MOST_STEPS):
        step = scipy.linalg.cho_solve(factor, sparse.T @ (1 - sparse @ a), check_finite=False)
        a += step
        if np.abs(step).max() <= CONVERGED * np.abs(a).max():
            return a
    return None
