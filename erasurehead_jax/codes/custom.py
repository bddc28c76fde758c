"""Any assignment matrix, decoded optimally."""

from pathlib import Path

import numpy as np

from erasurehead_jax.codes.base import ROUNDING, AbstractCode
from erasurehead_jax.codes.least_squares import least_squares_weights
from erasurehead_jax.codes.on_host import on_host
from erasurehead_jax.errors import ConfigError
from erasurehead_jax.types import AnyArray, Assignment, Got, Owner, Verdict, Weights


class Custom(AbstractCode):
    """The assignment matrix G (blocks, messages), an array or a .npy or .csv file; decoding by least squares.

    `owner` is the worker that sends each message; by default every worker sends one. `blocks` and `workers`, if given,
    must be those of G.

    Raises ConfigError for a file that cannot be read, and for a matrix that is no code.
    """

    G: Assignment
    owner: Owner

    def __init__(
        self,
        G: str | Path | AnyArray | list[list[float]],
        owner: AnyArray | list[int] | None = None,
        blocks: int | None = None,
        workers: int | None = None,
    ):
        given = _read(Path(G)) if isinstance(G, str | Path) else np.asarray(G)
        what = f"scheme.code.G={G}" if isinstance(G, str | Path) else "Custom.G"
        if given.ndim != 2 or not given.size or given.dtype.kind not in "biuf":
            raise ConfigError(
                f"{what}: {given.dtype} {given.shape}; must be a matrix of real numbers, "
                "with a row for each block and a column for each message"
            )
        if not np.isfinite(given).all():
            row, column = np.argwhere(~np.isfinite(given))[0] + 1
            raise ConfigError(f"{what}: {given[row - 1, column - 1]} in row {row}, column {column}; must be finite")
        self.G = given.astype(float)
        self.owner = np.arange(self.G.shape[1]) if owner is None else np.asarray(owner)
        found = {"workers": len(np.unique(self.owner)), "blocks": self.G.shape[0]}
        for name, value in {"workers": workers, "blocks": blocks}.items():
            if value is not None and value != found[name]:
                raise ConfigError(f"{name}={value}: {what} has {found[name]} {name}; set {name}={found[name]}")

    @property
    def costly(self) -> bool:
        """True: it is computed on the host."""
        return True

    def decodable(self, got: Got) -> Verdict:
        return on_host(self._decodes, got)

    def weights(self, got: Got) -> Weights:
        return least_squares_weights(self.G, got)

    def _decodes(self, got: np.ndarray) -> np.bool_:
        return ((self.G @ least_squares_weights(self.G, got) - 1) ** 2).sum() < ROUNDING


def _read(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".csv":
            return np.loadtxt(path, delimiter=",", ndmin=2)
    except OSError as error:
        raise ConfigError(f"scheme.code.G={path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        hint = ": numbers separated by commas, one line a block, no header" * (path.suffix == ".csv")
        raise ConfigError(f"scheme.code.G={path}: is no matrix{hint} ({str(error).splitlines()[0]})") from error
    raise ConfigError(f"scheme.code.G={path}: must be a .npy or .csv file: one row a block, one column a message")
