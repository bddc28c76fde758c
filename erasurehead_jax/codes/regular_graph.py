"""Blocks assigned by a random regular graph."""

import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.codes.any_workers import require_square
from erasurehead_jax.codes.base import AbstractCode
from erasurehead_jax.codes.one_step import one_step_weights
from erasurehead_jax.errors import ConfigError, require_whole
from erasurehead_jax.types import Assignment, Got, Owner, Verdict, Weights

DENSE_UP_TO = 50  # vertices


class RegularGraph(AbstractCode):
    """Worker j holds the blocks next to vertex j of a graph in which every vertex has `load` neighbours.

    Raviv, Tandon, Dimakis, Tamo 2018, "Gradient Coding from Cyclic MDS Codes and Expander Graphs": G is the adjacency
    matrix divided by the load, and every answer has weight k/r. For every set of s stragglers the decode error is at
    most (lambda / load)^2 n s / (n - s), where lambda is the graph's second largest eigenvalue in absolute value. Of
    `draws` random graphs the one with the smallest lambda is kept; from `code_seed`.

    Raises ConfigError unless workers == blocks, load < workers and workers * load is even.
    """

    G: Assignment
    owner: Owner
    second_eigenvalue: float  # lambda

    def __init__(self, blocks: int, workers: int, load: int, draws: int = 1, code_seed: int = 0):
        require_square("a regular graph", blocks, workers, load)
        require_whole("draws", draws, 1)
        require_whole("code_seed", code_seed, 0)
        graphs = [_adjacency(random_regular(workers, load, [code_seed, draw]), workers) for draw in range(draws)]
        lambdas = [_second_eigenvalue(graph) for graph in graphs]
        best = int(np.argmin(lambdas))
        self.G, self.second_eigenvalue = graphs[best] / load, lambdas[best]
        self.owner = np.arange(workers)

    def decodable(self, got: Got) -> Verdict:
        return got.all()

    def weights(self, got: Got) -> Weights:
        return one_step_weights(got, 1.0)


def random_regular(vertices: int, degree: int, seed: list[int]) -> Int[np.ndarray, "edges 2"]:
    """The edges of a random simple graph in which every vertex has this degree.

    Raises ConfigError unless degree < vertices and degree * vertices is even.
    """
    import networkx  # slow to import, and needed by these codes only

    if not 0 < degree < vertices or degree * vertices % 2:
        raise ConfigError(
            f"load={degree}: no graph of {vertices} vertices has {degree} neighbours at each; the load must be below "
            "the number of vertices, and their product even"
        )
    rng = np.random.default_rng(seed)
    graph = networkx.random_regular_graph(degree, vertices, seed=int(rng.integers(2**31)))
    return np.array(sorted(map(sorted, graph.edges)))


def _adjacency(edges: Int[np.ndarray, "edges 2"], vertices: int) -> Float[np.ndarray, "k k"]:
    adjacency = np.zeros((vertices, vertices))
    adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = 1
    return adjacency


def _second_eigenvalue(adjacency: Float[np.ndarray, "k k"]) -> float:
    if len(adjacency) <= DENSE_UP_TO:
        values = np.linalg.eigvalsh(adjacency)
        return float(max(-values[0], values[-2]))
    import scipy.sparse.linalg  # slow to import

    start = np.arange(1.0, len(adjacency) + 1)
    sparse = scipy.sparse.csr_array(adjacency)
    return float(np.abs(scipy.sparse.linalg.eigsh(sparse, k=2, v0=start, return_eigenvectors=False)).min())
