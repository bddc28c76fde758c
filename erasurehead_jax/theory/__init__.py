"""Closed forms to check measurements and simulations against, in plain NumPy floats.

The symbols are those of docs/architecture.md and the paper: n blocks, k workers, load c, copies (the paper's l) = kc/n
workers that hold each block, r workers that have answered, groups = n/c. Where the paper has an error, the corrected
form has the plain name, and the paper's name ends in `_as_printed`.
"""

from erasurehead_jax.theory.convergence import (
    StepSize as StepSize,
    agc_time_bound as agc_time_bound,
    egc_time_bound as egc_time_bound,
    egc_time_bound_as_printed as egc_time_bound_as_printed,
    exact_gap_bound as exact_gap_bound,
    gap_bound as gap_bound,
    simple_gap_bound as simple_gap_bound,
    uncoded_time_bound as uncoded_time_bound,
)
from erasurehead_jax.theory.decode_errors import (
    adversarial_erasures as adversarial_erasures,
    bernoulli_one_step_error as bernoulli_one_step_error,
    bibd_error as bibd_error,
    block_model_one_step_error as block_model_one_step_error,
    expander_error_bound as expander_error_bound,
    fixed_share_variance_bound as fixed_share_variance_bound,
    fractional_repetition_error as fractional_repetition_error,
    least_exact_load as least_exact_load,
    one_step_error as one_step_error,
    sgc_share_variance as sgc_share_variance,
    unbiased_share_variance_bound as unbiased_share_variance_bound,
)
from erasurehead_jax.theory.moments import (
    exact_probability as exact_probability,
    mean_factor as mean_factor,
    p as p,
    p_bound as p_bound,
    q as q,
    second_moment as second_moment,
    second_moment_bound as second_moment_bound,
    workers_until_exact as workers_until_exact,
)
from erasurehead_jax.theory.round_times import (
    agc_round as agc_round,
    count_cdf as count_cdf,
    egc_round as egc_round,
    egc_round_as_printed as egc_round_as_printed,
    erasurehead_cdf as erasurehead_cdf,
    erasurehead_s as erasurehead_s,
    exact_cdf as exact_cdf,
    exact_s as exact_s,
    harmonic as harmonic,
    minimum_s as minimum_s,
    order_statistic_s as order_statistic_s,
    shifted_s as shifted_s,
    skip_cdf as skip_cdf,
    skip_s as skip_s,
    speed_up_limit as speed_up_limit,
    uncoded_round as uncoded_round,
    wait_for_all_cdf as wait_for_all_cdf,
    wait_for_all_s as wait_for_all_s,
)
