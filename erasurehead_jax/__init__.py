"""Gradient coding for distributed training: real MPI runs and simulated ones from the same objects.

The public names are those of __init__.pyi. They load when used: a report needs no JAX, which is slow to import.
"""

import sys
from types import ModuleType

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(ModuleType):
    """Importing the module of a command (train, whatif, report) does not hide the function of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
