"""How far a mean of independent terms in [0, 1] strays from its expectation, at a given probability of failure.

Every function gives a one-sided radius unless it says otherwise: the expectation exceeds the mean by more with
probability at most ``delta``. For both sides give each ``delta / 2``; for terms in [a, b] multiply by b - a. Radii are
rounded up, never below the formula; arrays broadcast, numbers give a float.

Source   Hoeffding (1963), JASA 58:13; Bennett (1962), JASA 57:33; Boucheron, Lugosi, Massart (2013), Concentration
         Inequalities, chapter 2; Maurer, Pontil (2009), COLT, theorem 4; Massart (1990), Ann. Probab. 18:1269
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ._crossing import Floats, crossing
from .relative_entropy import Side, kl_inverse

# A handful of roundings of half a unit in the last place each; eight units outwards cover them.
_UP = 1 + 2.0**-49


@overload
def hoeffding(n: int, delta: float) -> float: ...  # type: ignore[overload-overlap]
@overload
def hoeffding(n: object, delta: object) -> NDArray[np.float64]: ...
def hoeffding(n: Any, delta: Any) -> float | NDArray[np.float64]:
    """Radius sqrt(ln(1/delta) / 2n), one-sided, for the mean of ``n`` independent terms in [0, 1].

    The expectation exceeds the mean plus this radius with probability at most ``delta`` (Hoeffding 1963, JASA 58:13,
    theorem 1). For both sides at once give each ``delta / 2``; for terms in [a, b] multiply by b - a. Rounded up,
    never below the formula. Arrays broadcast; a float for numbers.

    >>> round(hoeffding(2000, 0.01), 12)
    0.033930702122
    """
    n_, nats = _count(n), _nats(delta)
    return _returned(np.sqrt(nats / (2.0 * n_)) * _UP)


@overload
def bernstein(n: int, variance: float, delta: float) -> float: ...  # type: ignore[overload-overlap]
@overload
def bernstein(n: object, variance: object, delta: object) -> NDArray[np.float64]: ...
def bernstein(n: Any, variance: Any, delta: Any) -> float | NDArray[np.float64]:
    """Radius sqrt(2 v L / n) + L / 3n with L = ln(1/delta), for a known bound ``variance`` v on the mean variance.

    The variance must be known beforehand; `empirical_bernstein` takes the one measured on the sample. Errors: a
    variance outside [0, 1/4], which terms in [0, 1] cannot have.

    >>> round(bernstein(1000, 0.0475, 0.05), 10)
    0.0178685082
    """
    n_, v, nats = np.broadcast_arrays(_count(n), _variance(variance), _nats(delta))
    return _returned((np.sqrt(2 * v * nats / n_) + nats / (3.0 * n_)) * _UP)


@overload
def bennett(n: int, variance: float, delta: float) -> float: ...  # type: ignore[overload-overlap]
@overload
def bennett(n: object, variance: object, delta: object) -> NDArray[np.float64]: ...
def bennett(n: Any, variance: Any, delta: Any) -> float | NDArray[np.float64]:
    """Radius t that solves n v h(t/v) = ln(1/delta), h(u) = (1+u) ln(1+u) - u; never wider than `bernstein`.

    Arguments and errors as `bernstein`; at most 1, since the terms lie in [0, 1].

    >>> bennett(1000, 0.0475, 0.05) < bernstein(1000, 0.0475, 0.05)
    True
    """
    n_, v, nats = np.broadcast_arrays(_count(n), _variance(variance), _nats(delta))
    shape, (n_, v, nats) = n_.shape, (np.atleast_1d(each).astype(np.float64) for each in (n_, v, nats))

    def enough(t: Floats) -> NDArray[np.bool_]:
        return _bennett_rate(t, v) * n_ * (1 - 1e-12) >= nats

    _, root = crossing(enough, np.zeros_like(v), np.ones_like(v))
    root = np.where(v == 0, 0.0, root)
    return root.reshape(shape) if shape else float(root[0])


@overload
def empirical_bernstein(n: int, variance: float, delta: float) -> float: ...  # type: ignore[overload-overlap]
@overload
def empirical_bernstein(n: object, variance: object, delta: object) -> NDArray[np.float64]: ...
def empirical_bernstein(n: Any, variance: Any, delta: Any) -> float | NDArray[np.float64]:
    """Radius sqrt(2 V L / n) + 7 L / 3(n-1), L = ln(2/delta), from the variance V of the sample itself.

    V is the unbiased sample variance, sum of squared deviations / (n - 1). The whole ``delta`` is spent on this side
    (Maurer, Pontil 2009, theorem 4). Errors: n below 2, V negative or above what n terms in [0, 1] can have.

    >>> round(empirical_bernstein(1000, 0.0475, 0.05), 10)
    0.0273361389
    """
    n_, v, nats = np.broadcast_arrays(_count(n, least=2), _finite("variance", variance), _nats(delta))
    most = n_ / (4.0 * (n_ - 1.0))
    if ((v < 0) | (v > most * (1 + 1e-12))).any():
        raise ValueError(f"the variance of terms in [0, 1] lies between 0 and n/(4(n-1)), got {variance} for n = {n}")
    nats = nats + np.log(2.0)
    return _returned((np.sqrt(2 * v * nats / n_) + 7 * nats / (3.0 * (n_ - 1.0))) * _UP)


@overload
def chernoff_kl(mean: float, n: int, delta: float, side: Side = "upper") -> float: ...  # type: ignore[overload-overlap]
@overload
def chernoff_kl(mean: object, n: object, delta: object, side: Side = "upper") -> NDArray[np.float64]: ...
def chernoff_kl(mean: Any, n: Any, delta: Any, side: Side = "upper") -> float | NDArray[np.float64]:
    """Bound (no radius) on the expectation from the observed ``mean``: kl(mean || bound) = ln(1/delta) / n.

    For independent terms in [0, 1], identically distributed or not; never wider than the mean plus `hoeffding`.

    >>> chernoff_kl(0.05, 1000, 0.05) < 0.05 + hoeffding(1000, 0.05)
    True
    """
    budget = np.asarray(_nats(delta) / _count(n)) * _UP
    return kl_inverse(mean, budget if budget.ndim else float(budget), side)


@overload
def dkw(n: int, delta: float, *, sides: int = 2) -> float: ...  # type: ignore[overload-overlap]
@overload
def dkw(n: object, delta: object, *, sides: int = 2) -> NDArray[np.float64]: ...
def dkw(n: Any, delta: Any, *, sides: int = 2) -> float | NDArray[np.float64]:
    """Half-width of a band around the empirical distribution function that contains the true one everywhere.

    sqrt(ln(sides/delta) / 2n) for ``n`` independent draws of any distribution (Dvoretzky, Kiefer, Wolfowitz with
    Massart's constant 2; one-sided for delta <= 1/2 only). With probability at least 1 - delta no value of the
    distribution function is further off, so every quantile is bounded at once.

    >>> round(dkw(1000, 0.05), 10)
    0.0429469408
    """
    n_, nats = _count(n), _nats(delta)
    if sides not in (1, 2):
        raise ValueError(f"sides must be 1 or 2, got {sides}")
    if sides == 1 and (np.asarray(delta) > 0.5).any():
        raise ValueError(f"the one-sided band is proved for delta up to 1/2, got {delta}; use sides=2")
    return _returned(np.minimum(1.0, np.sqrt((nats + np.log(sides)) / (2.0 * n_)) * _UP))


def _bennett_rate(t: Floats, v: Floats) -> Floats:
    """``v h(t/v)``; for small u the first terms cancel, so h(u) = u^2/2 - u^3/6 + u^4/12 is used there."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u = t / v
        near = u * u * (0.5 - u * (1 / 6 - u / 12))
        far = (1 + u) * np.log1p(u) - u
        rate = v * np.where(u < 1e-4, near, far)
    return np.where(v == 0, np.inf, rate)


def _returned(radius: Any) -> float | NDArray[np.float64]:
    found = np.asarray(radius, dtype=np.float64)
    return found if found.ndim else float(found)


def _count(n: Any, least: int = 1) -> Any:
    n_ = np.asarray(n)
    if n_.dtype.kind not in "iuf" or not (np.isfinite(n_).all() and (n_ == np.floor(n_)).all() and (n_ >= least).all()):
        raise ValueError(f"n must be a whole number, at least {least}, got {n}")
    return n_


def _nats(delta: Any) -> Floats:
    delta_ = np.asarray(delta, dtype=np.float64)
    if not ((delta_ > 0) & (delta_ < 1)).all():  # also catches NaN
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    return np.asarray(-np.log(delta_))


def _finite(name: str, given: Any) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, got {given}")
    return value


def _variance(given: Any) -> Floats:
    value = _finite("variance", given)
    if ((value < 0) | (value > 0.25)).any():
        raise ValueError(f"the variance of a term in [0, 1] lies between 0 and 1/4, got {given}; rescale other ranges")
    return value
