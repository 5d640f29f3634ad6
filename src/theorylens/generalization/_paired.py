"""Two networks on the same examples: which one errs less, and by how much?

Method   exact McNemar test on the examples where just one errs; Clopper-Pearson on the two kinds of such examples
Source   McNemar (1947), Psychometrika 12:153
Assumes  examples are independent draws that served for making neither network
Breaks   when the better of many was picked on these examples: every comparison counts
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from theorylens.numerics.binomial import clopper_pearson
from theorylens.results import Estimate, Message, Statistical

from ._asked import is_whole

METHOD = Message("method.paired", "exact intervals of the two kinds of disagreement")


@dataclass(frozen=True, kw_only=True)
class Paired:
    """How two networks differ on ``n`` examples.

    Attributes
    ----------
    first_only, second_only
        Examples on which just the first, just the second network errs.
    difference
        Error of the first minus error of the second, with an interval that misses with probability at most delta.
    p
        Two-sided exact p-value of "an example on which they differ is as likely one way as the other".
    """

    first_only: int
    second_only: int
    n: int
    difference: Estimate
    p: float


def paired_comparison(first: Any, second: Any, *, delta: float = 0.05) -> Paired:
    """Compare two networks by who errs where.

    The difference of the errors is the chance that only the first errs minus the chance that only the second does.
    Each chance gets an exact two-sided interval at delta / 2; the ends are combined. What both get right or wrong
    plays no part, which is why far fewer examples are needed than for two separate bounds.

    Parameters
    ----------
    first, second
        Whether each network errs on each example, shape (n,), 0 or 1.

    Raises
    ------
    ValueError
        Unequal lengths, no example, values other than 0 and 1, a delta outside (0, 1).

    >>> found = paired_comparison([1] * 12 + [0] * 88, [1] * 2 + [0] * 98)
    >>> found.first_only, found.second_only, round(found.p, 6)
    (10, 0, 0.001953)
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"both networks need one outcome per example, got shapes {a.shape} and {b.shape}")
    if not (np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all()):
        raise ValueError("outcomes must be 0 (right) and 1 (wrong) only")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    n, one, two = len(a), int((a > b).sum()), int((b > a).sum())
    share = delta / 4
    lower = clopper_pearson(one, n, share, "lower") - clopper_pearson(two, n, share)
    upper = clopper_pearson(one, n, share) - clopper_pearson(two, n, share, "lower")
    ends = Statistical(lower=lower, upper=upper, level=1 - delta, method=METHOD)
    return Paired(
        first_only=one, second_only=two, n=n, difference=Estimate(value=(one - two) / n, uncertainty=ends),
        p=mcnemar(one, two),
    )  # fmt: skip


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided exact p-value: twice the smaller tail of the binomial with chance one half, at most 1.

    >>> mcnemar(0, 5), mcnemar(3, 3), mcnemar(0, 0)
    (0.0625, 1.0, 1.0)
    """
    if not all(is_whole(count) and count >= 0 for count in (first_only, second_only)):
        raise ValueError(f"counts must be at least 0 and whole, got {first_only} and {second_only}")
    n = first_only + second_only
    return min(1.0, 2 * float(binom.cdf(min(first_only, second_only), n, 0.5)))
