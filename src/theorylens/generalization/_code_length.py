"""How many nats it takes to write down a list of whole numbers from a small range.

Method   prefix code in two parts: how often each number occurs, and which place has which
Source   Cover, Thomas (2006), Elements of information theory, chapter 13 (enumerative coding)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

STEP_BITS = 16  # of the one real number that goes with a list, in half precision


def code_length(symbols: Any, levels: int) -> float:
    """Nats of a prefix code for ``symbols`` (whole numbers from 0 to levels - 1) whose number and ``levels`` are known.

    ln C(d + levels - 1, levels - 1) for the counts and ln(d! / prod counts!) for the arrangement: at most about
    d times the entropy of the counts plus levels ln d. Kraft's inequality holds exactly, so exp(-length) is a prior.

    >>> round(code_length([0, 1, 0, 0], 2) / math.log(2), 6)  # 5 possible counts, then 4 places for the one
    4.321928
    """
    s = np.asarray(symbols)
    if s.ndim != 1 or not len(s) or not np.issubdtype(s.dtype, np.integer):
        raise ValueError(f"a list of whole numbers is needed, got shape {s.shape} of {s.dtype}")
    if levels < 1 or s.min() < 0 or s.max() >= levels:
        raise ValueError(f"symbols must lie between 0 and levels - 1 = {levels - 1}")
    d, counts = len(s), np.bincount(s, minlength=levels)
    places = math.lgamma(d + 1) - math.fsum(math.lgamma(c + 1) for c in counts)
    kinds = math.lgamma(d + levels) - math.lgamma(levels) - math.lgamma(d + 1)
    return max(0.0, places) + max(0.0, kinds)
