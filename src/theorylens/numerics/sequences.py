"""Intervals for a mean that hold at all sample sizes at once: look as often as you like, stop when you like.

Method   betting against every candidate mean (hedged capital), or boundaries for sub-Gaussian walks; Ville's inequality
Source   Waudby-Smith, Ramdas (2024), J. R. Stat. Soc. B 86:1 (betting); Robbins (1970), Ann. Math. Statist. 41:1397
         (mixture); Howard, Ramdas, McAuliffe, Sekhon (2021), Ann. Statist. 49:1055, equation 2 (stitched)
Assumes  terms in [0, 1] that are independent with one mean, or only with the same mean given the past
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
METHODS = ("betting", "mixture", "stitched")
GRID = 1000  # candidate means of the betting method; the interval is widened to the next one
TRUNCATION = 0.5  # a bet risks at most this part of the capital


@dataclass(frozen=True, kw_only=True, eq=False)
class ConfidenceSequence:
    """Limits after each term, shapes (n,): with probability 1 - delta all of them contain the mean."""

    mean: Array
    lower: Array
    upper: Array


def confidence_sequence(sample: Any, delta: float = 0.05, *, method: str = "betting") -> ConfidenceSequence:
    """Running limits for the expectation of the terms of ``sample``, valid at all times together.

    Limits never widen: each is the intersection of all before it.

    Parameters
    ----------
    sample
        Terms in [0, 1] in the order in which they came, shape (n,).
    delta
        Probability that any of the limits ever misses, both sides together.
    method
        Chosen before the sample is seen: ``"betting"`` adapts to the variance of the terms; ``"mixture"`` (tightest
        about n = 500) and ``"stitched"`` do not look at it.

    Raises
    ------
    ValueError
        Terms outside [0, 1] or none, a delta outside (0, 1), an unknown method.

    >>> found = confidence_sequence(np.tile([0.0, 1.0], 500))
    >>> bool(found.lower[-1] < 0.5 < found.upper[-1] < 0.6)
    True
    """
    x = np.asarray(sample, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"a sample is a list of at least one term in [0, 1], got shape {x.shape}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    t = np.arange(1.0, len(x) + 1)
    mean = np.cumsum(x) / t
    if method == "betting":
        lower, upper = _betting(x, delta)
    else:
        radius = mixture_radius(t, delta) if method == "mixture" else stitched_radius(t, delta)
        lower, upper = mean - radius, mean + radius
    lower, upper = np.maximum(lower, 0.0), np.minimum(upper, 1.0)
    return ConfidenceSequence(mean=mean, lower=np.maximum.accumulate(lower), upper=np.minimum.accumulate(upper))


def mixture_radius(t: Any, delta: float, *, tuned: float = 500.0) -> Array:
    """Robbins' boundary, two-sided: sqrt((t + r) ln((t + r) / (r delta^2))) / 2t.

    From a normal mixture over the exponent of the martingale of terms in [0, 1]; r is chosen so that the boundary is
    tightest near ``tuned`` terms.
    """
    t_ = _times(t, delta)
    if not 0 < tuned < math.inf:
        raise ValueError(f"tuned must be a finite number of terms above 0, got {tuned}")
    r = tuned / (2 * math.log(1 / delta) + math.log(2 * math.log(1 / delta) + 1) + 1)
    return np.asarray(np.sqrt((t_ + r) * np.log((t_ + r) / (r * delta * delta))) / (2 * t_) * (1 + 2.0**-49))


def stitched_radius(t: Any, delta: float) -> Array:
    """0.85 sqrt((ln ln(2t) + 0.72 ln(10.4 / delta)) / t), two-sided: as narrow as the iterated logarithm allows."""
    t_ = _times(t, delta)
    return np.asarray(0.85 * np.sqrt((np.log(np.log(2 * t_)) + 0.72 * math.log(10.4 / delta)) / t_) * (1 + 2.0**-49))


def _times(t: Any, delta: float) -> Array:
    """Numbers of terms as an array, when they are whole and ``delta`` is a probability."""
    t_ = np.asarray(t, dtype=np.float64)
    if not (np.isfinite(t_) & (t_ == np.floor(t_)) & (t_ >= 1)).all():
        raise ValueError(f"t must hold whole numbers, at least 1, got {t}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    return t_


def _betting(x: Array, delta: float) -> tuple[Array, Array]:
    """Two gamblers per candidate mean: one bets on larger terms, one on smaller; half of the capital each.

    The capital of the first falls with the candidate, that of the second rises, so a rejected candidate rejects all
    below it (above it): limits between two candidates are safe at the outer one.
    """
    m = np.linspace(0.0, 1.0, GRID + 1)
    with np.errstate(divide="ignore"):
        most_up, most_down = TRUNCATION / m, TRUNCATION / (1 - m)
    up, down = np.zeros_like(m), np.zeros_like(m)  # logarithms of the capitals
    reached = math.log(2 / delta)
    lower, upper = np.zeros_like(x), np.ones_like(x)
    total, squares = 0.5, 0.25  # one pseudo-term of 1/2 with the largest variance
    for i, term in enumerate(x):
        t = i + 1
        variance = squares / t  # of the past only: a bet is made before its term is seen
        bet = math.sqrt(2 * math.log(2 / delta) / (variance * t * math.log(1 + t)))
        up += np.log1p(np.minimum(bet, most_up) * (term - m))
        down += np.log1p(-np.minimum(bet, most_down) * (term - m))
        rejected = np.flatnonzero(up >= reached)
        lower[i] = m[rejected[-1]] if len(rejected) else 0.0
        rejected = np.flatnonzero(down >= reached)
        upper[i] = m[rejected[0]] if len(rejected) else 1.0
        total += term
        center = total / (t + 1)
        squares += (term - center) ** 2
    return lower, upper
