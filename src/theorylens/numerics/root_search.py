"""At which size does something that grows with it reach a level? Brent's method in both logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq

DOUBLINGS = 31  # or halvings, from the start; longer leaps would miss rises that come back
CLOSE = 1e-3  # relative error of a crossing: far below the spread over draws, for which it is used
TINY = 1e-12  # share of the target that stands for a rise that is negative; its inverse for an infinite one


def level_crossing(rise: Callable[[float], float], target: float, start: float) -> float | None:
    """Where ``rise`` of a positive number passes the positive ``target`` from below, to a thousandth of it.

    Sought from ``start`` in doublings or halvings, then between two of them. 0.0 when ``rise`` is at the target
    or above wherever one looks, None when it stays below. A rise that does not grow everywhere has several crossings,
    of which one is found.

    >>> round(level_crossing(lambda x: 5 * x**2, 0.2, 1.0), 3)
    0.2
    """

    def excess(x: float) -> float:
        """Logarithms on both axes: for small sizes often a straight line, on which the search lands at once."""
        return math.log(min(max(rise(math.exp(x)), TINY * target), target / TINY) / target)

    here = math.log(start)
    up = excess(here) < 0
    for _ in range(DOUBLINGS):
        there = here + math.log(2) if up else here - math.log(2)
        if (excess(there) < 0) is not up:
            break
        here = there
    else:
        return None if up else 0.0
    return math.exp(brentq(excess, min(here, there), max(here, there), xtol=CLOSE, rtol=1e-12))
