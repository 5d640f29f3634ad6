"""Limits of large random matrices, and small ones exactly: what a spectrum looks like when nothing was learnt.

Source   Marchenko, Pastur (1967), Math. USSR-Sbornik 1:457; Dean, Majumdar (2006), Phys. Rev. Lett. 97:160201 (GOE);
         de Bruijn (1955), J. Indian Math. Soc. 19:133 (integrals of Vandermonde determinants as Pfaffians)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_ANGLES = 4001
LARGEST = 10  # dimension up to which the Pfaffians below keep six digits


def marchenko_pastur_edges(ratio: float, variance: float = 1.0) -> tuple[float, float]:
    """Ends of the continuous spectrum of X'X / n for large n x d matrices X of independent entries.

    Parameters
    ----------
    ratio
        d / n, positive. Above 1 the spectrum has, besides, a share 1 - 1/ratio of exact zeros.
    variance
        Of the entries, whose mean is zero; positive.

    >>> marchenko_pastur_edges(0.25)
    (0.25, 2.25)
    """
    _positive(ratio=ratio, variance=variance)
    root = math.sqrt(ratio)
    return variance * (1 - root) ** 2, variance * (1 + root) ** 2


def marchenko_pastur_density(at: Floats, ratio: float, variance: float = 1.0) -> Floats:
    """Density of the continuous part at ``at``; it integrates to min(1, 1 / ratio).

    >>> float(marchenko_pastur_density(np.array([3.0]), 0.25)[0])
    0.0
    """
    low, high = marchenko_pastur_edges(ratio, variance)
    x = np.asarray(at, dtype=np.float64)
    inside = (x > low) & (x < high)
    safe = np.where(inside, x, 1.0)
    root = np.sqrt(np.where(inside, (high - x) * (x - low), 0.0))
    return np.asarray(np.where(inside, root / (2 * math.pi * variance * ratio * safe), 0.0))


def marchenko_pastur_cdf(at: Floats, ratio: float, variance: float = 1.0) -> Floats:
    """Distribution function at ``at``, with the share max(0, 1 - 1/ratio) of exact zeros.

    By the trapezoidal rule in the angle of x = middle - half cos(angle), where the integrand is smooth and periodic.

    >>> marchenko_pastur_cdf(np.array([0.0, 9.0]), 2.0).round(9).tolist()
    [0.5, 1.0]
    """
    low, high = marchenko_pastur_edges(ratio, variance)
    x = np.asarray(at, dtype=np.float64)
    middle, half = (low + high) / 2, (high - low) / 2
    angles = np.linspace(0.0, math.pi, _ANGLES)
    points = middle - half * np.cos(angles)
    inner = half**2 * np.sin(angles) ** 2 / (2 * math.pi * variance * ratio * np.where(points > 0, points, 1.0))
    if low <= 1e-12 * high:  # ratio 1: sin² / (1 - cos) = 1 + cos, also where both vanish
        inner = half * (1 + np.cos(angles)) / (2 * math.pi * variance * ratio)
    steps = (inner[1:] + inner[:-1]) / 2 * (angles[1] - angles[0])
    running = np.concatenate([[0.0], np.cumsum(steps)])
    place = np.arccos(np.clip((middle - x) / half, -1.0, 1.0))
    zeros = max(0.0, 1 - 1 / ratio)
    return np.asarray(np.where(x >= 0, zeros, 0.0) + np.interp(place, angles, running))


def goe_all_positive(n: int) -> float:
    """Probability that all ``n`` eigenvalues of a GOE matrix (independent Gaussian entries, symmetric) are positive.

    1/2, (2 - sqrt 2) / 4, ... by de Bruijn's Pfaffians; for large n about exp(-n² `goe_exponent`). At most n = 10.

    >>> round(goe_all_positive(2), 12) == round((2 - 2**0.5) / 4, 12)
    True
    """
    if not 1 <= n <= LARGEST:
        raise ValueError(f"n must be between 1 and {LARGEST}, got {n}; beyond, use exp(-n**2 * goe_exponent())")
    return math.exp(_log_pfaffian(n, half=True) - _log_pfaffian(n, half=False))


def goe_exponent() -> float:
    """-log P(all n eigenvalues positive) / n² for large n: (log 3) / 4.

    It speaks of Gaussian random matrices, not of Hessians of networks, whose entries are anything but independent.
    """
    return math.log(3) / 4


def semicircle_share(below: float) -> float:
    """Share of a semicircle law on [-1, 1] that lies below ``below``.

    >>> semicircle_share(0.0)
    0.5
    """
    if math.isnan(below):
        raise ValueError("below must be a number, got nan")
    x = min(1.0, max(-1.0, below))
    return 0.5 + (x * math.sqrt(1 - x * x) + math.asin(x)) / math.pi


def _log_pfaffian(n: int, *, half: bool) -> float:
    """Log of the integral of |Vandermonde| times Gaussians over the positive (or all) axes, up to a constant of n.

    The entries are double integrals of sign(y - x) over pairs of Hermite functions; an odd n is bordered by single
    ones. Gauss-Legendre panels, the inner integral by cumulative sums within the same panels' polynomials.
    """
    x, weights, inner = _panels(0.0 if half else -_REACH, _REACH)
    basis = _hermite(n, x)
    cumulative = inner(basis)  # integral from the left end to x
    total = basis @ weights
    skew = (basis * weights) @ (2 * cumulative - total[:, None]).T  # sum over x of phi_i(x) int sign(x - y) phi_j(y)
    skew = (skew - skew.T) / 2
    if n % 2:
        skew = np.block([[skew, total[:, None]], [-total[None, :], np.zeros((1, 1))]])
    sign, log = np.linalg.slogdet(skew)
    if sign <= 0:
        raise ArithmeticError(f"the Pfaffian of dimension {n} lost its digits")
    return float(log / 2)


_REACH = 12.0  # beyond this the Hermite functions up to degree 10 are below 1e-20
_PANELS, _NODES = 48, 20


def _panels(low: float, high: float) -> tuple[Floats, Floats, Callable[[Floats], Floats]]:
    """Nodes and weights of composite Gauss-Legendre, and the running integral of sampled smooth functions."""
    nodes, w = np.polynomial.legendre.leggauss(_NODES)
    edges = np.linspace(low, high, _PANELS + 1)
    half = (edges[1:] - edges[:-1]) / 2
    x = (edges[:-1, None] + half[:, None] * (nodes + 1)).ravel()
    weights = (half[:, None] * w).ravel()
    vander = np.polynomial.legendre.legvander(nodes, _NODES - 1)
    integrated = np.stack(
        [np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legint(row, lbnd=-1)) for row in np.eye(_NODES)]
    )
    running = np.linalg.solve(vander, np.eye(_NODES)).T @ integrated  # values at nodes -> integrals up to nodes

    def inner(values: Floats) -> Floats:
        pieces = values.reshape(len(values), _PANELS, _NODES)
        before = np.cumsum((pieces * w).sum(-1) * half, axis=1)
        before = np.concatenate([np.zeros((len(values), 1)), before[:, :-1]], axis=1)
        return np.asarray((before[..., None] + (pieces @ running) * half[:, None]).reshape(values.shape))

    return x, weights, inner


def _hermite(n: int, x: Floats) -> Floats:
    """The first n Hermite functions, orthonormal on the line, at ``x``."""
    rows = [math.pi**-0.25 * np.exp(-(x**2) / 2)]
    for k in range(1, n):
        before = rows[k - 2] if k > 1 else 0.0 * x
        rows.append(math.sqrt(2 / k) * x * rows[k - 1] - math.sqrt((k - 1) / k) * before)
    return np.stack(rows)


def _positive(**given: float) -> None:
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
