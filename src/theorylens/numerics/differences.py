"""How far a function of independent inputs, or a martingale, strays from its expectation, from bounds on its changes.

Method   McDiarmid's and Azuma's inequalities, both ways: probability of a deviation, deviation at a probability
Source   McDiarmid (1989), Surveys in Combinatorics; Boucheron, Lugosi, Massart (2013), theorem 6.2; Azuma (1967),
         Tohoku Math. J. 19:357; Efron, Stein (1981), Ann. Statist. 9:586
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mcdiarmid(differences: Any, deviation: float, *, sides: int = 2) -> float:
    """Probability that a function of independent inputs is off its expectation by at least ``deviation``.

    min(1, sides exp(-2 t^2 / sum c_i^2)).

    Parameters
    ----------
    differences
        c_i, one per input: how much the function can change when input i alone is replaced. Shape (n,), at least 0.
    deviation
        t, at least 0.
    sides
        2 for deviations either way, 1 for one way.

    Raises
    ------
    ValueError
        A negative or not finite difference or deviation, or no differences.

    >>> round(mcdiarmid([1e-3] * 1000, 0.05), 10)
    0.013475894
    >>> mcdiarmid([1e-3] * 1000, 0.01)
    1.0
    """
    return _tail(_norm(differences), deviation, 2.0, sides)


def mcdiarmid_deviation(differences: Any, delta: float, *, sides: int = 2) -> float:
    """The deviation that `mcdiarmid` gives probability ``delta``: sqrt(sum c_i^2 ln(sides/delta) / 2).

    >>> round(mcdiarmid_deviation([1e-3] * 1000, 0.05), 10)
    0.0429469408
    """
    return _deviation(_norm(differences), delta, 2.0, sides)


def azuma(differences: Any, deviation: float, *, sides: int = 2) -> float:
    """Probability that a martingale ends at least ``deviation`` from its start: min(1, sides exp(-t^2 / 2 sum c_i^2)).

    ``differences``: c_i bounds the size of step i in either direction; steps that stay in an interval of length c_i
    known before the step have the fourfold exponent of `mcdiarmid`.

    >>> round(azuma([1.0] * 100, 30.0, sides=1), 10)
    0.0111089965
    """
    return _tail(_norm(differences), deviation, 0.5, sides)


def azuma_deviation(differences: Any, delta: float, *, sides: int = 2) -> float:
    """The deviation that `azuma` gives probability ``delta``: sqrt(2 sum c_i^2 ln(sides/delta)).

    >>> round(azuma(np.ones(50), azuma_deviation(np.ones(50), 0.1)), 12)
    0.1
    """
    return _deviation(_norm(differences), delta, 0.5, sides)


def bounded_differences(statistic: Callable[[Array], float], sample: Array, replacements: Array) -> Array:
    """Largest change seen when one input is replaced: a lower estimate of the c_i that `mcdiarmid` needs.

    Parameters
    ----------
    statistic
        Of an array (n, ...); a number.
    sample
        Shape (n, ...).
    replacements
        Values to put in the place of each input, shape (k, ...).

    Returns
    -------
    Shape (n,). What was not tried may change more, so a bound from these numbers is no certificate; they show where a
    claimed c_i is too small.
    """
    sample = np.array(sample, dtype=np.float64)
    if not len(sample) or not len(replacements):
        raise ValueError(f"need inputs and replacements, got {len(sample)} and {len(replacements)}")
    found = np.zeros(len(sample))
    for i in range(len(sample)):
        changed = sample.copy()
        values = []
        for each in (sample[i], *replacements):
            changed[i] = each
            values.append(float(statistic(changed)))
        found[i] = max(values) - min(values)
    return found


def efron_stein(statistic: Callable[[Array], float], sample: Array, copies: Array) -> float:
    """Estimate of the Efron-Stein bound on the variance: sum over i of (f - f with input i redrawn)^2 / 2.

    The variance of the statistic is at most the expectation of this number; it is an unbiased estimate of that bound
    from one sample and one independent copy of every input, ``copies`` of the same shape. Average it over samples.
    """
    sample, copies = np.asarray(sample, dtype=np.float64), np.asarray(copies, dtype=np.float64)
    if sample.shape != copies.shape or not len(sample):
        raise ValueError(f"need one copy of every input, got shapes {sample.shape} and {copies.shape}")
    here, total = float(statistic(sample)), []
    for i in range(len(sample)):
        changed = sample.copy()
        changed[i] = copies[i]
        total.append((here - float(statistic(changed))) ** 2)
    return math.fsum(total) / 2


def _tail(norm: float, deviation: float, exponent: float, sides: int) -> float:
    """min(1, sides exp(-exponent (t / norm)^2)), rounded up: never 0 where the exponential is not."""
    if not (math.isfinite(deviation) and deviation >= 0):
        raise ValueError(f"the deviation must be a finite number, at least 0, got {deviation}")
    _check_sides(sides)
    if norm == 0:
        return 0.0 if deviation > 0 else 1.0
    ratio = deviation / norm
    rate = min(exponent * ratio * ratio, 1e4)  # beyond, the least double is the answer
    # The relative error of the exponential is the absolute one of its exponent.
    return min(1.0, math.nextafter(sides * math.exp(-rate) * (1 + (rate + 8) * 2.0**-50), math.inf))


def _deviation(norm: float, delta: float, exponent: float, sides: int) -> float:
    """Norm sqrt(ln(sides / delta) / exponent), rounded up."""
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    _check_sides(sides)
    return norm * math.sqrt((math.log(sides) - math.log(delta)) / exponent) * (1 + 2.0**-49)


def _check_sides(sides: int) -> None:
    if sides not in (1, 2):
        raise ValueError(f"sides must be 1 or 2, got {sides}")


def _norm(differences: Any) -> float:
    """sqrt(sum c_i^2), scaled so that squares of very small or large numbers neither vanish nor overflow."""
    c = np.atleast_1d(np.asarray(differences, dtype=np.float64))
    if c.ndim != 1 or not len(c):
        raise ValueError(f"differences must be a list of one number per input, got shape {c.shape}")
    if not (np.isfinite(c).all() and (c >= 0).all()):
        raise ValueError("differences must be finite and at least 0; each bounds how far one input can move the result")
    largest = float(c.max())
    return largest * math.sqrt(math.fsum((c / largest) ** 2)) if largest else 0.0
