"""Calibration: of the answers given with confidence 0.9, are nine in ten right?

Method   bins of equal size, bias of their squared error taken off; test by labels drawn from the stated confidences
Source   Murphy (1973), J. Appl. Meteorol. 12:595; Broecker, Smith (2007), Weather and Forecasting 22:651; Kumar, Liang,
         Ma (2019), NeurIPS (the plain binned error is biased upwards)
Assumes  rows are independent draws; confidences are those of one network that did not see these labels
Breaks   with fewer than a few dozen rows per bin little is found; bins may hide what cancels inside them
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorylens.numerics.binomial import clopper_pearson

from ._asked import is_whole

Floats = NDArray[np.float64]
BINS = 15
DRAWS = 999
_CHUNK = 1 << 22  # simulated labels held at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Rows sorted by confidence and cut into bins of nearly equal size; rows of one confidence stay together.

    Attributes
    ----------
    confidence, accuracy
        Means over each bin, shape (bins,).
    count
        Rows in each bin.
    lower, upper
        95 % Clopper-Pearson interval of each bin's accuracy, for that bin alone.
    """

    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]
    lower: Floats
    upper: Floats


@dataclass(frozen=True, kw_only=True)
class BrierParts:
    """Where the mean squared difference of confidence and outcome comes from.

    ``score = reliability - resolution + uncertainty + within`` holds exactly; ``within`` is what bins hide (variance of
    the confidences inside them minus twice their covariance with the outcomes).
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def reliability(confidence: Any, correct: Any, *, bins: int = BINS) -> Reliability:
    """Mean confidence and accuracy in ``bins`` bins of nearly equal size (fewer when confidences tie).

    Parameters
    ----------
    confidence
        Stated probability of being right, shape (n,), in [0, 1].
    correct
        Whether each answer was right, shape (n,).

    Raises
    ------
    ValueError
        Unequal lengths, no row, values outside [0, 1], fewer than one bin.

    >>> found = reliability([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], bins=2)
    >>> found.confidence.round(2).tolist(), found.accuracy.tolist()
    ([0.6, 0.9], [0.5, 1.0])
    """
    c, y = _checked(confidence, correct)
    number = _binned(c, bins)
    count = np.bincount(number)
    right = np.bincount(number, y)
    ends = [
        (clopper_pearson(round(k), int(n), 0.025, "lower"), clopper_pearson(round(k), int(n), 0.025))
        for k, n in zip(right, count, strict=True)
    ]
    return Reliability(
        confidence=np.bincount(number, c) / count, accuracy=right / count, count=count,
        lower=np.array([low for low, _ in ends]), upper=np.array([high for _, high in ends]),
    )  # fmt: skip


def squared_calibration_error(confidence: Any, correct: Any, *, bins: int = BINS) -> float:
    """Mean squared difference of accuracy and confidence over bins, without the bias of finite bins.

    The squared difference of two bin means exceeds the true one on average by the variance of the mean, which is taken
    off: unbiased for given bins, hence below zero now and then. The plain binned error of a perfectly calibrated
    network is always above zero, and grows with the number of bins.

    Raises
    ------
    ValueError
        As `reliability`; or a bin with a single row, whose variance is unknown.
    """
    c, y = _checked(confidence, correct)
    number = _binned(c, bins)
    count = np.bincount(number)
    if (count < 2).any():
        raise ValueError(f"{len(c)} rows in {bins} bins leave a bin with one row; use fewer bins")
    off = y - c
    mean = np.bincount(number, off) / count
    variance = np.bincount(number, (off - mean[number]) ** 2) / (count - 1)
    return float((count * (mean**2 - variance / count)).sum() / len(c))


def calibration_p(
    confidence: Any, correct: Any, *, bins: int = BINS, draws: int = DRAWS, rng: np.random.Generator
) -> float:  # fmt: skip
    """p-value of "right answers are drawn with exactly the stated confidences".

    Labels are drawn anew from the confidences ``draws`` times and their binned squared error is compared with that of
    the real ones: exact for independent rows, whatever the bins.
    """
    c, y = _checked(confidence, correct)
    if draws < 1:
        raise ValueError(f"at least one draw is needed, got {draws}")
    number = _binned(c, bins)
    order = np.argsort(number, kind="stable")
    c, y, count = c[order], y[order], np.bincount(number)
    starts = np.cumsum(count) - count
    stated = np.add.reduceat(c, starts)

    def statistic(right: Floats) -> Floats:
        found: Floats = ((np.add.reduceat(right, starts, axis=1) - stated) ** 2 / count).sum(1)
        return found

    observed = statistic(y[None])[0]
    at_least, left = 0, draws
    while left:
        now = min(left, max(1, _CHUNK // len(c)))
        drawn = (rng.random((now, len(c))) < c).astype(np.float64)
        at_least += int((statistic(drawn) >= observed * (1 - 1e-12)).sum())
        left -= now
    return (1 + at_least) / (1 + draws)


def brier_parts(confidence: Any, correct: Any, *, bins: int = BINS) -> BrierParts:
    """The mean of (confidence - correct)^2 and its decomposition over bins.

    >>> parts = brier_parts([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], bins=2)
    >>> round(parts.score, 4), round(parts.reliability, 4), round(parts.resolution, 4)
    (0.135, 0.01, 0.0625)
    """
    c, y = _checked(confidence, correct)
    number = _binned(c, bins)
    count = np.bincount(number)
    conf, acc = np.bincount(number, c) / count, np.bincount(number, y) / count
    share, base = count / len(c), float(y.mean())
    inside = c - conf[number]
    return BrierParts(
        score=float(((c - y) ** 2).mean()),
        reliability=float((share * (conf - acc) ** 2).sum()),
        resolution=float((share * (acc - base) ** 2).sum()),
        uncertainty=base * (1 - base),
        within=float((inside**2 - 2 * inside * (y - acc[number])).mean()),
    )


def _checked(confidence: Any, correct: Any) -> tuple[Floats, Floats]:
    c, y = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if c.ndim != 1 or c.shape != y.shape or not len(c):
        raise ValueError(f"one confidence and one outcome per row are needed, got shapes {c.shape} and {y.shape}")
    if not ((c >= 0) & (c <= 1)).all():
        raise ValueError("confidences must lie in [0, 1]; apply a softmax to scores first")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("correct must hold 0 (wrong) and 1 (right) only")
    return c, y


def _binned(c: Floats, bins: int) -> NDArray[np.int64]:
    """Bin number of each row by rank; ties share the bin of their first."""
    if not is_whole(bins) or bins < 1:
        raise ValueError(f"at least one bin is needed and a whole number of them, got {bins}")
    _, value, count = np.unique(c, return_inverse=True, return_counts=True)
    starts = np.cumsum(count) - count  # rows with a smaller confidence
    number: NDArray[np.int64] = np.unique((starts * bins // len(c))[value], return_inverse=True)[1].astype(np.int64)
    return number
