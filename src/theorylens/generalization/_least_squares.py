"""Risk of least squares with more or fewer parameters than examples, exactly: what double descent looks like.

Isotropic Gaussian inputs, y = x.beta + noise. The risks are excess risks, E (x.b - x.beta)^2: the noise of a new target
is not in them. Least squares takes the solution of smallest norm where there are many.

Source   finite n: Belkin, Hsu, Xu (2020), SIAM J. Math. Data Sci. 2:1167, from the mean of the inverse Wishart matrix;
         limits: Hastie, Montanari, Rosset, Tibshirani (2022), Ann. Statist. 50:949, theorem 1 and corollary 5
Assumes  Gaussian inputs with unit covariance (in the limit any independent entries with finite fourth moments)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def least_squares_risk(
    n: Any, parameters: Any, *, noise: float, signal: float = 1.0, omitted: Any = 0.0
) -> float | Floats:  # fmt: skip
    """Mean excess risk of minimum-norm least squares at finite ``n``, exact.

    (omitted + noise) p / (n - p - 1) + omitted for p < n - 1, infinite for p from n - 1 to n + 1, and
    signal (1 - n/p) + (omitted + noise) n / (p - n - 1) + omitted for p > n + 1. Arrays broadcast.

    Parameters
    ----------
    n, parameters
        Examples and fitted coefficients p.
    noise
        Variance of the noise.
    signal
        Squared length of the true coefficients that are fitted.
    omitted
        Squared length of true coefficients on inputs that are left out, which act as noise of their own.

    Raises
    ------
    ValueError
        n or p below 1, or a negative variance or length.

    >>> least_squares_risk(50, [10, 100], noise=0.25).round(6)
    array([0.064103, 0.755102])
    """
    n_, p = _counts("n", n), _counts("parameters", parameters)
    left = np.asarray(omitted, dtype=np.float64)
    _check(noise, signal, float(left.min()))
    spread = noise + left
    with np.errstate(divide="ignore", invalid="ignore"):
        below = left + spread * p / (n_ - p - 1)
        above = left + signal * (1 - n_ / p) + spread * n_ / (p - n_ - 1)
    # Without noise nothing blows up: exact recovery up to p = n, the part of beta outside of the row space beyond.
    near = np.where(spread > 0, np.inf, signal * np.maximum(0.0, 1 - n_ / p))
    found = np.where(p < n_ - 1, below, np.where(p > n_ + 1, above, near))
    return found if found.ndim else float(found)


def ridgeless_risk(ratio: Any, *, noise: float, signal: float = 1.0) -> float | Floats:
    """Limit of `least_squares_risk` as n and p grow with p/n = ``ratio``: noise g/(1-g) below 1, above it
    signal (1 - 1/g) + noise / (g - 1). Infinite at 1 when there is noise.

    >>> ridgeless_risk([0.2, 0.5, 2.0], noise=0.25).round(4)
    array([0.0625, 0.25  , 0.75  ])
    """
    g = _positive("ratio", ratio)
    _check(noise, signal, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(g < 1, noise * g / (1 - g), signal * (1 - 1 / g) + noise / (g - 1))
    found = np.where(g == 1, math.inf if noise > 0 else 0.0, found)
    return found if found.ndim else float(found)


def ridge_risk(ratio: Any, penalty: Any, *, noise: float, signal: float = 1.0) -> float | Floats:
    """Limit of the excess risk of ridge regression, coefficients (X'X/n + penalty)^-1 X'y/n, as n and p grow.

    signal l^2 m' + noise g (m - l m') with m the Stieltjes transform of the Marchenko-Pastur law at -l. Smallest at
    l = noise g / signal, where the risk is noise g m and grows with no peak at g = 1.

    >>> round(ridge_risk(1.5, 0.2, noise=0.1), 10)
    0.4556402656
    """
    g, l = np.broadcast_arrays(_positive("ratio", ratio), _positive("penalty", penalty))  # noqa: E741 - as in the paper
    _check(noise, signal, 0.0)
    # g l m^2 + (1 - g + l) m - 1 = 0; s = l m from its positive root, and both terms, without cancellation or overflow:
    # l^2 m' = s (l + g s) / root, m - l m' = s / ((l + g s) root).
    middle = 1 - g + l
    root = np.sqrt(middle**2 + 4 * g * l)
    s = np.where(middle > 0, 2 * l / (np.abs(middle) + root), (np.abs(middle) + root) / (2 * g))
    found = signal * s * (l + g * s) / root + noise * g * s / ((l + g * s) * root)
    return found if found.ndim else float(found)


def optimal_penalty(ratio: float, *, noise: float, signal: float = 1.0) -> float:
    """The ridge penalty of smallest limiting risk: noise ratio / signal.

    >>> optimal_penalty(2.0, noise=0.25)
    0.5
    """
    _check(noise, signal, 0.0)
    if not signal > 0:
        raise ValueError(f"without a signal the best penalty is infinite, got signal {signal}")
    return float(_positive("ratio", ratio)) * noise / signal


def _counts(name: str, given: Any) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if not (np.isfinite(value).all() and (value == np.floor(value)).all() and (value >= 1).all()):
        raise ValueError(f"{name} must be whole numbers, at least 1, got {given}")
    return value


def _positive(name: str, given: Any) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if not (np.isfinite(value) & (value > 0)).all():
        raise ValueError(f"the {name} must be positive and finite, got {given}")
    return value


def _check(noise: float, signal: float, omitted: float) -> None:
    for name, value in (("noise", noise), ("signal", signal), ("omitted", omitted)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is a variance or a squared length, at least 0, got {value}")
