"""In how many ways can a class label m points? What a class with VC dimension d can do at most, and halfspaces exactly.

Source   Sauer (1972), J. Comb. Theory A 13:145; Shelah (1972), Pacific J. Math. 41:247; Cover (1965), IEEE Trans.
         Electronic Computers 14:326
"""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ._asked import whole
from ._elementwise import elementwise

Objects = NDArray[np.object_]
Floats = NDArray[np.float64]

_TERMS = 1_000_000  # terms of a sum taken singly; beyond, the rest is bounded by a geometric series


@overload
def sauer_shelah(m: int, d: int) -> int: ...  # type: ignore[overload-overlap]
@overload
def sauer_shelah(m: object, d: object) -> Objects: ...
def sauer_shelah(m: Any, d: Any) -> int | Objects:
    """Sum of C(m, i) over i <= d: no class of VC dimension ``d`` labels ``m`` points in more ways. Exact.

    Numbers give a Python integer of any size; arrays broadcast to an array of such integers (dtype object), because
    the sums soon leave 64 bits. `log_sauer_shelah` gives float64.

    Raises
    ------
    ValueError
        ``m`` or ``d`` negative or not whole, shapes that do not broadcast.

    >>> sauer_shelah(10, 3), sauer_shelah(12, 4)
    (176, 794)
    >>> sauer_shelah([10, 12], [[3], [4]]).tolist()
    [[176, 299], [386, 794]]
    """
    return elementwise(_sum_of_binomials, m, d, dtype=object)  # type: ignore[no-any-return]


def _sum_of_binomials(m: int, d: int) -> int:
    m, d = whole("m", m, 0), whole("d", d, 0)
    total = term = 1
    for i in range(1, min(m, d) + 1):
        term = term * (m - i + 1) // i
        total += term
    return total


@overload
def log_sauer_shelah(m: int, d: int) -> float: ...  # type: ignore[overload-overlap]
@overload
def log_sauer_shelah(m: object, d: object) -> Floats: ...
def log_sauer_shelah(m: Any, d: Any) -> float | Floats:
    """Natural logarithm of `sauer_shelah`, for numbers too large to write down; relative error below 1e-12.

    Arrays broadcast to float64.
    """
    return elementwise(_log_sum, m, d)  # type: ignore[no-any-return]


def _log_sum(m: int, d: int) -> float:
    m, d = whole("m", m, 0), whole("d", d, 0)
    if d >= m:
        return m * math.log(2)
    if 2 * d >= m:  # what is left out is the smaller part
        return m * math.log(2) + math.log1p(-math.exp(_log_lower_sum(m, m - d - 1) - m * math.log(2)))
    return _log_lower_sum(m, d)


def _log_lower_sum(m: int, d: int) -> float:
    """Logarithm of the sum of C(m, i) over i <= d < m/2: the largest term times 1 + r_d + r_d r_(d-1) + ..."""
    last = max(0, d - _TERMS)
    i = np.arange(d, last, -1, dtype=np.float64)
    ratios = i / (m - i + 1)
    products = np.cumprod(ratios)
    tail = 0.0
    if last:
        ratio = last / (m - last + 1)
        tail = float(products[-1]) * ratio / (1 - ratio)
    return _log_binomial(m, d) + math.log1p(float(products.sum()) + tail)


def _log_binomial(m: int, k: int) -> float:
    if k > _TERMS:  # and k <= m / 2: Stirling's series, whose next term is below 1e-20
        rest = m - k
        entropy = k * math.log(m / k) - rest * math.log1p(-k / m)
        return entropy + 0.5 * math.log(m / (2 * math.pi * k) / rest) + (1 / m - 1 / k - 1 / rest) / 12
    j = np.arange(k, dtype=np.float64)
    return float(np.log((m - j) / (j + 1)).sum())  # differences of lgamma would lose digits for small k


def log_growth_relaxed(m: int, d: int) -> float:
    """The logarithm d ln(e m / d), which bounds `log_sauer_shelah` from m = d on; below it is m ln 2.

    >>> round(math.exp(log_growth_relaxed(10, 3)), 7)
    743.9087749
    """
    m, d = whole("m", m), whole("d", d)
    return m * math.log(2) if m < d else d * (1 + math.log(m / d))


@overload
def cover_count(n: int, d: int, *, affine: bool = False) -> int: ...  # type: ignore[overload-overlap]
@overload
def cover_count(n: object, d: object, *, affine: bool = False) -> Objects: ...
def cover_count(n: Any, d: Any, *, affine: bool = False) -> int | Objects:
    """Labellings of ``n`` points in general position in d dimensions by halfspaces: 2 sum of C(n-1, k) over k < d.

    General position: any d of the points are linearly independent, or with ``affine`` (halfspaces with an offset) any
    d + 1 affinely independent. For other points it is an upper bound, so it is the growth function of halfspaces.
    Numbers give an exact Python integer, arrays broadcast to an array of them (dtype object).

    >>> cover_count(8, 3)
    58
    >>> [cover_count(n, 2, affine=True) for n in (3, 4, 5)]
    [8, 14, 22]
    """

    def counted(n: int, d: int) -> int:
        return 2 * _sum_of_binomials(whole("n", n) - 1, whole("d", d) - 1 + affine)

    return elementwise(counted, n, d, dtype=object)  # type: ignore[no-any-return]
