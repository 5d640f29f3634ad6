"""Errors of several trainings on the same held-out rows: an interval that knows of both chances.

Method   the mean of a table (seeds, rows); its variance is that of the seed means over the seeds plus that of the row
         means over the rows, which counts the chance of single cells twice and so errs to the wide side; Student's t
         for the seeds, normal for the rows
Assumes  seeds and rows are independent draws; rows many (30 or more). Approximate for rare errors
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from theorylens.numerics.binomial import clopper_pearson
from theorylens.results import Estimate, Message, Statistical

Table = NDArray[np.float64]


def crossed_mean(table: Table, *, level: float = 0.95, least: float | None = None) -> Estimate:
    """Mean of ``table`` (seeds, rows) with its two-way interval; differences of two tables give paired ones.

    Where every cell is 0 the normal interval would be a point; the exact bound for no event in so many rows stands in.
    ``least`` is a value the mean cannot be below, 0 for errors: the lower end is cut there.

    Raises
    ------
    ValueError
        Fewer than two seeds or rows, or values that are not finite.
    """
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"an interval over seeds and rows needs at least two of each, got shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("some errors are not finite; a training may have diverged")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    seeds, rows = table.shape
    mean = float(table.mean())
    beyond = (1 - level) / 2
    if not table.any():
        half = float(clopper_pearson(0, rows, beyond))
    else:
        from_seeds = stats.t.isf(beyond, seeds - 1) * table.mean(1).std(ddof=1) / math.sqrt(seeds)
        from_rows = stats.norm.isf(beyond) * table.mean(0).std(ddof=1) / math.sqrt(rows)
        half = float(math.hypot(from_seeds, from_rows))
    method = Message(
        "crossed.interval", "over {seeds} trainings and {rows} held-out examples, crossed", seeds=seeds, rows=rows
    )
    low = mean - half if least is None else max(least, mean - half)
    return Estimate(
        value=mean, uncertainty=Statistical(lower=low, upper=mean + half, level=level, method=method), unit="error"
    )
