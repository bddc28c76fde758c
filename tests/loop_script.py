"""Run by test_loop.py with `run` on four workers: everything that one start of the ranks can show, as lines of JSON."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Spaced, ranks_of

import erasurehead_jax as eh

jax.config.update("jax_enable_x64", True)
IMAGES = np.random.default_rng(0).standard_normal((103, 2, 3))
NAMES = np.arange(103) % 3
EXACT, UNCODED = eh.egc(4, 2), eh.uncoded(4)
APPROXIMATE: dict[str, Any] = {
    "scheme": eh.erasurehead(4, 2, 1),
    "delay": Spaced(),
    "seed": 5,
    "late": "wait",
    "batch": 0.5,
}


class Network(eqx.Module):
    """Of the script, so that nobody can import it; its parameters have two types."""

    first: eqx.nn.Linear
    scale: jax.Array

    def __call__(self, image: jax.Array) -> jax.Array:
        return jnp.tanh(self.first(image.reshape(-1))) * self.scale


START, STATIC = eqx.partition(
    Network(eqx.nn.Linear(6, 3, key=jax.random.key(0)), jnp.ones((), jnp.float32)), eqx.is_inexact_array
)


def loss(params: Any, images: Any, names: Any) -> jax.Array:
    logits = jax.vmap(eqx.combine(params, STATIC))(images)
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(len(names)), names])


def coded(scheme: eh.Scheme, **settings: Any) -> contextlib.AbstractContextManager[Any]:
    return eh.coded_gradient(loss, START, (IMAGES, NAMES), scheme, **settings)


def descend(scheme: eh.Scheme, meanwhile: Callable[[int], None] = lambda t: None, **settings: Any) -> dict[str, Any]:
    """Six steps, as JSON can hold them; `meanwhile` is called before each."""
    at, errors, infos = START, [], []
    with coded(scheme, **settings) as gradient:
        for t in range(6):
            meanwhile(t)
            step, info = gradient(at)
            errors.append(error_of(step, at))
            infos.append(info._asdict())
            at = jax.tree.map(lambda x, g: x - 0.5 * g, at, step)
    return {"errors": errors, "infos": infos, "loss": float(loss(at, IMAGES, NAMES))}


def error_of(gradient: Any, at: Any) -> float:
    """The largest difference to jax.grad of all rows. Asserts that structure, shapes and types are those of `at`."""
    jax.tree.map(lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), gradient, at)
    true = jax.grad(loss)(at, IMAGES, NAMES)
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(abs(a - b).max()), gradient, true)))


def refused(call: Callable[[], Any]) -> str:
    """The one line of an error."""
    try:
        call()
    except (eh.ConfigError, eh.Stopped) as error:
        return str(error)
    return "not refused"


def tell(name: str, **facts: Any) -> None:
    print(json.dumps({"name": name} | facts), flush=True)


def main() -> None:
    ranks = ranks_of(next(Path(os.environ["TMPDIR"]).glob("erasurehead-jax-*")))

    def kill(t: int) -> None:
        for worker in (1, 2) if t == 2 else ():
            os.kill(ranks[worker + 1], signal.SIGKILL)
            time.sleep(0.1)

    print("standard output", sys.argv[1:], sys.stdin.readline().strip(), flush=True)
    print("standard error", file=sys.stderr)
    tell("main", module=__name__, beside=sys.path[0], file=__file__)
    tell("exact", **descend(EXACT))
    tell("approximate", **descend(**APPROXIMATE))
    tell("uncoded", **descend(UNCODED))

    said: list[str] = []
    with coded(EXACT) as gradient:
        thread = threading.Thread(target=lambda: said.append(refused(lambda: gradient(START))))
        thread.start()
        thread.join()
        nested = refused(coded(EXACT).__enter__)
    late = refused(lambda: gradient(START))
    other = refused(coded(eh.egc(6, 2)).__enter__)
    root = eh.coded_gradient(lambda p, x: jnp.sqrt(p * x[:, 0, 0] ** 2), 0.0, (IMAGES,), EXACT)
    tell("refused", thread=said[0], nested=nested, late=late, other=other, infinite=refused(root.__enter__))

    with coded(EXACT, delay=Spaced()) as gradient:  # whose rounds take at least 50 ms
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                gradient(START)
        tell("interrupted", error=error_of(gradient(START)[0], START))

    tell("killed", **descend(EXACT, kill))
    tell("without them", **descend(EXACT))
    tell("stopped", reason=refused(lambda: descend(UNCODED)))
    tell("what is left", **descend(UNCODED, on_loss="approximate"))
    sys.exit(7)


if __name__ == "__main__":
    main()
