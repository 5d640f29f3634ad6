"""What bounds ask of their numbers: probabilities inside (0, 1), whole counts, shares. One sentence when it fails."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat


def probability(name: str, value: float) -> float:
    """``value`` when it lies strictly between 0 and 1."""
    if not 0 < value < 1:  # also catches NaN
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")
    return float(value)


def share(name: str, value: float) -> float:
    """``value`` when it lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}; it is a mean of errors, not a count")
    return float(value)


def whole(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int when it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not is_whole(value):
        raise ValueError(f"{name} must be a whole number, got {value}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def is_whole(value: Any) -> bool:
    """Whether ``value`` is a number, whole and finite; Python integers of any size are."""
    if isinstance(value, int):
        return True
    return isinstance(value, SupportsFloat) and math.isfinite(value) and float(value).is_integer()


def positive(name: str, value: float) -> float:
    """``value`` when it is finite and above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return float(value)
