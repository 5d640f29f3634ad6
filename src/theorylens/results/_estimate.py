"""A number and how far to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._message import Message


@dataclass(frozen=True, kw_only=True)
class Exact:
    """No sampling and no truncation: right up to rounding."""


@dataclass(frozen=True, kw_only=True)
class Statistical:
    """An interval that covers the truth with probability ``level`` over the sampling that ``method`` names.

    One-sided intervals have an infinite end.
    """

    lower: float
    upper: float
    level: float
    method: Message

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie strictly between 0 and 1, got {self.level}")
        _ordered(self.lower, self.upper)


@dataclass(frozen=True, kw_only=True)
class Enclosure:
    """Deterministic limits: the truth lies between them for the reason given, no probability involved."""

    lower: float
    upper: float
    why: Message

    def __post_init__(self) -> None:
        _ordered(self.lower, self.upper)


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Nobody can say how far the number is off; ``why`` says what is missing."""

    why: Message


Uncertainty = Exact | Statistical | Enclosure | Unknown


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, its uncertainty, and what to change when the computation did not go well.

    Attributes
    ----------
    value
        The number. It may be NaN or infinite: then ``trouble`` must say why.
    uncertainty
        `Exact`, `Statistical`, `Enclosure` or `Unknown`.
    trouble
        None when the computation converged, else one sentence that says what to change.
    unit
        What the number counts, in words (``"0-1 loss"``); empty for a pure number.
    """

    value: float
    uncertainty: Uncertainty
    trouble: Message | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) and self.trouble is None:
            raise ValueError(f"an estimate of {self.value} needs a trouble that says why")

    @property
    def lower(self) -> float:
        """The unfavourable end downwards: the value itself when exact, minus infinity when unknown."""
        return self._end("lower", -math.inf)

    @property
    def upper(self) -> float:
        """The unfavourable end upwards: the value itself when exact, infinity when unknown."""
        return self._end("upper", math.inf)

    def _end(self, name: str, otherwise: float) -> float:
        if isinstance(self.uncertainty, Exact):
            return self.value
        if isinstance(self.uncertainty, Unknown):
            return otherwise
        return float(getattr(self.uncertainty, name))


def _ordered(lower: float, upper: float) -> None:
    if not lower <= upper:  # also catches NaN
        raise ValueError(f"an interval needs lower <= upper, got [{lower}, {upper}]")
