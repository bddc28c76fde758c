"""Which rows of its blocks a round uses: all of them, a mini-batch, or a mini-batch with SVRG's variance reduction."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from erasurehead_jax.data import block_bounds
from erasurehead_jax.errors import ConfigError, shown
from erasurehead_jax.settings.policies import Snapshot


class Sampling(NamedTuple):
    """The rows of each round. A round t may be traced.

    With SVRG (Johnson and Zhang 2013), rounds 0, `snapshot_every`, 2 `snapshot_every`, ... are snapshots: they use all
    rows, and their point and decoded gradient are kept. In the other rounds a block's sum is that of the differences
    between the gradients at the model and at the snapshot, to which the master adds the gradient kept.
    """

    batch: int | None = None  # rows of every block; None: all
    share: float = 1.0  # of all rows
    snapshot_every: int | None = None  # None: no variance reduction
    exact_snapshots: bool = False  # snapshots wait until the exact gradient can be decoded

    @property
    def points(self) -> int:
        """The number of vectors that workers need: the model and, with SVRG, the snapshot."""
        return 1 if self.snapshot_every is None else 2

    def is_snapshot(self, t: Any) -> Any:
        """Whether round t is a snapshot of SVRG."""
        return t % self.snapshot_every == 0 if self.snapshot_every else np.False_

    def waits_for_exact(self, t: Any) -> Any:
        """Whether round t waits until the exact gradient can be decoded, whatever the scheme's rule."""
        return self.is_snapshot(t) if self.exact_snapshots else np.False_

    def is_whole(self, t: Any) -> Any:
        """Whether round t uses all rows."""
        return np.True_ if self.batch is None else self.is_snapshot(t)

    def work(self, t: Any) -> Any:
        """The row gradients that round t needs, as a fraction of those of all rows."""
        whole = self.is_whole(t)
        return whole + (1 - whole) * self.share * self.points


def make_sampling(
    batch: float | int | None, svrg: bool, snapshot_every: int, snapshot: str, rows: int | None, blocks: int
) -> Sampling:
    """The sampling of a run over `rows` training rows (None: unknown, and only a share of them can be given).

    Raises ConfigError for a batch that is larger than the smallest block, and for SVRG without a batch.
    """
    least = int(np.diff(block_bounds(rows or blocks, blocks)).min())  # there is a row for each block
    if batch is None:
        if svrg:
            raise ConfigError("variance_reduction=svrg: needs mini-batches; set batch=0.1, or another share or number")
        return Sampling()
    field = f"batch={shown(batch)}"
    if type(batch) is int and rows is None:
        raise ConfigError(f"{field}: must be a share of the rows where there are no data, such as 0.1")
    size = batch if type(batch) is int else max(1, round(batch * least))
    if size > least and rows is not None:
        raise ConfigError(f"{field}: must be at most {least}, the rows of the smallest of {blocks} blocks")
    share = size * blocks / rows if rows is not None else float(batch)
    every = snapshot_every if svrg else None
    return Sampling(int(size), share, every, svrg and snapshot == Snapshot.EXACT)


def drawn_rows_of_all(
    seed: int, t: int, bounds: Int[np.ndarray, " n_plus_1"], batch: int
) -> Int[np.ndarray, " n_times_batch"]:
    """The rows of all blocks that are in the mini-batch of round t, block by block. `bounds` are the blocks'."""
    first_and_rows = enumerate(zip(bounds[:-1].tolist(), np.diff(bounds).tolist(), strict=True))
    return np.concatenate([first + drawn_rows(seed, t, i, rows, batch) for i, (first, rows) in first_and_rows])


def drawn_rows(seed: int, t: int, block: int, rows: int, batch: int) -> Int[np.ndarray, " batch"]:
    """The rows of a block of `rows` rows that are in the mini-batch of round t, in ascending order.

    They are drawn without replacement and depend on seed, round and block alone, so that copies of a block agree.
    """
    return np.sort(np.random.default_rng([seed, t, block]).choice(rows, batch, replace=False))
