"""Does an embedding keep neighbours? Trustworthiness: no false ones. Continuity: none lost.

Method   ranks of the k nearest neighbours of one space in the other
Source   Venna, Kaski (2001), ICANN; trustworthiness as in scikit-learn
Assumes  nothing
Breaks   both are local: a wrongly folded surface can reach 0.98
"""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.manifold import trustworthiness as of_scikit_learn
from torch import Tensor

from ._matrices import real_rows


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Shares in [0, 1], 1 when no neighbour is false (trustworthiness) or lost (continuity)."""

    trustworthiness: float
    continuity: float


def neighbours_kept(points: Tensor, embedding: Tensor, k: int = 10) -> Kept:
    """Trustworthiness and continuity of ``embedding`` (n, m) for ``points`` (n, d) with ``k`` < n/2 neighbours.

    Trustworthiness punishes rows that are among the k nearest in the embedding but far in the points; continuity is
    the same with the two exchanged.
    """
    x, y = real_rows(points, fewest=4), real_rows(embedding, "embedding", fewest=4)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} points and {len(y)} embedded rows; give one per point")
    if not 1 <= k < len(x) / 2:
        raise ValueError(f"k must be at least 1 and below half of the {len(x)} points, got {k}")
    a, b = x.numpy(), y.numpy()
    return Kept(
        trustworthiness=float(of_scikit_learn(a, b, n_neighbors=k)),
        continuity=float(of_scikit_learn(b, a, n_neighbors=k)),
    )
