"""Which GPU a rank uses. Computing on it can only be tested on a machine with a GPU."""

import os

import pytest

from erasurehead_jax.cluster.gpu import local_rank, take_gpu


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"])
@pytest.mark.parametrize(
    ("visible", "expected"),
    [("0,1,2", ["0", "1", "2", "0"]), ("3", ["3"] * 4), ("GPU-a,GPU-b", ["GPU-a", "GPU-b"] * 2)],
)
def test_ranks_of_a_host_take_its_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, name: str, visible: str, expected: list[str]
):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    taken = []
    for rank in range(4):
        monkeypatch.setenv(name, str(rank))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert local_rank() == rank
        take_gpu()
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == expected
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
