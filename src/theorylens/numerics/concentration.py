"""How far a mean of bounded independent terms strays from its expectation."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


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
    n_, delta_ = np.asarray(n), np.asarray(delta, dtype=np.float64)
    if n_.dtype.kind not in "iuf" or not (np.isfinite(n_).all() and (n_ == np.floor(n_)).all() and (n_ >= 1).all()):
        raise ValueError(f"n must be a whole number, at least 1, got {n}")
    if not ((delta_ > 0) & (delta_ < 1)).all():  # also catches NaN
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    # Four roundings of half a unit in the last place each; eight units outwards cover them.
    radius = np.sqrt(-np.log(delta_) / (2.0 * n_)) * (1 + 2.0**-49)
    return radius if radius.ndim else float(radius)
