"""How small or large an error rate can be, given the errors counted on independent examples.

Method   inversion of the exact binomial tail (one-sided), rounded outwards
Source   Clopper, Pearson (1934), Biometrika 26:404; Langford (2005), JMLR 6:273, theorem 3.3
Assumes  the n examples are independent draws that had no part in choosing the model
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ._crossing import Floats, crossing

Side = Literal["upper", "lower"]


@overload
def clopper_pearson(  # type: ignore[overload-overlap]
    errors: int, n: int, delta: float, side: Side = "upper"
) -> float: ...
@overload
def clopper_pearson(errors: object, n: object, delta: object, side: Side = "upper") -> NDArray[np.float64]: ...
def clopper_pearson(errors: Any, n: Any, delta: Any, side: Side = "upper") -> float | NDArray[np.float64]:
    """One-sided exact bound on a binomial rate: wrong with probability at most ``delta``, whatever the rate.

    Parameters
    ----------
    errors, n
        Errors counted among ``n`` independent examples: whole numbers, 0 <= errors <= n. Arrays broadcast.
    delta
        Probability that the bound may fail, strictly between 0 and 1, all of it spent on this side.
    side
        ``"upper"``: the rate p at which ``errors`` or fewer have probability ``delta``.
        ``"lower"``: the rate at which ``errors`` or more have probability ``delta``.

    Returns
    -------
    A float for numbers, an array for arrays. Rounded outwards: an upper bound is never below the true one, a lower
    bound never above; off by at most 1e-9 of its value for n up to 1e9, 1e-6 up to 1e12, and delta of 1e-297 or more
    (a bound within 1e-16 of 1 is 1).

    >>> round(clopper_pearson(5, 100, 0.05), 10)
    0.1022533776
    >>> clopper_pearson(100, 100, 0.05)
    1.0
    """
    k, n_, d = np.broadcast_arrays(*_counts(errors, n), _probability(delta))
    shape, (k, n_, d) = k.shape, (np.atleast_1d(each) for each in (k, n_, d))
    if side == "upper":
        bound = _upper(k, n_, d)
    elif side == "lower":
        bound = _lower(k, n_, d)
    else:
        raise ValueError(f"side must be 'upper' or 'lower', got {side!r}")
    return bound.reshape(shape) if shape else float(bound[0])


def clopper_pearson_interval(errors: Any, n: Any, delta: Any) -> tuple[Any, Any]:
    """Both bounds, ``delta`` shared equally: the interval misses the rate with probability at most ``delta``.

    Arguments as for `clopper_pearson`; returns (lower, upper).

    >>> lower, upper = clopper_pearson_interval(5, 100, 0.05)
    >>> f"{lower:.4f} {upper:.4f}"
    '0.0164 0.1128'
    """
    half = _probability(delta) / 2
    half_ = half if half.ndim else float(half)
    return clopper_pearson(errors, n, half_, "lower"), clopper_pearson(errors, n, half_, "upper")


def _upper(k: Floats, n: Floats, delta: Floats) -> Floats:
    """Least double that provably has P(X <= k) <= delta."""
    full = k == n
    k = np.where(full, n - 1, k)  # any answer will do there, it is replaced by 1 below
    slack = _slack(n)

    def certain(p: Floats) -> NDArray[np.bool_]:
        # The smaller of the two tails carries the digits.
        below = special.betaincc(k + 1, n - k, p) * (1 + slack) + _TINY <= delta
        above = special.betainc(k + 1, n - k, p) * (1 - slack) >= 1 - delta
        return np.asarray(np.where(delta <= 0.5, below, above), dtype=np.bool_)

    guess = np.asarray(special.betainccinv(k + 1, n - k, delta), np.float64)
    _, bound = crossing(certain, np.zeros_like(delta), np.ones_like(delta), guess)
    # No errors: 1 - delta^(1/n), three roundings.
    none = np.minimum(1.0, -np.expm1(np.log(delta) / n) * (1 + 2**-50))
    return np.where(full, 1.0, np.where(k == 0, none, bound))


def _lower(k: Floats, n: Floats, delta: Floats) -> Floats:
    """Greatest double that provably has P(X >= k) <= delta."""
    empty = k == 0
    k = np.where(empty, 1, k)
    slack = _slack(n)

    def uncertain(p: Floats) -> NDArray[np.bool_]:
        above = special.betainc(k, n - k + 1, p) * (1 + slack) + _TINY <= delta
        below = special.betaincc(k, n - k + 1, p) * (1 - slack) >= 1 - delta
        return np.asarray(~np.where(delta <= 0.5, above, below), dtype=np.bool_)

    guess = np.asarray(special.betaincinv(k, n - k + 1, delta), np.float64)
    bound, _ = crossing(uncertain, np.zeros_like(delta), np.ones_like(delta), guess)
    # One error: 1 - (1 - delta)^(1/n), where granting scipy an error would show in full.
    single = np.nextafter(-np.expm1(np.log1p(-delta) / n) * (1 - 2**-50), 0.0)
    return np.where(empty, 0.0, np.where(k == 1, single, bound))


# Below the least normal double relative errors mean nothing; such a delta gets the trivial bound.
_TINY = 1e-307


def _slack(n: Floats) -> Floats:
    """Relative error granted to scipy's incomplete beta function.

    Measured against 40 digits: 2e-16 up to n = 10^4, then growing with n (logarithms of gamma functions cancel) to
    2e-14 at 10^6. Fifty times that costs the bound less than one part in 10^9.
    """
    return 1e-12 * np.maximum(1.0, n / 1e6)


def _counts(errors: Any, n: Any) -> tuple[Floats, Floats]:
    k, n_ = _whole("errors", errors), _whole("n", n)
    if (n_ < 1).any():
        raise ValueError(f"n must be at least 1, got {n_.min():.0f}; a bound needs examples")
    if (k < 0).any():
        raise ValueError(f"errors must not be negative, got {k.min():.0f}")
    if (k > n_).any():
        where = np.argmax(np.ravel(k > n_))
        k_, n__ = (float(np.ravel(each)[where]) for each in np.broadcast_arrays(k, n_))
        raise ValueError(f"errors must not exceed n, got {k_:.0f} errors of {n__:.0f} examples")
    return k, n_


def _whole(name: str, given: Any) -> Floats:
    value = np.asarray(given)
    if value.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a whole number, got {value.dtype}; count first, e.g. with .sum()")
    number = value.astype(np.float64)
    if not (np.isfinite(number).all() and (number == np.floor(number)).all()):
        raise ValueError(f"{name} must be a whole number, got {given}; weighted counts have no binomial distribution")
    if (number > 2**53).any():
        raise ValueError(f"{name} must be at most 2**53 to be a whole number exactly, got {given}")
    return number


def _probability(delta: Any) -> Floats:
    value = np.asarray(delta, dtype=np.float64)
    if not ((value > 0) & (value < 1)).all():  # also catches NaN
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    return value
