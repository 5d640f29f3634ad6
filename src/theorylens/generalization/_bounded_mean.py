"""An interval for the expectation of bounded terms from a sample, without any assumption but independence and range."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from theorylens.numerics.concentration import chernoff_kl, empirical_bernstein, hoeffding
from theorylens.results import Estimate, Message, Statistical

Method = Literal["empirical_bernstein", "hoeffding", "kl"]
NAMES = {
    "empirical_bernstein": Message("theorem.empirical_bernstein", "empirical Bernstein (Maurer–Pontil)"),
    "hoeffding": Message("theorem.hoeffding", "Hoeffding"),
    "kl": Message("theorem.chernoff_kl", "Chernoff–kl"),
}


def bounded_mean(
    sample: Any, delta: float = 0.05, *, method: Method = "empirical_bernstein", low: float = 0.0, high: float = 1.0
) -> Estimate:
    """Mean of ``sample`` with a two-sided interval that misses the expectation with probability at most ``delta``.

    Parameters
    ----------
    sample
        Independent terms between ``low`` and ``high``, shape (n,).
    method
        Chosen before the sample is seen: ``"empirical_bernstein"`` is narrow when the terms vary little,
        ``"kl"`` when their mean is near an end, ``"hoeffding"`` never narrower than ``"kl"``.

    Raises
    ------
    ValueError
        Terms outside the range or not finite, fewer than 2 (1 for the others), an unknown method.

    >>> found = bounded_mean(np.tile([0.4, 0.6], 500))
    >>> round(found.lower, 4), round(found.upper, 4)
    (0.4804, 0.5196)
    """
    values = np.asarray(sample, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"a sample is a list of at least one number, got shape {values.shape}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"the range must be finite with low < high, got {low} and {high}")
    if not ((values >= low) & (values <= high)).all():  # also catches NaN
        raise ValueError(f"terms must lie between {low} and {high}, got {values.min()} to {values.max()}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    unit = (values - low) / (high - low)
    mean, n = min(1.0, max(0.0, math.fsum(unit) / len(unit))), len(unit)
    if method == "kl":
        ends = chernoff_kl(mean, n, delta / 2, "lower"), chernoff_kl(mean, n, delta / 2)
    elif method == "hoeffding":
        ends = mean - hoeffding(n, delta / 2), mean + hoeffding(n, delta / 2)
    elif method == "empirical_bernstein":
        if n < 2:
            raise ValueError(f"a variance needs at least 2 terms, got {n}")
        radius = empirical_bernstein(n, float(unit.var(ddof=1)), delta / 2)
        ends = mean - radius, mean + radius
    else:
        raise ValueError(f"unknown method {method!r}; there are {', '.join(NAMES)}")
    width, value = high - low, low + (high - low) * mean
    lower = max(low, math.nextafter(low + width * ends[0], -math.inf))
    upper = min(high, math.nextafter(low + width * ends[1], math.inf))
    interval = Statistical(lower=min(lower, value), upper=max(upper, value), level=1 - delta, method=NAMES[method])
    return Estimate(value=value, uncertainty=interval)
