"""The notation as array types; each symbol has one meaning in code, configs, docs and plots.

n blocks of the training rows, k workers, load c (blocks per worker), M messages per round (M = k for most codes),
d parameters, m rows. Times are in seconds (`_s`), sizes in bytes (`_bytes`).
"""

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from erasurehead_jax.settings.policies import Late as Late, OnLoss as OnLoss

AnyArray = Array | np.ndarray

Params = Float[AnyArray, " d"]  # all parameters as one flat vector
Assignment = Float[np.ndarray, "n M"]  # G: message m is the sum over blocks i of G[i, m] * gradient of f_i
Owner = Int[np.ndarray, " M"]  # the worker that sends each message
Got = Bool[AnyArray, " M"]  # which messages have arrived this round
Weights = Float[AnyArray, "M *parts"]  # a: decoding weights, zero where `got` is False
Shares = Float[AnyArray, " n"]  # w = G @ a: the weight of each block in the decoded gradient; exact iff w == 1
Seconds = Float[AnyArray, " M"]
Number = float | int | np.number | Float[AnyArray, ""] | Int[AnyArray, ""]  # one number, possibly traced
Key = PRNGKeyArray
Verdict = Bool[AnyArray, ""] | bool | np.bool_
