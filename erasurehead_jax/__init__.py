"""Gradient coding for distributed training: real MPI runs and simulated ones from the same objects.

The public names are those of __init__.pyi. They load when used: a report needs no JAX, which is slow to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
