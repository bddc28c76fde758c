"""Float64, two devices, repeatable Hypothesis examples without a deadline, and a header line that names JAX."""

import os
import signal
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
os.environ.setdefault("NPROC", "3")  # threads of XLA: one more than devices, so that runs are shared out among two
jax.config.update("jax_num_cpu_devices", 2)  # work goes to the first unless a test shares it out
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

# A shell that starts the tests in the background has Ctrl-C ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = ("test_notebooks", "test_report", "test_theory", "test_whatif")  # beside those that start MPI ranks


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[np.dtype]:
    """Runs a test in either precision of a run; the value is that of its parameters."""
    with jax.enable_x64(request.param):
        yield np.dtype(np.float64 if request.param else np.float32)


def pytest_report_header() -> str:
    return f"jax {jax.__version__} on {jax.default_backend()}, x64"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that take long come first, so that test processes side by side end together."""
    items.sort(key=lambda item: item.get_closest_marker("mpi") is None and item.path.stem not in SLOW)
