"""Embeddings: locally linear and t-SNE, through scikit-learn, with the checks that it leaves to the reader.

Method   LLE: min |(I - W) Y|² with Y'Y = n I, rows of W summing to 1; t-SNE: min KL(P || Q), Student-t similarities
Source   Roweis, Saul (2000), Science 290:2323; van der Maaten, Hinton (2008), JMLR 9:2579
Assumes  neighbours on the surface are neighbours in space, and one connected piece
Breaks   LLE: pieces that share no neighbours collapse to points each; t-SNE: distances between clusters mean nothing
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.manifold import TSNE, LocallyLinearEmbedding
from torch import Tensor

from theorylens.results import Message

from ._matrices import neighbours_of_distinct, real_rows

REGULARISATION = 1e-3  # of the local Gram matrices, times their trace: scikit-learn's and the authors' choice


@dataclass(frozen=True, kw_only=True, eq=False)
class LocallyLinear:
    """A locally linear embedding.

    Attributes
    ----------
    coordinates
        Y, shape (n, components), float64, with Y'Y = n I and mean zero; the sign of each column is arbitrary.
    weights
        W as a sparse matrix (n, n): each row sums to 1 over its neighbours.
    reconstruction_error
        |(I - W) X|² / |X - mean|²: how badly neighbours reconstruct the points.
    embedding_error
        |(I - W) Y|² / n, the objective that the coordinates minimise.
    pieces
        Connected components of the neighbour graph.
    trouble
        Set when there are several: the first coordinates then only tell the pieces apart.
    """

    coordinates: Tensor
    weights: csr_matrix
    reconstruction_error: float
    embedding_error: float
    pieces: int
    trouble: Message | None


def lle(points: Tensor, n_components: int = 2, n_neighbors: int = 10) -> LocallyLinear:
    """Locally linear embedding of ``points`` (n, d), by the dense eigen-solver of scikit-learn: n up to some thousands.

    Raises
    ------
    ValueError
        ``n_components`` not below d or not below ``n_neighbors`` (the patches would not span it), ``n_neighbors`` not
        below n, copies, values that are not finite.
    """
    rows = real_rows(points, fewest=3)
    n, d = rows.shape
    if not 1 <= n_components < d:
        raise ValueError(f"n_components must be at least 1 and below the {d} coordinates, got {n_components}")
    if n_components >= n_neighbors:
        raise ValueError(
            f"n_components must be below n_neighbors, for {n_neighbors} neighbours span no more, got {n_components}"
        )
    weights, pieces = _graph(rows, n_neighbors)
    model = LocallyLinearEmbedding(
        n_neighbors=n_neighbors, n_components=n_components, reg=REGULARISATION, eigen_solver="dense"
    )
    y = model.fit_transform(rows.numpy()) * np.sqrt(n)
    x = rows.numpy() - rows.numpy().mean(0)
    text = (
        "the neighbour graph falls into {pieces} pieces, so the first coordinates only tell them apart;"
        " raise n_neighbors or embed each piece"
    )
    return LocallyLinear(
        coordinates=torch.from_numpy(y),
        weights=weights,
        reconstruction_error=float(((x - weights @ x) ** 2).sum() / (x**2).sum()),
        embedding_error=float(((y - weights @ y) ** 2).sum() / n),
        pieces=pieces,
        trouble=Message("lle.pieces", text, pieces=pieces) if pieces > 1 else None,
    )


def barycentric_weights(points: Tensor, n_neighbors: int, *, regularisation: float = REGULARISATION) -> csr_matrix:
    """The weights, summing to 1, with which each point is best reconstructed from its neighbours; sparse (n, n).

    >>> line = torch.arange(5.0)[:, None] * torch.ones(1, 2)
    >>> barycentric_weights(line, 2)[2].toarray()[0].tolist()
    [0.0, 0.5, 0.0, 0.5, 0.0]
    """
    rows = real_rows(points, fewest=3)
    _, indices = neighbours_of_distinct(points, n_neighbors)
    away = rows[indices] - rows[:, None]
    gram = away @ away.transpose(1, 2)
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    gram = gram + (regularisation * trace)[:, None, None] * torch.eye(n_neighbors, dtype=torch.float64)
    solved = torch.linalg.solve(gram, torch.ones(len(rows), n_neighbors, 1, dtype=torch.float64))[:, :, 0]
    solved = solved / solved.sum(1, keepdim=True)
    n = len(rows)
    indptr = np.arange(0, n * n_neighbors + 1, n_neighbors)
    return csr_matrix((solved.flatten().numpy(), indices.flatten().numpy(), indptr), shape=(n, n))


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbourly:
    """A t-SNE embedding: coordinates (n, components) and the divergence reached."""

    coordinates: Tensor
    divergence: float
    perplexity: float


def tsne(points: Tensor, n_components: int = 2, *, perplexity: float = 30.0, seed: int = 0) -> Neighbourly:
    """t-SNE of ``points`` (n, d) through scikit-learn. The same seed may give another picture on another machine.

    Raises
    ------
    ValueError
        ``perplexity`` not below a third of n - 1, values that are not finite.
    """
    rows = real_rows(points, fewest=5)
    limit = (len(rows) - 1) / 3
    if not 1 <= perplexity < limit:
        raise ValueError(
            f"perplexity must be at least 1 and below (n - 1) / 3 = {limit:.4g} for {len(rows)} points, "
            f"got {perplexity}"
        )
    method = "barnes_hut" if n_components < 4 else "exact"
    model = TSNE(n_components=n_components, perplexity=perplexity, random_state=seed, method=method, init="pca")
    y = model.fit_transform(rows.numpy()).astype(np.float64)
    return Neighbourly(
        coordinates=torch.from_numpy(y), divergence=float(model.kl_divergence_), perplexity=float(perplexity)
    )


def tsne_objective(similarities: Tensor, coordinates: Tensor) -> Tensor:
    """KL(P || Q) with Q proportional to (1 + |y_i - y_j|²)^-1 off the diagonal; a number with a gradient.

    ``similarities`` is P, symmetric (n, n), non-negative, zero on the diagonal, summing to 1.
    """
    p, kernel = _checked_similarities(similarities, coordinates)
    q = kernel / kernel.sum()
    seen = p > 0
    return (p[seen] * (p[seen] / q[seen]).log()).sum()


def tsne_gradient(similarities: Tensor, coordinates: Tensor) -> Tensor:
    """The gradient 4 sum_j (p_ij - q_ij) (y_i - y_j) (1 + |y_i - y_j|²)^-1 of `tsne_objective`; shape of Y."""
    p, kernel = _checked_similarities(similarities, coordinates)
    force = (p - kernel / kernel.sum()) * kernel
    y = coordinates.double()
    return 4 * (force.sum(1, keepdim=True) * y - force @ y)


def _checked_similarities(similarities: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    p, n = similarities.double(), len(coordinates)
    if p.shape != (n, n):
        raise ValueError(f"{n} coordinates need similarities of shape ({n}, {n}), got {tuple(p.shape)}")
    good = bool((p >= 0).all()) and float(p.diagonal().abs().max()) == 0 and abs(float(p.sum()) - 1) < 1e-9
    if not good or not torch.allclose(p, p.T, rtol=1e-9, atol=1e-12):
        raise ValueError("similarities must be symmetric, not negative, zero on the diagonal and sum to 1")
    y = coordinates.double()
    squared = ((y[:, None] - y[None]) ** 2).sum(2)
    return p, (1 - torch.eye(n, dtype=torch.float64)) / (1 + squared)


def _graph(rows: Tensor, n_neighbors: int) -> tuple[csr_matrix, int]:
    weights = barycentric_weights(rows, n_neighbors)
    # Weights may be zero: edges are neighbours, whatever their weight.
    edges = csr_matrix((np.ones_like(weights.data), weights.indices, weights.indptr), shape=weights.shape)
    return weights, int(connected_components(edges, directed=False)[0])
