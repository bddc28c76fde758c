"""Equinox modules on their way to the ranks: they stay pytrees, whoever defined them, and are freed again."""

import gc
import sys
import weakref
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import execute

from erasurehead_jax.cluster.parcel import parcel, unpack
from erasurehead_jax.data import Dense

ELSEWHERE = """
import json, sys
from pathlib import Path
import jax, numpy as np
from erasurehead_jax.cluster.parcel import unpack
net, kind = unpack(Path(sys.argv[1]))
jitted = jax.jit(lambda net, x: net(x))
twice = jax.tree.map(lambda leaf: 2 * leaf, net)
names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(net)[0]]
print(json.dumps([names, net.name, net.kind, float(jitted(net, 3.0)), float(twice(3.0)), float(kind(4.0)(3.0))]))
"""


def test_a_class_of_a_script_is_a_pytree_elsewhere_too(tmp_path: Path):
    class Base(eqx.Module):
        scale: jax.Array = eqx.field(converter=jnp.asarray)

    class Net(Base):
        inner: list[Any]
        name: str = eqx.field(static=True, default="unnamed")
        kind: ClassVar[str] = "a class variable"

        def __init__(self, scale: float, name: str = "mine"):
            self.scale, self.inner, self.name = jnp.asarray(scale), [jnp.ones(2)], name

        def __call__(self, x: float) -> jax.Array:
            return self.scale * x + self.inner[0].sum()

    with parcel(tmp_path, (Net(5.0), Net)):
        done = execute([sys.executable, "-c", ELSEWHERE, tmp_path], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[[".scale", ".inner[0]"], "mine", "a class variable", 17.0, 34.0, 14.0]'


def test_what_was_sent_is_freed(tmp_path: Path):
    with parcel(tmp_path, Dense(np.ones((50, 3)))):
        got = unpack(tmp_path)
    matrix = weakref.ref(got.matrix)
    assert [leaf.shape for leaf in jax.tree.leaves(got)] == [(50, 3)]
    del got
    gc.collect()
    assert matrix() is None
