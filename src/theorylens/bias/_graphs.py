"""Graphs as matrices: what is refused, degrees, spectral gap.

Method   dense symmetric adjacency (nodes, nodes); normalised Laplacian I - D^-1/2 A D^-1/2
Source   Chung (1997). Spectral graph theory, chapter 1
Assumes  undirected graphs; weights at least 0. The gap is the second smallest eigenvalue: 0 exactly when the graph
         falls into parts
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from scipy.sparse import csgraph
from torch import Tensor

LARGEST = 4096  # nodes; a dense matrix of more takes its eigenvalues minutes


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """Counts and the spectral gap of one graph.

    Attributes
    ----------
    nodes, edges
        Self-loops count as edges.
    mean_degree, max_degree
        Sums of weights per node.
    isolated
        Nodes without a neighbour; the normalised Laplacian is 0 on them.
    components
        Connected parts.
    spectral_gap
        Second smallest eigenvalue of the normalised Laplacian, between 0 and 2: small where the graph has a bottleneck
        (messages pass slowly) or falls apart.
    """

    nodes: int
    edges: int
    mean_degree: float
    max_degree: float
    isolated: int
    components: int
    spectral_gap: float


def adjacency_matrix(edges: Tensor, nodes: int, weights: Tensor | None = None) -> Float[Tensor, "nodes nodes"]:
    """The matrix of an edge list as graph libraries write it (row 0 from, row 1 to).

    An edge listed twice counts once; each undirected edge must be listed in both directions (`checked_adjacency` says
    so if not).
    """
    if edges.ndim != 2 or len(edges) != 2:
        raise ValueError(f"edges must have shape (2, edges), got {tuple(edges.shape)}")
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < nodes:
        raise ValueError(f"edges name nodes {int(edges.min())} to {int(edges.max())}, but there are {nodes} nodes")
    matrix = torch.zeros(nodes, nodes, dtype=torch.float64)
    matrix[edges[0], edges[1]] = torch.ones(edges.shape[1]).double() if weights is None else weights.double()
    return matrix


def checked_adjacency(adjacency: Tensor) -> Float[Tensor, "nodes nodes"]:
    """``adjacency`` in double precision.

    Raises
    ------
    ValueError
        Not square, not symmetric, negative or not finite.
    """
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1] or not len(adjacency):
        raise ValueError(f"an adjacency matrix is square, (nodes, nodes); got {tuple(adjacency.shape)}")
    matrix = adjacency.detach().double().cpu()
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("the adjacency matrix has entries that are not finite; an absent edge is 0")
    if not torch.equal(matrix, matrix.T):
        u, v = (int(i) for i in torch.nonzero(matrix != matrix.T)[0])
        raise ValueError(
            f"the adjacency matrix is not symmetric: entry ({u}, {v}) is {float(matrix[u, v]):g}, ({v}, {u}) is "
            f"{float(matrix[v, u]):g}; for an undirected graph use torch.maximum(A, A.T)"
        )
    if float(matrix.min()) < 0:
        raise ValueError(f"edge weights must be at least 0, got {float(matrix.min()):g}")
    return matrix


def graph_facts(adjacency: Tensor) -> GraphFacts:
    """Degrees, parts and spectral gap of an undirected graph.

    >>> square = torch.tensor([[0., 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
    >>> facts = graph_facts(square)
    >>> facts.mean_degree, round(facts.spectral_gap, 9)
    (2.0, 1.0)
    """
    a = checked_adjacency(adjacency)
    n = len(a)
    if n > LARGEST:
        raise ValueError(f"the graph has {n} nodes, at most {LARGEST} fit a dense eigenvalue problem; give a subgraph")
    degrees = a.sum(1)
    levels = torch.linalg.eigvalsh(normalised_laplacian(a))
    return GraphFacts(
        nodes=n,
        edges=int((a.triu() > 0).sum()),
        mean_degree=float(degrees.mean()),
        max_degree=float(degrees.max()),
        isolated=int((degrees == 0).sum()),
        components=int(csgraph.connected_components(sparse.csr_matrix(a.numpy()), directed=False)[0]),
        spectral_gap=max(0.0, float(levels[1])) if n > 1 else 0.0,
    )


def normalised_laplacian(adjacency: Tensor) -> Float[Tensor, "nodes nodes"]:
    """I - D^-1/2 A D^-1/2, with rows of zeros for isolated nodes."""
    a = checked_adjacency(adjacency)
    degrees = a.sum(1)
    root = torch.where(degrees > 0, degrees.clamp(min=1e-300).rsqrt(), torch.zeros_like(degrees))
    return torch.diag((degrees > 0).double()) - root[:, None] * a * root[None, :]


def distances(adjacency: Tensor) -> Float[Tensor, "nodes nodes"]:
    """Number of edges on the shortest path between each two nodes; infinite across parts."""
    joined = sparse.csr_matrix((checked_adjacency(adjacency) > 0).numpy().astype(np.float64))
    return torch.from_numpy(csgraph.shortest_path(joined, directed=False, unweighted=True))
