"""A bulk of eigenvalues as noise would make it, and those beyond its edge.

Method   ratio and variance of the Marchenko-Pastur law from the first two moments of what is left without the k largest
         eigenvalues; k such that exactly those lie beyond the edge, and the law is closest
Source   Marchenko, Pastur (1967), Math. USSR-Sbornik 1:457; Johnstone (2001), Ann. Statist. 29:295 (edge fluctuations)
Assumes  a bulk that is positive semidefinite but for little
Breaks   any bulk has a closest law: `BulkFit.distance` says how close it is. Hessians of networks have negative
         eigenvalues and heavy tails, and are mostly far from every such law
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .random_matrix import marchenko_pastur_cdf, marchenko_pastur_edges

Floats = NDArray[np.float64]
Measure = tuple[Floats, Floats]  # points in increasing order and their weights, which add up to 1
ZERO = 1e-6  # share of the largest size below which an eigenvalue is zero: rounding of single precision
QUANTILE = 2.02  # of the Tracy-Widom law of order 1: the largest of pure noise lies beyond with probability 1 %


@dataclass(frozen=True, kw_only=True)
class BulkFit:
    """The Marchenko-Pastur law closest to a bulk.

    Attributes
    ----------
    ratio, variance
        Of the law: eigenvalues of X'X / n for n x d independent entries of that variance, ratio = d / n.
    edges
        Ends of its continuous part; for a ratio above 1 a share 1 - 1/ratio of zeros lies besides.
    outliers
        Eigenvalues beyond the upper edge by more than chance (1 %) puts the largest of noise there.
    distance
        Largest difference of the distribution functions of the bulk and the law (Kolmogorov's; for a quadrature the
        part that its weights prove), over the law's share that is not zero. A few over the number of its eigenvalues
        for noise; from about a tenth on the bulk is not noise of this kind, and the edge and the count mean little.
    consistent
        Whether exactly the outliers lie beyond the edge of the law fitted without them.
    """

    ratio: float
    variance: float
    edges: tuple[float, float]
    outliers: int
    distance: float
    consistent: bool


def fit_marchenko_pastur(values: Floats, *, most: int | None = None) -> BulkFit:
    """The law closest to the bulk of ``values``, all eigenvalues of a matrix, and how many lie beyond its edge.

    Parameters
    ----------
    values
        Shape (n,), n at least 10, finite, any order.
    most
        Largest number of outliers considered; a tenth of the values, at most 100, unless said otherwise.

    >>> x = np.random.default_rng(0).normal(size=(400, 100))
    >>> fit = fit_marchenko_pastur(np.linalg.eigvalsh(x.T @ x / 400))
    >>> fit.outliers, round(fit.ratio, 2), round(fit.variance, 2)
    (0, 0.25, 1.0)
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    if x.ndim != 1 or len(x) < 10 or not np.isfinite(x).all():
        raise ValueError(f"values must be at least 10 finite eigenvalues, got shape {x.shape}")
    x[np.abs(x) <= ZERO * np.abs(x).max()] = 0.0
    most = min(100, len(x) // 10) if most is None else most
    if not 0 <= most <= len(x) - 10:
        raise ValueError(f"most must lie between 0 and {len(x) - 10} for {len(x)} eigenvalues, got {most}")
    rests = [[(rest := x[: len(x) - k], np.full(len(rest), 1 / len(rest)))] for k in range(most + 1)]
    return fit_rests(x[::-1][: most + 1], rests, size=len(x))


def fit_rests(largest: Floats, rests: Sequence[Sequence[Measure] | None], *, size: int) -> BulkFit:
    """`fit_marchenko_pastur` of a spectrum known by its largest eigenvalues and measures of the rest.

    Parameters
    ----------
    largest
        At least len(rests) of them (one fewer will do where nothing is known of the next), in decreasing order.
    rests
        ``rests[k]``: draws of the measure of all but the k largest, or None where it is not known.
    size
        Number of eigenvalues.
    """
    fits = [_fit(largest, k, draws, size) for k, draws in enumerate(rests) if draws is not None]
    known = [fit for fit in fits if fit is not None]
    if not known:
        raise ValueError("the bulk has no positive spread, so there is no Marchenko-Pastur law to fit")
    return min(known, key=lambda fit: (not fit.consistent, fit.distance))


def _fit(largest: Floats, k: int, draws: Sequence[Measure], size: int) -> BulkFit | None:
    first = math.fsum(float(w @ x) for x, w in draws) / len(draws)
    second = math.fsum(float(w @ x**2) for x, w in draws) / len(draws)
    if not (first > 0 and second > first**2):
        return None
    ratio = second / first**2 - 1  # the law's moments are variance and variance² (1 + ratio)
    edges = marchenko_pastur_edges(ratio, first)
    limit = edges[1] + QUANTILE * _fluctuation(ratio, first, size - k)
    beyond = int((largest > limit).sum())
    distance = max(1.0, ratio) * math.fsum(_distance(x, w, ratio, first) for x, w in draws) / len(draws)
    return BulkFit(ratio=ratio, variance=first, edges=edges, outliers=beyond, distance=distance, consistent=beyond == k)


def _fluctuation(ratio: float, variance: float, size: int) -> float:
    """Scale of the largest eigenvalue of noise around the edge (Johnstone 2001), for ``size`` / ratio rows."""
    d, n = math.sqrt(size), math.sqrt(size / ratio)
    return float(variance * (n + d) * (1 / n + 1 / d) ** (1 / 3) / n**2)


def _distance(x: Floats, weights: Floats, ratio: float, variance: float) -> float:
    """Kolmogorov's distance, as far as weights of a quadrature bound the distribution function at its nodes."""
    points, place = np.unique(x, return_inverse=True)
    mass = np.bincount(place, weights)
    upto = np.cumsum(mass)
    law = marchenko_pastur_cdf(points, ratio, variance)
    before = marchenko_pastur_cdf(np.nextafter(points, -np.inf), ratio, variance)
    return float(np.maximum(np.maximum(upto - mass - before, law - upto), 0.0).max())
