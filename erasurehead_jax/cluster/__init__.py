"""The MPI backend. Only `transport` imports mpi4py."""
