"""Workers as the edges of a graph, blocks as its vertices, decoded optimally in linear time."""

import numpy as np
from jaxtyping import Bool, Float, Int

from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.on_host import on_host
from erasurehead_jax.codes.regular_graph import random_regular
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights


class GraphCode(AbstractCode):
    """A worker holds the two blocks at the ends of its edge of a random regular graph and sends their sum.

    Glasgow, Wootters 2020, "Approximate Gradient Coding with Optimal Decoding". Every block is held by 2k/n workers.
    Drawn from `code_seed`.

    Raises ConfigError unless 2k/n is a whole number below n.
    """

    G: Assignment
    owner: Owner
    edges: Int[np.ndarray, "k 2"]

    def __init__(self, blocks: int, workers: int, code_seed: int = 0):
        require_whole("code_seed", code_seed, 0)
        if blocks < 2 or workers < 1 or 2 * workers % blocks:
            raise ConfigError(
                f"workers={workers}: 2 * workers must be a multiple of blocks={blocks}: workers are the edges of a "
                "graph in which all blocks have the same number of neighbours"
            )
        self.edges = random_regular(blocks, 2 * workers // blocks, [code_seed])
        self.G = np.zeros((blocks, workers))
        self.G[self.edges, np.arange(workers)[:, None]] = 1
        self.owner = np.arange(workers)

    @property
    def costly(self) -> bool:
        """True: it is computed on the host."""
        return True

    def decodable(self, got: Got) -> Verdict:
        return on_host(lambda mask: np.bool_((optimal_shares(self.edges, self.blocks, mask) == 1).all()), got)

    def weights(self, got: Got) -> Weights:
        return on_host(lambda mask: optimal_weights(self.edges, self.blocks, mask), got)


def optimal_shares(edges: Int[np.ndarray, "k 2"], blocks: int, got: Bool[np.ndarray, " k"]) -> Float[np.ndarray, " n"]:
    """w of optimal decoding: 1 in a component with an odd cycle; in a bipartite one, twice the share of the other side.

    Every vertex of the bipartite double cover is a block on one of two sides, and every edge joins the sides. There, a
    block's component contains its own side on its layer and the opposite side on the other layer.
    """
    label, own = _sides(edges, blocks, got)
    counts = np.bincount(label[:blocks], minlength=len(label)), np.bincount(label[blocks:], minlength=len(label))
    same, other = counts[0][own], counts[1][own]
    return 2 * other / (same + other)


def _sides(
    edges: Int[np.ndarray, "k 2"], blocks: int, got: Bool[np.ndarray, " k"]
) -> tuple[Int[np.ndarray, " sides"], Int[np.ndarray, " n"]]:
    """The components of the double cover: of both copies of every block, and of the first copies."""
    import scipy.sparse.csgraph  # slow to import, and needed by these codes only

    u, v = edges[got].T
    ends = np.concatenate([u, v]), np.concatenate([v, u]) + blocks
    cover = scipy.sparse.coo_array((np.ones(2 * len(u), np.int8), ends), (2 * blocks, 2 * blocks))
    label = scipy.sparse.csgraph.connected_components(cover, directed=False)[1]
    return label, label[:blocks]


def optimal_weights(edges: Int[np.ndarray, "k 2"], blocks: int, got: Bool[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Weights a of optimal decoding, in linear time: zero off a spanning forest of the double cover.

    There the shares fix the weights from the leaves up; a worker's weight is the mean of its edge's two copies.
    """
    import scipy.sparse.csgraph

    label, _ = _sides(edges, blocks, got)
    shares = optimal_shares(edges, blocks, got)
    u, v = edges[got].T
    heads, tails = np.concatenate([u, v]), np.concatenate([v, u]) + blocks
    top = 2 * blocks  # one more vertex, joined to one vertex of every component
    roots = np.unique(label, return_index=True)[1]
    ends = np.concatenate([heads, np.full(len(roots), top)]), np.concatenate([tails, roots])
    number = np.concatenate([np.arange(1, len(heads) + 1), np.full(len(roots), len(heads) + 1)])  # zeros are no edges
    cover = scipy.sparse.csr_array((number, ends), (top + 1, top + 1))
    cover = (cover + cover.T).tocsr()
    order, parent = scipy.sparse.csgraph.breadth_first_order(cover, top, directed=False)
    missing, parents = np.concatenate([shares, shares, [0]]).tolist(), parent.tolist()
    for vertex in order[:0:-1].tolist():
        missing[parents[vertex]] -= missing[vertex]
    children = order[1:]
    edge = np.asarray(cover[parent[children], children]).ravel() - 1
    inside = edge < len(heads)
    both = np.zeros(len(heads))
    both[edge[inside]] = np.array(missing)[children[inside]]
    a = np.zeros(len(got))
    a[got] = both.reshape(2, -1).mean(0)
    return a
