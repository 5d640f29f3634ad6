"""When it may abstain: how often is the network right among the answers it is surest of?

Method   answers sorted by confidence; the threshold row itself is left out of the count, which makes the binomial
         tail exact although the threshold was taken from the same rows; one delta for all coverages
Source   Geifman, El-Yaniv (2017), NeurIPS (selection with guaranteed risk); the exact count is derived here
Assumes  rows are independent draws that served for nothing else
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorylens.numerics.binomial import clopper_pearson

COVERAGES = tuple(i / 10 for i in range(1, 11))


@dataclass(frozen=True, kw_only=True, eq=False)
class Selective:
    """Error among the answers above each threshold.

    Attributes
    ----------
    threshold
        Confidence above which the network answers, shape (k,); minus infinity where it always does.
    coverage
        Share of the rows above it.
    error
        Share of wrong answers among them; NaN where there is none.
    bound
        Upper bounds on the expected error among answers above the threshold: all true at once with 1 - delta.
    answered
        Rows counted.
    """

    threshold: NDArray[np.float64]
    coverage: NDArray[np.float64]
    error: NDArray[np.float64]
    bound: NDArray[np.float64]
    answered: NDArray[np.int64]


def selective_error(
    confidence: Any, wrong: Any, *, delta: float = 0.05, coverages: tuple[float, ...] = COVERAGES
) -> Selective:  # fmt: skip
    """Error against coverage, with bounds that hold for all coverages at once.

    For the threshold at the k-th largest confidence, the k - 1 rows above it are, given that confidence, independent
    draws from "confidence above the threshold": their errors are binomial and Clopper-Pearson is exact. With ties, the
    rows strictly above are counted. At coverage 1 all rows are.

    Parameters
    ----------
    confidence
        Shape (n,); any score will do, only its order matters.
    wrong
        Whether each answer was wrong, shape (n,), 0 or 1.
    coverages
        Shares of the rows to be answered, in (0, 1]; fixed before the errors are seen.

    Raises
    ------
    ValueError
        Shapes, values or shares outside their range.

    >>> found = selective_error([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0], coverages=(0.5, 1.0))
    >>> found.answered.tolist(), found.error.tolist()
    ([2, 4], [0.0, 0.25])
    """
    c, e = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    if c.ndim != 1 or c.shape != e.shape or not len(c):
        raise ValueError(f"one confidence and one outcome per row are needed, got shapes {c.shape} and {e.shape}")
    if np.isnan(c).any() or not np.isin(e, (0.0, 1.0)).all():
        raise ValueError("confidences must be numbers and outcomes 0 (right) or 1 (wrong)")
    if not coverages or not all(0 < share <= 1 for share in coverages):
        raise ValueError(f"coverages must lie in (0, 1], got {coverages}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    n, ranked = len(c), np.sort(c)[::-1]
    above = [min(n, round(share * n)) for share in coverages]
    threshold = np.array([-np.inf if k == n else ranked[k] for k in above])
    answered = np.array([int((c > t).sum()) for t in threshold])
    errors = np.array([int(e[c > t].sum()) for t in threshold])
    bound = np.ones(len(coverages))
    some = answered > 0
    bound[some] = clopper_pearson(errors[some], answered[some], delta / len(coverages))
    share_wrong = np.full(len(coverages), np.nan)
    share_wrong[some] = errors[some] / answered[some]
    return Selective(
        threshold=threshold, coverage=answered / n, error=share_wrong, bound=bound, answered=answered.astype(np.int64)
    )
