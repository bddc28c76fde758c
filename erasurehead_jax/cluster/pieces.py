"""Which coordinates a model and a message consist of; a worker says so once, in a greeting.

A worker needs those that its blocks touch. A message has those that its own blocks touch or, where messages are shorter
than the gradient, their places within a part: part p of d parameters has those from p * ceil(d / parts) on, and the
last part ends with zeros.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

ALL = -1  # in place of a number of coordinates: all of them, in the model and in every message

Coordinates = Int[np.ndarray, " t"]


def part_length(parameters: int, parts: int) -> int:
    """The length of a part."""
    return -(-parameters // parts)


def places(coordinates: Coordinates, parameters: int, parts: int) -> tuple[Int[np.ndarray, " u"], Coordinates]:
    """The places of these coordinates within a part, each once and in order, and which of them each coordinate has."""
    return np.unique(coordinates % part_length(parameters, parts), return_inverse=True)


def greeting(touched: Coordinates | None, messages: Iterable[Coordinates]) -> Int[np.ndarray, " g"]:
    """What a worker's model and messages consist of. `touched` is None if every coordinate is."""
    if touched is None:
        return np.array([ALL])
    return np.concatenate([part for each in (touched, *messages) for part in ([len(each)], each)])


def read_greeting(
    content: Int[np.ndarray, " g"], parameters: int, length: int, messages: int
) -> tuple[Coordinates, list[Coordinates]]:
    """The coordinates of a worker's model, and of each of its messages, within a part of this `length`."""
    if content[0] == ALL:
        return np.arange(parameters), [np.arange(length)] * messages
    found = []
    for _ in range(1 + messages):
        count, content = content[0], content[1:]
        found.append(content[:count])
        content = content[count:]
    return found[0], found[1:]
