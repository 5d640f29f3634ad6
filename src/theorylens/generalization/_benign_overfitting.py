"""Can noise be fitted without harm? The effective ranks of the inputs' covariance say so for linear regression.

Source   Bartlett, Long, Lugosi, Tsigler (2020), PNAS 117:30063, theorem 1; ridge and bias: Tsigler, Bartlett (2023),
         JMLR 24(123); taxonomy and noise factor: Mallinar et al. (2022), NeurIPS, after Simon et al. (2023), TMLR
Assumes  linear regression with the solution of smallest norm or ridge regression, sub-Gaussian inputs after whitening
Breaks   the constants of the theorems are not known: the ranks are what they compare, not a bound on the risk
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from ._asked import is_whole

Floats = NDArray[np.float64]
Overfitting = Literal["benign", "tempered", "catastrophic"]
RATIO = 1.0  # b: how many times n the tail's rank must be; the theorem has some constant above 1
BENIGN, CATASTROPHIC = 1.1, 10.0  # noise factors that part the three kinds at a finite n: conventions


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
        without a k*. With a ridge n sum l_i^2 / (ridge + sum l_i)^2 over i > k* takes the place of n/R_k*.
    noise_factor
        Expected squared error on new targets that are noise alone, in units of its variance and with no unknown
        constant: an average-case prediction, 1 where fitting noise is free. As n grows it tends to 1 (benign), to a
        constant (tempered; a for eigenvalues i^-a) or without limit (catastrophic). Infinite where as many eigenvalues
        as examples are positive and there is no ridge.
    bias
        Sum over i > k* of l_i t_i^2 + ((ridge + sum over i > k* of l_i) / n)^2 times the sum over i <= k* of
        t_i^2 / l_i: the theorem's price of what is not learnt, up to a constant; None without coefficients or k*.
    """

    index: int | None
    tail_rank: float
    tail_spread: float
    variance: float
    noise_factor: float
    bias: float | None = None

    @property
    def kind(self) -> Overfitting:
        """At this n: benign up to a noise factor of 1.1, catastrophic from 10 on. The names belong to n -> infinity."""
        if self.noise_factor <= BENIGN:
            return "benign"
        return "tempered" if self.noise_factor < CATASTROPHIC else "catastrophic"


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


def benign_overfitting(
    eigenvalues: Any, n: int, *, ratio: float = RATIO, ridge: float = 0.0, coefficients: Any = None
) -> BenignOverfitting:  # fmt: skip
    """The effective ranks that decide whether interpolation of n noisy examples is harmless, and what noise costs.

    Parameters
    ----------
    eigenvalues
        Of the covariance of the inputs (or of features), any order, at least 0; `covariance_eigenvalues` estimates them
        from rows, well where those are many times the features: with fewer the tail is cut off.
    n
        Examples.
    ratio
        b: the tail begins where (ridge + sum of the eigenvalues behind k) / l_{k+1}, without a ridge its rank r_k,
        reaches b n.
    ridge
        What is added to the eigenvalues of the n x n matrix X X'; 0 for the solution of smallest norm.
    coefficients
        t_i of the target in the eigenvectors, in the order of ``eigenvalues``; for ``bias``.

    Raises
    ------
    ValueError
        A negative eigenvalue, none that is positive, n below 1, a ratio that is not positive, a negative ridge, or
        coefficients of another number than the eigenvalues.

    >>> found = benign_overfitting(np.array([1.0] * 5 + [0.01] * 1000), 100)
    >>> found.index, found.tail_rank, round(found.variance, 6), round(found.noise_factor, 4), found.kind
    (5, 1000.0, 0.15, 1.1531, 'tempered')
    """
    levels = _sorted(eigenvalues)
    if not is_whole(n) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    if not ratio > 0:
        raise ValueError(f"the ratio must be positive, got {ratio}")
    if not 0 <= ridge < math.inf:
        raise ValueError(f"the ridge must be finite and at least 0, got {ridge}")
    squares = None if coefficients is None else _squares(eigenvalues, coefficients)
    factor = _noise_factor(levels, int(n), ridge)
    positive = levels[levels > 0]
    tails = np.cumsum(positive[::-1])[::-1] + ridge
    reached = np.flatnonzero(tails >= ratio * n * positive)
    if not len(reached):
        none = float("nan")
        return BenignOverfitting(
            index=None, tail_rank=none, tail_spread=none, variance=math.inf, noise_factor=factor
        )  # fmt: skip
    k = int(reached[0])
    rank, spread = effective_ranks(levels, k)
    with_ridge = n * float((positive[k:] ** 2).sum()) / float(tails[k]) ** 2
    bias = None
    if squares is not None:
        head = float((squares[:k] / levels[:k]).sum()) * (float(tails[k]) / n) ** 2
        bias = float((squares[k:] * levels[k:]).sum()) + head
    return BenignOverfitting(
        index=k, tail_rank=rank, tail_spread=spread, variance=k / n + (with_ridge if ridge else n / spread),
        noise_factor=factor, bias=bias,
    )  # fmt: skip


def _noise_factor(levels: Floats, n: int, ridge: float) -> float:
    """Return n / (n - sum L_i^2) with L_i = l_i / (l_i + c) and c from sum L_i + ridge / c = n; c may be 0."""
    positive = levels[levels > 0]
    if ridge == 0 and n >= len(positive):
        return n / (n - len(positive)) if n > len(positive) else math.inf

    def over(log_c: float) -> float:
        c = math.exp(log_c)
        return float((positive / (positive + c)).sum() + ridge / c - n)

    high = math.log((float(positive.sum()) + ridge) / n) + 1e-9  # each term is below l / c
    low = high - 1.0
    while over(low) < 0:
        low -= 2.0
    learnt = positive / (positive + math.exp(brentq(over, low, high, xtol=1e-14, rtol=1e-15)))
    return n / (n - float((learnt**2).sum()))


def _squares(eigenvalues: Any, coefficients: Any) -> Floats:
    """Squared coefficients in the order of falling eigenvalues."""
    order = np.argsort(np.asarray(eigenvalues, dtype=np.float64), kind="stable")[::-1]
    given = np.asarray(coefficients, dtype=np.float64)
    if given.shape != order.shape or not np.isfinite(given).all():
        raise ValueError(f"needed is one finite coefficient per eigenvalue, {len(order)}, got shape {given.shape}")
    return np.asarray(given[order] ** 2)


def _sorted(eigenvalues: Any) -> Floats:
    levels = np.asarray(eigenvalues, dtype=np.float64)
    if levels.ndim != 1 or not levels.size or not (np.isfinite(levels) & (levels >= 0)).all():
        raise ValueError("eigenvalues must be a list of finite numbers, at least 0")
    if not (levels > 0).any():
        raise ValueError("all eigenvalues are zero, so there are no ranks")
    return np.sort(levels)[::-1]
