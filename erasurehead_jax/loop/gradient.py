"""`coded_gradient`: a function that stands where `jax.grad(loss)` stood."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax
from jaxtyping import PyTree

from erasurehead_jax.delays import AbstractDelay, NoDelay
from erasurehead_jax.errors import ConfigError, shown
from erasurehead_jax.loop.loss import Loss
from erasurehead_jax.loop.parameters import Parameters
from erasurehead_jax.loop.rounds import AbstractRounds, Backend, Info, Setup
from erasurehead_jax.loop.rows import as_rows
from erasurehead_jax.loop.simulated import SIMULATOR
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.schemes import sizes_of
from erasurehead_jax.settings import nearest
from erasurehead_jax.settings.compose import resolved, with_settings

OWN = ("seed", "late", "batch", "compute_s", "overhead_s")  # settings of `train`
OF_CLUSTER = ("on_loss", "heartbeat_s", "lost_s", "chunk_rows", "shutdown_s")  # and of its group `cluster`


class Now(NamedTuple):
    """The state of this process."""

    backend: Backend = SIMULATOR
    open: bool = False  # whether it is inside a with block


_now = Now()


def use(backend: Backend) -> None:
    """Makes this backend that of all later gradients: `run` does so in the process that executes the script."""
    global _now
    _now = Now(backend)


def coded_gradient(
    loss: Callable[..., Any],
    params: PyTree,
    data: Any,
    scheme: Scheme,
    *,
    delay: AbstractDelay = NoDelay(),  # noqa: B008 - immutable
    **settings: Any,
) -> "Opening":
    """Computes gradients of the mean of a loss on the workers of a scheme: `with coded_gradient(...) as gradient:`.

    `gradient(params)` returns `(gradient, info)`: the decoded mean of the row gradients, of the structure of `params`,
    and an `Info`. Its only argument is `params`, because the workers hold the data. In a script that
    `python -m erasurehead_jax.run -n WORKERS script.py` has started, real workers compute it. Otherwise the rounds are
    simulated, and the clock counts what they would take.

    `loss(params, *data)` returns one value a row, or the mean over the rows that it is given; the loss of a row must
    not depend on other rows. `params`, a pytree of arrays of floats, is the starting point, of which only structure and
    shapes matter later. `data` is a tuple of arrays, or of pytrees of arrays, whose first axis is the rows; anything
    but a tuple or list is one argument. Of a Dataset, the loss is given features and target of the training rows.

    `settings` are those of `train` that apply: `seed`, `late`, `batch`, `compute_s` and `overhead_s`, and of its group
    `cluster` `on_loss`, `heartbeat_s`, `lost_s`, `chunk_rows` and `shutdown_s`.

    Raises ConfigError for what does not fit together. `gradient` raises Stopped if so many workers are lost that the
    scheme's stopping rule can never hold, and Diverged if no gradient is finite.
    """
    return Opening(_opened(functools.partial(_setup, loss, params, data, scheme, delay, settings)))


class Opening(contextlib.AbstractContextManager["Gradient"]):
    """What `coded_gradient` returns: a `with` block gets the gradient from it."""

    def __init__(self, opened: contextlib.AbstractContextManager["Gradient"]):
        self._opened = opened

    def __enter__(self) -> "Gradient":
        return self._opened.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        return self._opened.__exit__(*raised)

    def __call__(self, *arguments: Any) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError("coded_gradient: is not open; open it with `with coded_gradient(...) as gradient:`")

    def __iter__(self) -> Iterator[Any]:
        """Raises ConfigError."""
        return self()


class Gradient:
    """The decoded gradient of the mean of a loss."""

    def __init__(self, rounds: AbstractRounds, setup: Setup):
        self._rounds, self._setup, self._round, self.ended = rounds, setup, 0, False

    def __call__(self, params: PyTree, *data: Any) -> tuple[PyTree, Info]:
        """Runs a round. Raises ConfigError after the with block, for params of another structure, and for data."""
        if data:
            raise ConfigError("gradient: is given data; its only argument is params, because the workers hold the data")
        if self.ended:
            raise ConfigError("gradient: is called after its with block, whose workers are gone; call it inside")
        parameters, rows = self._setup.loss.parameters, len(self._setup.rows)
        x = parameters.ravel(params)
        self._setup.delay.check(self._setup.scheme.code.workers, self._round + 1)
        self._round += 1
        decoded, info = self._rounds.gradient(x)
        return parameters.arrays(decoded / rows), info


@contextlib.contextmanager
def _opened(make: Callable[[Backend], Setup]) -> Iterator[Gradient]:
    with _alone() as backend:
        setup = make(backend)
        with backend.rounds(setup) as rounds:
            gradient = Gradient(rounds, setup)
            try:
                yield gradient
            finally:
                gradient.ended = True


@contextlib.contextmanager
def _alone() -> Iterator[Backend]:
    """Raises ConfigError inside another with block: all workers work for one."""
    global _now
    if _now.open:
        raise ConfigError("coded_gradient: is already open; leave its with block before the next one")
    before, _now = _now, _now._replace(open=True)
    try:
        yield before.backend
    finally:
        _now = before


def _setup(
    loss: Callable[..., Any],
    params: PyTree,
    data: Any,
    scheme: Scheme,
    delay: AbstractDelay,
    settings: dict[str, Any],
    backend: Backend,
) -> Setup:
    config = _config(backend.config(), scheme, settings)
    parameters, rows = Parameters(params), as_rows(data)
    own, start = Loss(loss, parameters), parameters.ravel(params)
    own.try_out(start, rows)
    return Setup(config, own, rows, scheme, delay, start)


def _config(config: dict[str, Any], scheme: Scheme, settings: dict[str, Any]) -> dict[str, Any]:
    for name, value in settings.items():
        if name not in (known := (*OWN, *OF_CLUSTER)):
            raise ConfigError(f"{name}={shown(value)}: unknown setting; {nearest(name, known)}")
    own = {name: value for name, value in settings.items() if name in OWN}
    cluster = {name: value for name, value in settings.items() if name in OF_CLUSTER}
    fixed = {"x64": bool(jax.config.jax_enable_x64), "rounds": 1}  # pyright: ignore - rounds are checked one by one
    return resolved(with_settings(config, own | sizes_of(scheme) | fixed | {"cluster": cluster}))
