"""Can noise be fitted without harm? The effective ranks of the inputs' covariance say so for linear regression.

Source   Bartlett, Long, Lugosi, Tsigler (2020), PNAS 117:30063, theorem 1; taxonomy: Mallinar et al. (2022), NeurIPS
Assumes  linear regression with the solution of smallest norm, sub-Gaussian inputs after whitening
Breaks   the constants of the theorem are not known: the ranks are what it compares, not a bound on the risk
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._asked import is_whole

Floats = NDArray[np.float64]
RATIO = 1.0  # b: how many times n the tail's rank must be; the theorem has some constant above 1


@dataclass(frozen=True, kw_only=True)
class BenignOverfitting:
    """Where the tail of a spectrum starts that absorbs the noise, and what that costs.

    Attributes
    ----------
    index
        k*: the least k with r_k at least b n; None when there is none, and then noise cannot be absorbed.
    tail_rank, tail_spread
        r_k and R_k at k*; NaN without one.
    variance
        k*/n + n/R_k*: what the theorem says the noise costs, in units of its variance and up to a constant; infinite
        without a k*.
    """

    index: int | None
    tail_rank: float
    tail_spread: float
    variance: float


def effective_ranks(eigenvalues: Any, k: int) -> tuple[float, float]:
    """r_k = sum of l_i / l_{k+1} and R_k = (sum of l_i)^2 / sum of l_i^2, sums over i > k; eigenvalues in any order.

    r_k <= R_k <= r_k^2, both between 1 and the number of eigenvalues left.

    >>> effective_ranks(np.array([1.0] * 5 + [0.01] * 1000), 5)
    (1000.0, 1000.0)
    """
    levels = _sorted(eigenvalues)
    if k != int(k) or not 0 <= k < len(levels) or not levels[int(k)] > 0:
        raise ValueError(f"k must leave a positive eigenvalue, of {int((levels > 0).sum())} positive ones, got {k}")
    tail = levels[int(k) :] / levels[int(k)]
    return float(tail.sum()), float(tail.sum() ** 2 / (tail * tail).sum())


def benign_overfitting(eigenvalues: Any, n: int, *, ratio: float = RATIO) -> BenignOverfitting:
    """The effective ranks that decide whether minimum-norm interpolation of n noisy examples is harmless.

    Parameters
    ----------
    eigenvalues
        Of the covariance of the inputs (or of features), any order, at least 0; `covariance_eigenvalues` estimates them
        from rows, well where those are many times the features: with fewer the tail is cut off.
    n
        Examples.
    ratio
        b: the tail begins where its rank r_k reaches b n.

    Raises
    ------
    ValueError
        A negative eigenvalue, none that is positive, n below 1, a ratio that is not positive.

    >>> benign_overfitting(np.array([1.0] * 5 + [0.01] * 1000), 100)
    BenignOverfitting(index=5, tail_rank=1000.0, tail_spread=1000.0, variance=0.15000000000000002)
    """
    levels = _sorted(eigenvalues)
    if not is_whole(n) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    if not ratio > 0:
        raise ValueError(f"the ratio must be positive, got {ratio}")
    positive = levels[levels > 0]
    ranks = np.cumsum(positive[::-1])[::-1] / positive
    reached = np.flatnonzero(ranks >= ratio * n)
    if not len(reached):
        return BenignOverfitting(index=None, tail_rank=float("nan"), tail_spread=float("nan"), variance=float("inf"))
    k = int(reached[0])
    rank, spread = effective_ranks(levels, k)
    return BenignOverfitting(index=k, tail_rank=rank, tail_spread=spread, variance=k / n + n / spread)


def _sorted(eigenvalues: Any) -> Floats:
    levels = np.asarray(eigenvalues, dtype=np.float64)
    if levels.ndim != 1 or not levels.size or not (np.isfinite(levels) & (levels >= 0)).all():
        raise ValueError("eigenvalues must be a list of finite numbers, at least 0")
    if not (levels > 0).any():
        raise ValueError("all eigenvalues are zero, so there are no ranks")
    return np.sort(levels)[::-1]
