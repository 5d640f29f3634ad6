"""Relative entropy of two coins, and its inverse: the step from "kl is at most c" to a bound on a risk.

Method   differences written without cancellation; inversion by halving, rounded outwards
Source   Seeger (2002), JMLR 3:233; Langford (2005), JMLR 6:273
"""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ._crossing import Floats, crossing, crossing_of_numbers

Side = Literal["upper", "lower"]


@overload
def kl(q: float, p: float) -> float: ...  # type: ignore[overload-overlap]
@overload
def kl(q: object, p: object) -> NDArray[np.float64]: ...
def kl(q: Any, p: Any) -> float | NDArray[np.float64]:
    """kl(q || p) = q ln(q/p) + (1-q) ln((1-q)/(1-p)) in nats, for rates q and p in [0, 1]; arrays broadcast.

    Accurate to a few units in the last place also where q and p nearly agree and the textbook formula cancels.
    Infinite where p is 0 or 1 and q is not.

    >>> round(kl(0.05, 0.1), 12)
    0.016706501179
    >>> kl(0.5, 0.0)
    inf
    """
    q_, p_ = np.broadcast_arrays(_rate("q", q), _rate("p", p))
    value = _kl(np.atleast_1d(q_), np.atleast_1d(p_))
    return value.reshape(q_.shape) if q_.ndim else float(value[0])


@overload
def kl_inverse(q: float, c: float, side: Side = "upper") -> float: ...  # type: ignore[overload-overlap]
@overload
def kl_inverse(q: object, c: object, side: Side = "upper") -> NDArray[np.float64]: ...
def kl_inverse(q: Any, c: Any, side: Side = "upper") -> float | NDArray[np.float64]:
    """The farthest rate p with kl(q || p) <= c: above q for ``"upper"``, below it for ``"lower"``.

    Parameters
    ----------
    q
        Observed rate in [0, 1].
    c
        Budget in nats, at least 0; infinity is allowed. Arrays broadcast.

    Returns
    -------
    A float for numbers, an array for arrays. Rounded outwards: an upper inverse is never below the true root, a
    lower one never above; off by less than 1e-12 of its value (a lower one by (1 + c/q) 1e-12), or by one double
    where the root lies closer to q than doubles do.

    >>> round(kl_inverse(0.03, 0.02), 12)
    0.077153236068
    >>> round(kl_inverse(0.2, 0.03, "lower"), 12)
    0.114875999694
    """
    q_, c_ = np.broadcast_arrays(_rate("q", q), _budget(c))
    if side not in ("upper", "lower"):
        raise ValueError(f"side must be 'upper' or 'lower', got {side!r}")
    if not q_.ndim:
        return _inverse_of_number(float(q_), float(c_), side)

    def beyond(p: Floats) -> NDArray[np.bool_]:
        return _kl(q_, p) * (1 - _SLACK) - _TINY >= c_

    if side == "upper":
        _, root = crossing(beyond, q_, np.ones_like(q_))
    else:
        root, _ = crossing(lambda p: ~beyond(p), np.zeros_like(q_), q_)
    return np.where(c_ == 0, q_, root)


def _inverse_of_number(q: float, c: float, side: Side) -> float:
    """Thirty times faster than an array of one, and equal to its last bit: loops over bounds call this."""
    if c == 0:
        return q

    def beyond(p: float) -> bool:
        return _kl_of_numbers(q, p) * (1 - _SLACK) - _TINY >= c

    if side == "upper":
        return crossing_of_numbers(beyond, q, 1.0)[1]
    return crossing_of_numbers(lambda p: not beyond(p), 0.0, q)[0]


# Relative error granted to `_kl`: seventy times the largest seen against mpmath (1.3e-15), and an absolute part for
# values so small that doubles lose digits.
_SLACK = 1e-13
_TINY = 1e-320


def _kl(q: Floats, p: Floats) -> Floats:
    """With x = (p-q)/q and y = (q-p)/(1-q): kl = q (x - log(1+x)) + (1-q) (y - log(1+y)), two terms >= 0."""
    step = p - q
    value = _term(q, p, step) + _term(1 - q, 1 - p, -step)
    return np.where(step == 0, 0.0, value)


def _term(q: Floats, p: Floats, step: Floats) -> Floats:
    """``step - q log(p/q)`` with ``step = p - q``; 0 log 0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        x = step / q
        near = q * _log1p_gap(x)
        middle = step - q * np.log1p(x)
        # Well below q the ratio has the digits; where it leaves the range of doubles only the logarithms do.
        ratio = p / q
        below = step - q * np.log(ratio)
        extreme = step - q * (np.log(p) - np.log(q))
    value = np.where(np.abs(x) < 0.25, near, np.where(x < -0.5, below, middle))
    value = np.where((ratio < 1e-290) | (ratio > 1e290), extreme, value)
    return np.where(q == 0, step, value)


def _kl_of_numbers(q: float, p: float) -> float:
    """`_kl` of two numbers, operation by operation."""
    step = p - q
    return _term_of_numbers(q, p, step) + _term_of_numbers(1 - q, 1 - p, -step) if step else 0.0


def _term_of_numbers(q: float, p: float, step: float) -> float:
    if q == 0:
        return step
    if p == 0:
        return math.inf
    x, ratio = step / q, p / q
    # NumPy's logarithms also here: those of `math` differ in the last bit now and then.
    if not 1e-290 <= ratio <= 1e290:
        return step - q * float(np.log(p) - np.log(q))
    if abs(x) < 0.25:
        return float(q * _log1p_gap(x))
    return step - q * float(np.log(ratio) if x < -0.5 else np.log1p(x))


def _log1p_gap(x: Any) -> Any:
    """``x - log(1+x)`` for |x| < 1/4: log(1+x) = 2 artanh(r) with r = x/(2+x), and x - 2r = r x exactly."""
    r = x / (2 + x)
    square = r * r
    series = 0.0 * x
    for k in range(21, 1, -2):  # r^2 < 0.021: the terms left out are below 1e-18
        series = square * (series + 1 / k)
    return r * (x - 2 * series)


def _rate(name: str, given: Any) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if not ((value >= 0) & (value <= 1)).all():  # also catches NaN
        raise ValueError(f"{name} must lie between 0 and 1, got {given}; rescale a loss of another range first")
    return value


def _budget(given: Any) -> Floats:
    value = np.asarray(given, dtype=np.float64)
    if not (value >= 0).all():  # also catches NaN
        raise ValueError(f"c must be at least 0 (nats), got {given}")
    return value
