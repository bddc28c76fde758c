"""Backend 1: rounds are counted, not spent. No MPI import."""
