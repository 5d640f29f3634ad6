"""Answers as sets: name as many classes as it takes for the true one to be among them.

Method   split conformal prediction: the set holds every class whose score is at least a quantile of the scores that
         true classes got on held-out rows
Source   Vovk, Gammerman, Shafer (2005), Algorithmic learning in a random world; Lei et al. (2018), JASA 113:1094
Assumes  held-out rows and new rows are exchangeable, and the network was made without the held-out rows
Breaks   on groups: the promise is about all new rows together, not about each class or each person
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def conformal_threshold(true_scores: Any, alpha: float) -> float:
    """Least score a class must have to be named, so that the true class is missed with chance at most ``alpha``.

    The k-th smallest of the n scores of true classes, k = floor((n + 1) alpha); minus infinity when k is 0: so few
    rows promise nothing short of naming every class. Over the draw of held-out and new rows together the true class is
    named with probability at least 1 - alpha, and at most 1 - alpha + 1 / (n + 1) when no two scores are equal.

    Parameters
    ----------
    true_scores
        Score (probability, logit, any number) that each held-out row's true class got, shape (n,).
    alpha
        Allowed chance of missing the true class, in (0, 1).

    >>> conformal_threshold([0.9, 0.2, 0.7, 0.8, 0.6, 0.5, 0.95, 0.4, 0.3], 0.2)
    0.3
    """
    s = np.asarray(true_scores, dtype=np.float64)
    if s.ndim != 1 or not len(s) or np.isnan(s).any():
        raise ValueError(f"one score per held-out row is needed, none of them NaN, got shape {s.shape}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    k = math.floor((len(s) + 1) * alpha)
    return float(np.sort(s)[k - 1]) if k else -math.inf


def conformal_sets(scores: Any, threshold: float) -> NDArray[np.bool_]:
    """Which classes are named for each row: those with ``scores`` (n, classes) at least ``threshold``; may be none."""
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 2 or np.isnan(s).any():
        raise ValueError(f"scores (n, classes) are needed, none of them NaN, got shape {s.shape}")
    named: NDArray[np.bool_] = s >= threshold
    return named
