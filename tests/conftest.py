"""Float64, repeatable Hypothesis examples without a time limit, and a header line that says which JAX ran them."""

import jax
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_report_header() -> str:
    return f"jax {jax.__version__} on {jax.default_backend()}, x64"
