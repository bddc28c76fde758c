"""Training on the paper's data on real ranks against gradient descent in SciPy: the training loss of every round."""

from pathlib import Path

import numpy as np
import pytest
from harness import train
from reference import gradient_descent
from test_data import needs_raw

from erasurehead_jax.data import amazon, kc_housing

pytestmark = [pytest.mark.mpi, needs_raw]
SETTING = ("workers=6", "load=3", "rounds=10", "tracking=none")
EXACT = ("uncoded", "egc", "egc_cyclic")
THE_OTHERS = [
    ("kc_housing", "egc", "true", 1e-10),
    ("kc_housing", "egc_cyclic", "true", 1e-10),
    ("amazon", "uncoded", "true", 1e-10),
    *((data, scheme, "false", 1e-4) for data in ("kc_housing", "amazon") for scheme in EXACT),
]


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return {
        "kc_housing": gradient_descent(kc_housing(), "least_squares", 10, 0.1, 0.99),
        "amazon": gradient_descent(amazon(), "logistic", 10, 10.0),
    }


@pytest.mark.parametrize(
    ("data", "scheme", "x64", "rtol"),
    [
        ("kc_housing", "uncoded", "true", 1e-10),
        ("amazon", "egc", "true", 1e-10),
        ("amazon", "egc_cyclic", "true", 1e-10),
        *(pytest.param(*case, marks=pytest.mark.soak) for case in THE_OTHERS),
    ],
)
def test_every_round(tmp_path: Path, expected, data: str, scheme: str, x64: str, rtol: float):
    run = train(tmp_path, f"experiment={data}", "delay=none", f"scheme={scheme}", f"x64={x64}", *SETTING)
    assert run.status == 0, run.err
    np.testing.assert_allclose(run.history["train_loss"], expected[data], rtol=rtol)


def test_covertype_with_every_worker_its_own_chunks(tmp_path: Path):
    """Dense columns for low-cardinality fields, chunks that do not divide the rows, and one round of 396,112 rows."""
    from erasurehead_jax.data import covertype

    run = train(
        tmp_path,
        "experiment=covertype",
        "delay=none",
        "scheme=egc",
        "x64=true",
        *SETTING[:2],
        "rounds=2",
        "tracking=none",
    )
    assert run.status == 0, run.err
    np.testing.assert_allclose(run.history["train_loss"], gradient_descent(covertype(), "logistic", 2, 0.1), rtol=1e-10)
