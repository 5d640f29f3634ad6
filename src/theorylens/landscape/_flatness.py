"""Numbers that summarise a spectrum: how sharp, how many directions share it, how large the basin.

Source   Roy, Vetterli (2007), The effective rank, EUSIPCO (exponential of the entropy); MacKay (1992), Neural Comput.
         4:448 (log-determinant as an Occam factor); Dinh et al. (2017), ICML (none of them is invariant)
Assumes  a symmetric matrix; nothing of its signs: no number here is NaN or infinite for a saddle
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ._second_order import spectrum

Floats = NDArray[np.float64]
FLAT = 1e-3  # share of the largest |eigenvalue| below which a direction counts as flat


@dataclass(frozen=True, kw_only=True)
class CurvatureSummary:
    """A spectrum in a few numbers.

    Attributes
    ----------
    dimension, trace, largest, smallest, frobenius
        Number of eigenvalues, their sum, both ends, the root of the sum of their squares.
    entropy, effective_rank
        Of the shares |eigenvalue| / sum |eigenvalue|: entropy in nats, and its exponential, between 1 (one direction)
        and the dimension (all alike); 0 and 0 when all eigenvalues are zero.
    flat_share, negative_share
        Share of eigenvalues up to ``FLAT`` of the largest in size, and of those below minus that.
    log_volume
        Half the sum of log(max(eigenvalue, 0) + damping): minus the log-volume of the region in which the quadratic
        rises by a fixed amount, with flat and downward directions bounded by ``damping`` alone.
    damping
        In the units of the eigenvalues.
    """

    dimension: int
    trace: float
    largest: float
    smallest: float
    frobenius: float
    entropy: float
    effective_rank: float
    flat_share: float
    negative_share: float
    log_volume: float
    damping: float


def curvature_summary(
    eigenvalues: Sequence[float] | Floats | Tensor, *, flat: float = FLAT, damping: float | None = None
) -> CurvatureSummary:
    """Summarise all eigenvalues of a Hessian (or Gauss-Newton matrix).

    Parameters
    ----------
    eigenvalues
        All of them, of any sign.
    flat
        A direction is flat when |eigenvalue| is at most this share of the largest |eigenvalue|.
    damping
        For the log-volume; by default ``flat`` times the largest |eigenvalue|.

    Raises
    ------
    ValueError
        No eigenvalues, one that is not finite, ``flat`` outside of 0 to 1, a damping that is not positive.

    >>> found = curvature_summary([2.0, 200.0])
    >>> found.trace, found.largest, round(found.entropy, 4)
    (202.0, 200.0, 0.0555)
    """
    values = spectrum(eigenvalues)
    if not 0 <= flat < 1:
        raise ValueError(f"flat must be a share from 0 to below 1, got {flat}")
    if damping is not None and not (math.isfinite(damping) and damping > 0):
        raise ValueError(f"damping must be a positive number, got {damping}")
    sizes = np.abs(values)
    top = float(sizes.max())
    threshold = flat * top
    # All eigenvalues zero: any positive damping gives the volume of the damping alone.
    bound = damping if damping is not None else (threshold or FLAT * top or 1.0)
    entropy = share_entropy(sizes)
    return CurvatureSummary(
        dimension=len(values),
        trace=math.fsum(values),
        largest=float(values.max()),
        smallest=float(values.min()),
        frobenius=top * math.sqrt(math.fsum((values / (top or 1.0)) ** 2)),  # squares of large ones overflow
        entropy=entropy,
        effective_rank=math.exp(entropy) if top else 0.0,
        flat_share=float((sizes <= threshold).mean()),
        negative_share=float((values < -threshold).mean()),
        log_volume=math.fsum(np.log(np.maximum(values, 0.0) + bound)) / 2,
        damping=bound,
    )


def share_entropy(sizes: Floats, weights: Floats | float = 1.0) -> float:
    """Entropy in nats of the shares of ``sizes`` (counted ``weights`` times each) in their sum; 0 for all zero."""
    counts = np.broadcast_to(np.asarray(weights, dtype=np.float64), sizes.shape)
    total = math.fsum(sizes * counts)
    if total == 0:
        return 0.0
    shares = sizes / total
    positive = shares > 0
    return max(0.0, -math.fsum(counts[positive] * shares[positive] * np.log(shares[positive])))
