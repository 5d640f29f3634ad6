"""Norm of the function that a kernel fits: how complex these targets are for this kernel.

Method   sqrt(y' K^+ y) of the smallest interpolant, infinite when y is not in the range of K; with a ridge the norm of
         the ridge regression, which noise does not blow up
Source   Arora, Du, Hu, Li, Wang (2019), ICML; Belkin, Ma, Mandal (2018), ICML
Assumes  a positive semi-definite kernel
Breaks   the norm of the interpolant of n points is a lower bound of the norm of the function behind them
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._alignment import Array, checked_kernel
from ._effective_dimension import without_rounding

RANK = 1e-10  # eigenvalues below this share of the largest count as zero (n eps, with room for how K was computed)
OUTSIDE = 1e-6  # share of the targets' norm outside the range of K that rounding may leave


@dataclass(frozen=True, kw_only=True)
class RKHSNorm:
    """Norm of a fitted function and how far the number can be trusted.

    Attributes
    ----------
    value
        The norm; infinite when the targets cannot be interpolated and no ridge was given. Several outputs add their
        squares.
    rank
        Eigenvalues of the kernel that count as positive.
    condition_number
        Largest eigenvalue over the smallest of those (plus the ridge): errors of K are multiplied by up to this.
    outside
        Share of the norm of the targets outside the range of the kernel.
    """

    value: float
    rank: int
    condition_number: float
    outside: float


def rkhs_norm(kernel: Array, targets: Array, *, ridge: float = 0.0) -> RKHSNorm:
    """Norm of the smallest function in the kernel's space through the targets, or of the ridge regression.

    Parameters
    ----------
    kernel
        Symmetric positive semi-definite (n, n).
    targets
        (n,) or (n, C), real.
    ridge
        Added to the eigenvalues of K, in their unit: of the fit (K + ridge)^-1 y. Zero: interpolation. It should
        scale like tr K / n.

    Raises
    ------
    ValueError
        Shapes that do not match, a kernel that is not symmetric positive semi-definite, a negative ridge.

    >>> round(rkhs_norm(torch.tensor([[2.0, 1], [1, 2]]), torch.tensor([1.0, -1])).value, 9)
    1.414213562
    """
    if not 0 <= ridge < math.inf:
        raise ValueError(f"the ridge must be zero or more and finite, got {ridge}")
    K, y = checked_kernel(kernel), real_targets(targets, len(torch.as_tensor(kernel)))
    levels, vectors = torch.linalg.eigh(K)
    levels = without_rounding(levels)
    top = float(levels[-1])
    within = levels > RANK * top
    parts = (vectors.T @ y).square().sum(1)
    total = float(parts.sum())
    outside = math.sqrt(float(parts[~within].sum()) / total) if total > 0 else 0.0
    kept, rank = levels[within], int(within.sum())
    if total == 0:
        squared = 0.0
    elif ridge > 0:
        squared = float((parts * levels / (levels + ridge) ** 2).sum())
    else:
        squared = math.inf if outside > OUTSIDE else float((parts[within] / kept).sum())
    lowest = float(levels[0]) if ridge > 0 or not rank else float(kept.min())
    condition = (top + ridge) / (lowest + ridge) if lowest + ridge > 0 else math.inf
    return RKHSNorm(value=math.sqrt(squared), rank=rank, condition_number=condition, outside=outside)


def real_targets(targets: Array, n: int) -> Tensor:
    """Targets (n, C) in float64, refused when they do not fit ``n`` rows."""
    y = torch.as_tensor(targets).detach()
    if y.ndim not in (1, 2) or len(y) != n:
        raise ValueError(f"a kernel of {n} rows needs targets (n,) or (n, C), got shape {tuple(y.shape)}")
    if not bool(torch.isfinite(y.double()).all()):
        raise ValueError("the targets have entries that are not finite; remove those examples")
    return y.double().reshape(n, -1)
