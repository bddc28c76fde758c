"""The MPI backend. Only transport.py imports mpi4py."""
