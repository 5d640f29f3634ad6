"""Error bar of a number computed from a kernel matrix: leave each row out, within its class.

The number is a smooth function of the rows, so the spread of its leave-one-out values estimates its variance over
fresh rows (Efron, Stein 1981: on the large side on average). Rows drawn evenly from each class vary within classes
only, so deviations are taken from the mean of the class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats

from theorylens.results import Estimate, Message, Statistical, Unknown

LEVEL = 0.95
FEWEST = 20  # rows below which the normal approximation of the coverage test was not checked


def leave_one_out(statistic: Callable[[torch.Tensor], float], n: int) -> np.ndarray:
    """``statistic`` of the row numbers with each one missing, shape (n,)."""
    rows = torch.arange(n)
    return np.array([statistic(torch.cat([rows[:i], rows[i + 1 :]])) for i in range(n)])


def jackknife_half_width(without: np.ndarray, strata: np.ndarray, level: float = LEVEL) -> float:
    """Half the width of a confidence interval from leave-one-out values; NaN when it cannot be said.

    ``strata`` numbers the class of each row. Classes with a single row are taken together.
    """
    strata = strata.copy()
    names, counts = np.unique(strata, return_counts=True)
    strata[np.isin(strata, names[counts == 1])] = -1
    variance, free = 0.0, 0
    for stratum in np.unique(strata):
        own = without[strata == stratum]
        if len(own) > 1:
            variance += (len(own) - 1) * float(own.var())
            free += len(own) - 1
    if free < 1 or not np.isfinite(variance):
        return float("nan")
    return float(stats.t.ppf((1 + level) / 2, free) * variance**0.5)


def with_interval(
    value: float, without: np.ndarray, strata: np.ndarray, within: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """``value`` with its jackknife interval, cut to the range the number can take."""
    if len(without) < FEWEST:
        why = Message(
            "kernels.few_rows", "{n} rows are too few for an error bar; at least {least} are needed",
            n=len(without), least=FEWEST,
        )  # fmt: skip
        return Estimate(value=value, uncertainty=Unknown(why=why))
    half = jackknife_half_width(without, strata)
    if not np.isfinite(half):
        text = "the number is undefined when some row is left out, so it has no error bar"
        return Estimate(value=value, uncertainty=Unknown(why=Message("kernels.undefined", text)))
    method = Message("kernels.jackknife", "jackknife over rows within classes; sampling of rows only")
    lower, upper = max(within[0], value - half), min(within[1], value + half)
    return Estimate(value=value, uncertainty=Statistical(lower=lower, upper=upper, level=LEVEL, method=method))
