"""Attention: how far does each head look, how widely does it spread, and do the tokens become alike with depth?

Method   entropy and mean distance of the rows of the attention weights; distance of tokens from their mean
Source   Dong, Cordonnier, Loukas (2021). Attention is not all you need: pure attention loses rank doubly exponentially
         with depth. ICML; Clark et al. (2019). What does BERT look at? BlackboxNLP (entropy of heads)
Assumes  units are in the order of the sequence (distance), weights that sum to 1 over the keys
Breaks   weights are not importance: what a head looks at need not be what the answer depends on
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SUMS = 1e-3  # a row of weights may miss 1 by so much: half precision


def attention_macs(length: int, width: int, heads: int = 1) -> int:
    """Multiply-accumulates of one self-attention layer on one sequence: 4 n d² + 2 n² d.

    Four projections of n tokens (n d² each), scores and weighted sums (n² d each). The number of heads changes the
    shapes, not the count. Without biases, softmax and scaling.

    Raises
    ------
    ValueError
        Sizes below 1, or a width that the heads do not divide.

    >>> attention_macs(100, 512, 8)
    115097600
    """
    if min(length, width, heads) < 1:
        raise ValueError(f"length, width and heads must be at least 1, got {length}, {width}, {heads}")
    if width % heads:
        raise ValueError(
            f"{heads} heads cannot share a width of {width}: {width} / {heads} is not whole; change one of them"
        )
    return 4 * length * width**2 + 2 * length**2 * width


def attention_entropy(weights: Float[Tensor, "*batch q k"]) -> Float[Tensor, "*batch q"]:
    """Shannon entropy of each row in nats: 0 looks at one key, log(keys) at all alike; exp of it counts keys."""
    p = _weights(weights)
    entropy: Tensor = torch.special.entr(p).sum(-1)
    return entropy


def attention_distance(
    weights: Float[Tensor, "*batch q k"], positions: Float[Tensor, "units axes"] | None = None
) -> Float[Tensor, "*batch q"]:
    """Mean distance from each query to what it looks at, in units of ``positions`` (by default 0, 1, 2, ...).

    ``positions``: one row of coordinates per unit, for instance the places of image patches; queries and keys are then
    the same units.
    """
    p = _weights(weights)
    q, k = p.shape[-2:]
    if positions is None:
        gaps = (torch.arange(q)[:, None] - torch.arange(k)[None, :]).abs()
    else:
        if len(positions) != k or q != k:
            raise ValueError(f"{len(positions)} positions for {q} queries and {k} keys; give one per unit")
        gaps = torch.cdist(positions.double(), positions.double())
    return (p * gaps.to(p)).sum(-1)


def uniform_distance(queries: int, keys: int) -> float:
    """Mean `attention_distance` of a head that looks at all keys alike: the level to compare with."""
    return float((torch.arange(queries)[:, None] - torch.arange(keys)[None, :]).abs().double().mean())


def rank_one_residual(rows: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch"]:
    """How far the rows are from being all alike: ||X - 1 x̄'|| / ||X|| (Frobenius), x̄ their mean.

    0 for equal rows (rank collapse), 1 for rows that cancel. For token features or rows of attention weights.
    """
    if rows.shape[-2] < 2:
        raise ValueError(f"rank collapse needs at least two rows, got {rows.shape[-2]}")
    x = rows.double()
    gap = (x - x.mean(-2, keepdim=True)).norm(dim=(-2, -1))
    norm = x.norm(dim=(-2, -1))
    return torch.where(norm > 0, gap / norm.clamp(min=1e-300), torch.zeros_like(norm))


def collapsing_path(weights: list[Tensor]) -> list[float]:
    """`rank_one_residual` of the product of the attention matrices up to each layer: what pure attention would leave.

    ``weights``: one tensor (n, heads, units, units) per layer, in order. Heads are averaged, residual connections left
    out on purpose: a network that keeps its tokens apart does it against this, by skip connections and MLPs.
    """
    product, found = None, []
    for each in weights:
        mixed = _weights(each).mean(-3)
        if mixed.shape[-1] != mixed.shape[-2]:
            raise ValueError(
                f"layers of self-attention are square, got {tuple(mixed.shape[-2:])}; cross-attention has no product"
            )
        product = mixed if product is None else mixed @ product
        found.append(float(rank_one_residual(product).mean()))
    return found


def _weights(weights: Tensor) -> Tensor:
    p = weights.double()
    if p.ndim < 2:
        raise ValueError(f"weights must have shape (..., queries, keys), got {tuple(p.shape)}")
    if not bool(torch.isfinite(p).all()):
        raise ValueError("some attention weights are not finite; a query may look at no key at all")
    low, off = float(p.min()), float((p.sum(-1) - 1).abs().max())
    if low < 0 or off > SUMS or math.isnan(off):
        raise ValueError(
            f"rows of attention weights are at least 0 and sum to 1; got {low:.3g}, a sum off by {off:.3g}"
        )
    return p
