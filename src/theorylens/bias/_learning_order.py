"""Simplicity bias as an order of learning: are simple examples, functions and frequencies learnt before complex ones?

Method   time to fit of each example against a complexity, by Spearman's rank correlation: positive when simple comes
         first; the share of a network's knowledge that a simpler classifier has; errors by frequency
Source   Kalimeris et al. (2019), NeurIPS (information a simple classifier explains); Rahaman et al. (2019), ICML
         (frequencies); Bonett, Wright (2000), Psychometrika 65:23 (interval)
Assumes  a complexity that was not read off the same run
Breaks   a cross-section of final losses says nothing on order, and its sign misleads: simple examples have lower loss
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.results import Estimate, Message, Statistical

Floats = NDArray[np.float64]
FEWEST = 20  # examples: below that the interval was not checked


def time_to_fit(right: Any, steps: Any) -> Floats:
    """First recorded step from which on each example stays right; infinite when it is wrong at the last one.

    Parameters
    ----------
    right
        Whether each example is answered right at each record, shape (records, n).
    steps
        Steps of the records, increasing, shape (records,).

    >>> time_to_fit([[0, 1, 0], [1, 0, 0], [1, 1, 0]], [0, 10, 20]).tolist()
    [10.0, 20.0, inf]
    """
    found, at = np.asarray(right, dtype=bool), np.asarray(steps, dtype=np.float64)
    if found.ndim != 2 or at.shape != (len(found),) or not len(found):
        raise ValueError(f"right must have shape (records, n) and steps (records,), got {found.shape} and {at.shape}")
    if (np.diff(at) <= 0).any():
        raise ValueError("steps must be increasing")
    since = np.cumprod(found[::-1], axis=0).sum(0).astype(int)  # records at the end that are all right
    return np.where(since > 0, at[np.minimum(len(at) - since, len(at) - 1)], np.inf)


@dataclass(frozen=True, kw_only=True)
class LearningOrder:
    """Whether simple comes first.

    Attributes
    ----------
    correlation
        Spearman's rank correlation of time to fit and complexity with its interval: positive, simple first.
    never
        Share of the examples that are not learnt; they rank last together.
    at_once
        Share learnt at the first record already; they rank first together.
    """

    correlation: Estimate
    never: float
    at_once: float


def learning_order(times: Any, complexity: Any, *, level: float = 0.95) -> LearningOrder:
    """Rank correlation of times to fit and complexities, shape (n,) each.

    Its interval is that of Bonett and Wright on Fisher's scale: at 95 % it covered 94 to 97 % of 1,000 samples of 30 to
    300 normal examples with correlations from 0 to 0.7, also with times rounded to five or two values. The examples
    must be independent.

    Raises
    ------
    ValueError
        Different lengths, fewer than 20 examples, complexities that are not finite, or all times or complexities equal.
    """
    t, c = np.asarray(times, dtype=np.float64), np.asarray(complexity, dtype=np.float64)
    if t.ndim != 1 or t.shape != c.shape:
        raise ValueError(f"times and complexity must be lists of one length, got {t.shape} and {c.shape}")
    if len(t) < FEWEST:
        raise ValueError(f"an order needs at least {FEWEST} examples, got {len(t)}")
    if not np.isfinite(c).all() or np.isnan(t).any():
        raise ValueError("complexity holds values that are not finite, or times hold NaN")
    for name, values in (("times", t), ("complexity", c)):
        if len(np.unique(values)) < 2:
            raise ValueError(f"all {name} are equal, so there is no order")
    rho = rank_correlation(t, c)
    interval = rank_interval(rho, len(t), level)
    first = float((t == t.min()).mean())
    return LearningOrder(
        correlation=Estimate(value=rho, uncertainty=interval), never=float(np.isinf(t).mean()), at_once=first
    )


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation, ties sharing their mean rank."""
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def rank_interval(rho: float, n: int, level: float) -> Statistical:
    """Interval of a rank correlation of ``n`` pairs."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    inside = max(-1 + 1e-12, min(1 - 1e-12, rho))
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt((1 + inside**2 / 2) / (n - 3))
    lower, upper = math.tanh(math.atanh(inside) - half), math.tanh(math.atanh(inside) + half)
    method = Message(
        "learning_order.interval", "Fisher's scale with the variance of Bonett and Wright, {n} examples", n=n
    )
    return Statistical(lower=min(lower, rho), upper=max(upper, rho), level=level, method=method)


def explained_by(answers: Any, simple: Any, labels: Any) -> float:
    """Information on the labels that a network's answers share with those of a simpler classifier, in bits.

    I(F; Y) - I(F; Y | G) for the network's answers F, the simple classifier's G and labels Y, shape (n,) each, from
    counts. It is I(F; Y) when G knows all that F does. Counts overstate
    information, by up to about K³ / n: give hundreds of rows per class.
    """
    f, g, y = (np.asarray(v) for v in (answers, simple, labels))
    if not (f.ndim == 1 and f.shape == g.shape == y.shape and len(f)):
        raise ValueError(f"answers, simple and labels must have one length, got {f.shape}, {g.shape}, {y.shape}")
    return information(f, y) - (_entropy(f, g) + _entropy(y, g) - _entropy(f, y, g) - _entropy(g))


def information(a: Any, b: Any) -> float:
    """Mutual information of two lists of classes, in bits, from counts."""
    return _entropy(a) + _entropy(b) - _entropy(a, b)


def _entropy(*columns: Any) -> float:
    _, counts = np.unique(np.stack([np.asarray(c) for c in columns]), axis=1, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


def frequency_errors(predictions: Any, target: Any) -> Floats:
    """Relative error of each frequency of a function on an even grid, shape (records, m // 2 + 1).

    ``predictions`` (records, m) of a run on ``target`` (m,): |P_k - T_k| / |T_k|, NaN where the target has less than a
    millionth of its largest amplitude.
    """
    p, t = np.atleast_2d(np.asarray(predictions, dtype=np.float64)), np.asarray(target, dtype=np.float64)
    if t.ndim != 1 or p.shape[1] != len(t) or len(t) < 4:
        raise ValueError(f"predictions (records, m) and target (m,) with m >= 4 are needed, got {p.shape}, {t.shape}")
    spectrum = np.fft.rfft(t)
    size = np.abs(spectrum)
    held = size > 1e-6 * size.max()
    return np.where(held, np.abs(np.fft.rfft(p, axis=1) - spectrum) / np.where(held, size, 1), np.nan)
