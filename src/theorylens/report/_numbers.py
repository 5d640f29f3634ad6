"""Numbers for readers: as many digits as the interval allows, a percentage for a share, and bounds never rounded down.

How many digits: the rule of the Particle Data Group. The half-width of the interval keeps two digits when they are
10 to 35, else one, and the value keeps the same decimal place. Without an interval three digits are kept. Interval ends
are rounded outwards, bounds upwards: a printed bound must not claim more than was proved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from theorylens.results import Enclosure, Estimate, Statistical

NO_BREAK = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
SHARES = frozenset(  # units of numbers between 0 and 1 that people read in per cent
    {"0-1 loss", "0–1 loss", "error rate", "accuracy", "fraction", "share", "proportion"}
)
EXACT_DIGITS = 3
ROUNDING = 1e-12  # relative: sums and differences of doubles err by less
MOST_DIGITS = 5  # a reader compares numbers; an interval finer than this is printed in its own table
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An estimate as text: the value, its interval (empty when there is none), and the unit that is left to name."""

    value: str
    interval: str
    unit: str

    @property
    def beside(self) -> str:
        """The interval as it follows the value: an end alone in brackets, lest ``2 ≤ 3`` be read."""
        return f"({self.interval})" if self.interval[:1] in {"≤", "≥"} else self.interval


def is_share(unit: str) -> bool:
    """Whether numbers of ``unit`` are shown in per cent."""
    return unit.lower() in SHARES


def shown(estimate: Estimate) -> Shown:
    """``estimate`` with digits chosen by its interval."""
    share = is_share(estimate.unit)
    scale = 100 if share else 1
    value = estimate.value * scale
    lower = upper = math.nan
    if isinstance(estimate.uncertainty, Statistical | Enclosure):
        lower, upper = estimate.uncertainty.lower * scale, estimate.uncertainty.upper * scale
    places = decimals(value, lower, upper)
    text = fixed(value, places) if math.isfinite(lower) or math.isfinite(upper) else plain(value)
    said, interval = _signed(text, share), _interval(lower, upper, places, share)
    if interval[2:] == said:  # the value is the only end of its interval
        said, interval = interval, ""
    return Shown(value=said, interval=interval, unit="" if share else estimate.unit)


def decimals(value: float, lower: float = math.nan, upper: float = math.nan) -> int:
    """Decimal places for ``value`` in the interval ``[lower, upper]``; negative for hundreds, NaN ends for none."""
    half = max((abs(value - end) for end in (lower, upper) if math.isfinite(end)), default=0.0)
    if not math.isfinite(value):
        end = next((e for e in (lower, upper) if math.isfinite(e)), 0.0)
        return EXACT_DIGITS - 1 - _exponent(end) if end else 0
    size = (
        max(abs(value), *(abs(e) for e in (lower, upper) if math.isfinite(e)))
        if math.isfinite(lower + upper)
        else abs(value)
    )
    if half == 0.0 and value == int(value):
        return 0
    if half == 0.0 or half < 1e-9 * size:  # exact, or better known than anybody reads
        return EXACT_DIGITS - 1 - _exponent(size) if size else 0
    exponent = _exponent(half)
    places = (1 if half / 10.0**exponent < 3.55 else 0) - exponent
    return min(places, MOST_DIGITS - 1 - _exponent(size)) if size else places


def fixed(value: float, places: int, rounding: str = ROUND_HALF_EVEN) -> str:
    """``value`` at ``places`` decimals with a real minus; thousands grouped, powers of ten for very large and small."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    exact = Decimal(repr(float(value)))
    if value and not 1e-4 <= abs(value) < 1e7:
        exponent = _exponent(value)
        mantissa = exact.scaleb(-exponent).quantize(Decimal(1).scaleb(-max(0, min(places + exponent, 4))), rounding)
        return _minus(f"{mantissa:f}") + "\N{MULTIPLICATION SIGN}10" + str(exponent).translate(_SUPERSCRIPT)
    rounded = exact.quantize(Decimal(1).scaleb(-places), rounding)
    return _minus(f"{rounded + 0:,.{max(0, places)}f}")


def plain(value: float, digits: int = EXACT_DIGITS) -> str:
    """A number by itself, at ``digits`` significant digits, whole numbers whole."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return fixed(value, 0)
    return _trimmed(fixed(value, digits - 1 - _exponent(value) if value and math.isfinite(value) else 0))


def percent(value: float, digits: int = EXACT_DIGITS) -> str:
    """A share in per cent, trailing zeros dropped: ``0.95`` is ``95 %``."""
    return plain(float(Decimal(repr(float(value))).scaleb(2)), digits) + NO_BREAK + "%"


def bound(value: float, *, share: bool) -> str:
    """An upper bound at three significant digits, rounded upwards."""
    scaled = Decimal(repr(float(value))).scaleb(2) if share and math.isfinite(value) else value
    number = float(scaled)
    places = EXACT_DIGITS - 1 - _exponent(number) if number and math.isfinite(number) else 0
    return _signed(fixed(number, max(0, places), ROUND_CEILING), share)


def loss(value: float, *, share: bool) -> str:
    """A measured loss beside its bound: per cent at three digits at most, or a plain number."""
    return percent(value) if share else plain(value)


def _interval(lower: float, upper: float, places: int, share: bool) -> str:
    if math.isnan(lower) or (math.isinf(lower) and math.isinf(upper)):
        return ""
    size = max((abs(end) for end in (lower, upper) if math.isfinite(end)), default=0.0)
    # An end that is zero but for the rounding of a double is zero: a power of ten beside ordinary numbers misleads.
    lower, upper = (0.0 if abs(end) < ROUNDING * size else end for end in (lower, upper))
    low, high = fixed(lower, places, ROUND_FLOOR), fixed(upper, places, ROUND_CEILING)
    if math.isinf(lower):
        return "≤" + NO_BREAK + _signed(high, share)
    if math.isinf(upper):
        return "≥" + NO_BREAK + _signed(low, share)
    return f"[{low}, {high}]" + (NO_BREAK + "%" if share else "")


def _signed(text: str, share: bool) -> str:
    return text + NO_BREAK + "%" if share and text != "n/a" else text


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text


def _minus(text: str) -> str:
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.,") else MINUS + text[1:]
    return text


def _exponent(value: float) -> int:
    return Decimal(repr(abs(float(value)))).adjusted() if value else 0
