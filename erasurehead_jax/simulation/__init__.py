"""The simulated backend: the time of a round is computed, not spent. Never imports MPI."""
