"""cloudpickle, with Equinox modules and their classes made on arrival as Equinox makes them."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import cloudpickle
import equinox as eqx


class Pickler(cloudpickle.Pickler):
    """Sends by value what a script or notebook defines, its Equinox classes included."""

    def reducer_override(self, obj: Any) -> Any:
        """How an object is made on arrival; NotImplemented for what pickle knows."""
        if isinstance(obj, eqx.Module):
            return _module, (type(obj), vars(obj))
        reduced: Any = super().reducer_override(obj)
        if isinstance(obj, type) and issubclass(obj, eqx.Module) and isinstance(reduced, tuple):  # sent by value
            make, arguments, (state, slots), *rest = reduced
            state.pop("__dataclass_fields__", None)  # which the class gets from its fields
            return _module_class, (make, arguments, _own_fields(obj), "__init__" in state), (state, slots), *rest
        return reduced


def _own_fields(kind: type) -> dict[str, dict[str, Any]]:
    """The fields that an Equinox class adds to those of its bases, as arguments of `dataclasses.field`."""
    own = inspect.get_annotations(kind)
    names = ("default", "default_factory", "init", "kw_only")
    return {
        each.name: {name: value for name in names if (value := getattr(each, name)) is not dataclasses.MISSING}
        | {"metadata": dict(each.metadata)}
        for each in dataclasses.fields(kind)
        if each.name in own
    }


def _module_class(
    make: Callable[..., type], arguments: tuple[Any, ...], fields: dict[str, dict[str, Any]], has_init: bool
) -> type:
    """An Equinox class with its fields from the start: it registers as a pytree before cloudpickle fills it."""
    constructor, name, bases, namespace, *rest = arguments
    declared = {field: dataclasses.field(**settings) for field, settings in fields.items()}
    filled_later = {"__init__": lambda self: None} if has_init else {}
    annotations = {"__annotations__": dict.fromkeys(fields, Any)}
    return make(constructor, name, bases, namespace | declared | annotations | filled_later, *rest)


def _module(kind: type, values: dict[str, Any]) -> Any:
    """An Equinox module: one that pickle itself makes counts as unfinished in Equinox 0.13, and is never freed."""
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made
