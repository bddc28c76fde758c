"""Float64 for every test, and a header that says which JAX ran them."""

import jax

jax.config.update("jax_enable_x64", True)


def pytest_report_header() -> str:
    return f"jax {jax.__version__} on {jax.default_backend()}, x64"
