"""Class balance: how many classes do the data hold in effect, and what does always answering the largest one get?

Method   counts; exponential of the entropy with an interval; Gini coefficient and inverse Simpson index beside it
Source   Hill (1973), Ecology 54:427 (effective numbers); Miller (1955) (bias of the entropy)
Assumes  for the interval: labels are independent draws
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theorylens.results import Estimate, Message, Statistical


@dataclass(frozen=True, kw_only=True)
class ClassBalance:
    """Facts about class counts; classes without an example are left out of ``ratio`` and counted in ``empty``.

    Attributes
    ----------
    ratio
        Largest count over smallest count.
    gini
        Mean absolute difference of the counts over twice their mean: 0 when even.
    effective, simpson
        exp(entropy) and 1 / sum p²: both equal the number of classes when even.
    majority
        Share of the largest class: the accuracy of a constant answer.
    empty
        Classes without an example.
    """

    counts: tuple[int, ...]
    ratio: float
    gini: float
    effective: float
    simpson: float
    majority: float
    empty: int


def class_balance(counts: Sequence[float] | NDArray[Any]) -> ClassBalance:
    """Imbalance of class counts.

    Raises
    ------
    ValueError
        No counts, a negative or fractional one, or no example at all.

    >>> class_balance([90, 10]).majority
    0.9
    """
    c = _counts(counts)
    held = c[c > 0]
    p = held / held.sum()
    return ClassBalance(
        counts=tuple(int(k) for k in c),
        ratio=float(held.max() / held.min()),
        gini=float(np.abs(c[:, None] - c).sum() / (2 * len(c) ** 2 * c.mean())),
        effective=float(np.exp(-(p * np.log(p)).sum())),
        simpson=float(1 / (p**2).sum()),
        majority=float(p.max()),
        empty=int((c == 0).sum()),
    )


def effective_classes(counts: Sequence[float] | NDArray[Any]) -> Estimate:
    """Effective number of classes of the source of the labels, exp(entropy), with a 95 % interval.

    The entropy of a sample reads low by about (K - 1) / 2n; that is added back. Its variance has a part of first order,
    which vanishes when the classes are even, and one of second order, (K - 1) / 2n², which does not. From 300 labels
    on, with at least 5 expected in each of up to 20 classes, the interval covers 91 to 100 % in tests. A class without
    an example is not known of.
    """
    c = _counts(counts)
    held = c[c > 0]
    n, k = float(held.sum()), len(held)
    p = held / n
    entropy = float(-(p * np.log(p)).sum())
    variance = max(0.0, float((p * np.log(p) ** 2).sum()) - entropy**2) / n + (k - 1) / (2 * n**2)
    centre, half, most = entropy + (k - 1) / (2 * n), 1.96 * math.sqrt(variance), math.log(k)
    method = Message("class_balance.interval", "normal on the entropy, of second order, over {n} labels", n=int(n))
    value, lower, upper = (
        min(float(k), math.exp(max(0.0, min(most, h)))) for h in (centre, centre - half, centre + half)
    )
    return Estimate(
        value=value,
        uncertainty=Statistical(lower=lower, upper=upper, level=0.95, method=method),
        unit="classes",
    )


def _counts(counts: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    c = np.asarray(counts, dtype=np.float64)
    if c.ndim != 1 or len(c) == 0 or not np.isfinite(c).all() or (c < 0).any() or (c != np.floor(c)).any():
        raise ValueError(f"class counts must be whole numbers from 0, at least one, got {counts!r}")
    if c.sum() == 0:
        raise ValueError(f"class counts hold no example: {counts!r}; count labels first")
    return c
