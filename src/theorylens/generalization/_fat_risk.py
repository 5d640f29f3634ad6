"""A bound on the error of classifiers with a margin from their fat-shattering dimension.

Method   symmetrisation with a ghost sample; a cover on the 2m points made of four levels; the size of the cover from
         the dimension by the counting argument of Alon et al.
Source   Bartlett (1998), IEEE Trans. Inf. Theory 44:525; Alon, Ben-David, Cesa-Bianchi, Haussler (1997), J. ACM 44:615
         (the counting). Constants are derived here, not taken from either; both papers have larger ones
Assumes  m independent examples, labels -1 and 1, a class and a margin fixed before the examples were seen

The derivation. Let v = y f(x) and let a function take one of four levels at a point: v <= 0, below margin/2, below
margin, at least margin. Two functions are apart when at some point their levels differ by two or more. Take a largest
set G of functions that are pairwise apart on the 2m points: every f has a g in G with f wrong => g in the lower two
levels, and f with margin => g in the upper two.

1. If er(f) exceeds the margin error on S by e, then with chance 1/2 the error on a ghost sample exceeds it by e/2 (for
   m e^2 >= 2; below, the result says nothing). Exchanging the two examples of a pair at random, Hoeffding's inequality
   gives exp(-m e^2 / 8) for one g, so 2 |G| exp(-m e^2 / 8) in all. Without margin errors on S: 2 |G| 2^(-m e / 2) for
   m e >= 8 ln 2.
2. Levels strongly shattered (two apart around level 2 or 3) are shattered by F at margin/4 around margin/4 or 3/4 of
   it, so at most d = fat(margin/4) points are, in at most Y = sum over 1 <= i <= d of C(2m, i) 2^i ways.
3. Of 2 k n 6 functions pairwise apart on n points, pair them up: one point and one of the 3 pairs of levels two apart
   serves 2 k pairs. Their lower halves agree at that point and so are apart on the other n - 1 points, as are the upper
   halves; what both shatter there is shattered together with the point too. The number shattered doubles with every
   factor 6 n, so |G| < 2 prod over s < r of 6 (2m - s) with the least r for which 2^r > Y.
"""

from __future__ import annotations

import math

import numpy as np

from theorylens.results import Message

from ._asked import probability, share, whole
from ._vc_gap import VcBound

_TERMS = 1_000_000  # terms of a sum taken singly; beyond, their closed upper bound is used
_UP = 1 + 1e-9
AGNOSTIC = Message("theorem.fat", "fat-shattering dimension, any margin error (Bartlett)")
CONSISTENT = Message("theorem.fat_consistent", "fat-shattering dimension, no margin error (Bartlett)")


def fat_shattering_bound(
    margin_error: float, m: int, dimension: int, delta: float, *, consistent: bool = False
) -> VcBound:  # fmt: skip
    """Bound on the error of every classifier of a class at once, from its share of examples without the margin.

    margin_error + sqrt(8 (ln 2|G| + ln(1/delta)) / m), or with ``consistent`` (2/m) log2(2|G|/delta), |G| from
    `fat_covering`. Each holds with probability 1 - delta by itself: which one is used is decided before the examples
    are seen. So is the margin; for the best of K margins give each delta / K.

    Parameters
    ----------
    margin_error
        Share of the examples with y f(x) below the margin.
    m
        Independent examples.
    dimension
        Fat-shattering dimension of the class at a quarter of the margin; for {x -> w.x : |w| <= norm} it is
        ``fat_shattering(radius, norm, margin / 4)``.
    consistent
        Use the bound for classifiers without margin errors; it says nothing about others.

    Raises
    ------
    ValueError
        Numbers outside their range; ``consistent`` with a positive margin error.

    >>> fat_shattering_bound(0.02, 60_000, 100, 0.05).vacuous
    True
    >>> fat_shattering_bound(0.0, 10_000_000, 100, 0.05, consistent=True).bound < 0.02
    True
    """
    margin_error, m = share("margin_error", margin_error), whole("m", m)
    nats = fat_covering(2 * m, dimension) + math.log(2 / probability("delta", delta))
    if consistent:
        if margin_error > 0:
            raise ValueError(
                f"the consistent bound needs a margin error of 0, got {margin_error}; use consistent=False"
            )
        gap = max(2 / m * nats / math.log(2), 8 * math.log(2) / m) * _UP
    else:
        gap = math.sqrt(8 * nats / m) * _UP
    bound = min(1.0, margin_error + gap)
    return VcBound(
        bound=bound, empirical=margin_error, gap=min(1.0, gap), vacuous=bound >= 1,
        theorem=CONSISTENT if consistent else AGNOSTIC,
    )  # fmt: skip


def fat_covering(points: int, dimension: int) -> float:
    """Log of the largest number of functions that are pairwise two levels of four apart on some of ``points``.

    ``dimension``: of the class at half of the distance of neighbouring levels. At most ln of 2 prod 6 (n - s), see the
    module; never more than n ln 2, because lower and upper levels make 2^n cells without two functions apart.

    >>> fat_covering(1000, 0)
    0.0
    >>> round(fat_covering(2, 1), 6)  # 2^2 cells; the product would be 2 * 12 * 6
    1.386294
    """
    n, d = whole("points", points), whole("dimension", dimension, 0)
    if d == 0:
        return 0.0
    cells = n * math.log(2)
    if 3 * d >= n:
        return cells
    doublings = math.floor(_log_ways(n, d) / math.log(2) * _UP + 1e-9) + 1
    if doublings >= n:
        return cells
    if doublings > _TERMS:
        product = doublings * math.log(6 * n)
    else:
        product = float(np.log(6.0 * (n - np.arange(doublings, dtype=np.float64))).sum())
    return min(cells, (math.log(2) + product) * _UP)


def _log_ways(n: int, d: int) -> float:
    """Logarithm of the sum of C(n, i) 2^i over 1 <= i <= d, or d ln(2 e n / d), which bounds it."""
    if d > _TERMS:
        return d * math.log(2 * math.e * n / d)
    i = np.arange(1, d + 1, dtype=np.float64)
    logs = np.cumsum(np.log((n - i + 1) / i) + math.log(2))
    return float(np.logaddexp.reduce(logs))
