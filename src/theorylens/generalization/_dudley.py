"""Dudley's entropy integral with the truncation that makes it smallest.

Method   R_S <= inf over a of 4a + 12/sqrt(n) int_a^b sqrt(ln N(e)) de, b the largest norm of a function
Source   Dudley (1967), J. Funct. Anal. 1:290; truncated form: Srebro, Sridharan, Tewari (2010), NeurIPS, lemma A.3
Assumes  N(e): covering number in L2 of the n points; the class contains no function longer than b
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import integrate

from ._asked import is_whole
from ._covering import EmpiricalCover

HALVINGS = 200
SHELLS = 60


@dataclass(frozen=True, kw_only=True)
class Dudley:
    """A bound on the empirical Rademacher complexity, and the scale below which it does not integrate."""

    bound: float
    truncation: float


def dudley(
    covering: Callable[[float], float] | EmpiricalCover, n: int, largest: float, *, truncation: float | None = None
) -> Dudley:
    """Bound on the empirical Rademacher complexity from covering numbers at all scales.

    Parameters
    ----------
    covering
        ln N(e), nats, not increasing, as a function of the scale; or the covers of `empirical_cover`.
    n
        Points.
    largest
        b: the largest root mean square of a function of the class on the points.
    truncation
        a; by default the best one. The derivative 4 - 12 sqrt(ln N(a) / n) increases, so the best a is where ln N
        falls to n/9.

    Returns
    -------
    `Dudley`. The bound is at most ``largest``, which the complexity never exceeds.

    Raises
    ------
    ValueError
        n below 1, a negative or infinite b, a truncation outside [0, b], a logarithm that is negative or NaN, or an
        integral that does not converge (an a of 0 where ln N grows like 1/e^2).

    >>> from math import log
    >>> round(dudley(lambda e: 10 * log(1 + 2 / e), 1000, 1.0, truncation=0.0).bound, 3)  # clipped
    1.0
    >>> dudley(lambda e: 10 * log(1 + 2 / e), 100_000, 1.0).bound < 0.17
    True
    """
    if not is_whole(n) or n < 1:
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    if not (math.isfinite(largest) and largest >= 0):
        raise ValueError(f"the largest norm must be finite and at least 0, got {largest}")
    logs = covering.log_count if isinstance(covering, EmpiricalCover) else covering
    if truncation is None:
        truncation = _best(logs, n, largest)
    elif not 0 <= truncation <= largest:
        raise ValueError(f"the truncation must lie between 0 and the largest norm {largest}, got {truncation}")
    if isinstance(covering, EmpiricalCover):
        area = _steps(covering, truncation, largest)
    else:
        area = entropy_integral(covering, truncation, largest)
    bound = (4 * truncation + 12 / math.sqrt(n) * area) * (1 + 1e-9)
    return Dudley(bound=min(largest, bound), truncation=truncation)


def entropy_integral(covering: Callable[[float], float], low: float, high: float) -> float:
    """Integral of sqrt(ln N(e)) from ``low`` to ``high``; the error that the quadrature reports is added.

    Halves of halves towards ``low`` one by one, so that a singularity there is either seen to be integrable or refused.

    >>> from math import log
    >>> round(entropy_integral(lambda e: 3 * log(1 + 2 / e), 0.0, 1.0), 9)
    2.342739634
    """
    if not 0 <= low <= high:
        raise ValueError(f"need 0 <= low <= high, got {low} and {high}")

    def height(e: float) -> float:
        return math.sqrt(_checked(covering, e))

    total, error, right = [0.0], [0.0], high - low
    for _ in range(SHELLS):
        left = right / 2
        area, off, *_rest = integrate.quad(height, low + left, low + right, epsrel=1e-12, limit=200, full_output=True)
        total.append(area)
        error.append(off)
        right = left
    found, off = math.fsum(total), math.fsum(error)
    # The shells left out add up to about the last one when shells halve, as they do where ln N is finite or grows
    # like a logarithm; where they do not get smaller the integral has no limit.
    if not math.isfinite(found) or total[-1] > 1e-12 * found or off > 1e-3 * found:
        raise ValueError(f"the entropy integral from {low} does not converge; use a positive truncation")
    return found + off


def _steps(cover: EmpiricalCover, low: float, high: float) -> float:
    """The integral of a step function, exactly: between two radii one cover is in use."""
    inside = cover.radii[(cover.radii > low) & (cover.radii < high)]
    edges = np.unique(np.concatenate([[low], inside, [high]]))
    # On [left, right) the cover in use is that of the left edge.
    return math.fsum(
        (right - left) * math.sqrt(cover.log_count(float(left))) for left, right in itertools.pairwise(edges)
    )


def _best(logs: Callable[[float], float], n: int, largest: float) -> float:
    """Smallest scale at which ln N <= n / 9 (`largest` when there is none below): the minimum, by convexity."""
    low, high = 0.0, largest
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if _checked(logs, middle) <= n / 9:
            high = middle
        else:
            low = middle
    # Where ln N(0) itself is small enough nothing is cut off.
    return 0.0 if high < 1e-12 * largest else high


def _checked(logs: Callable[[float], float], scale: float) -> float:
    value = float(logs(scale))
    if not value >= 0:
        raise ValueError(f"the log covering number must be at least 0, got {value} at scale {scale:.3g}")
    return value
