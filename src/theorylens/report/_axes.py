"""Colours, ticks and widths of the report's pictures, without matplotlib: plain numbers at round places."""

from __future__ import annotations

import math
import unicodedata

PALETTE = {  # unique on purpose: the page replaces each by its CSS variable, so that a picture follows the theme
    "ink": "#1c2024", "muted": "#59616a", "rule": "#dddad2", "hair": "#ece9e2", "net": "#1b5a9e", "init": "#7a6a52",
    "shuf": "#b5501b", "wall": "#a3243b", "card": "#fffffe", "fails": "#a8321f",
}  # fmt: skip
INK, MUTED, RULE, HAIR, NET, INIT, SHUF, WALL, CARD, FAILS = PALETTE.values()
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
Ticks = tuple[list[float], list[str]]


def linear_ticks(low: float, high: float, *, whole: bool = False) -> Ticks:
    """Four to six round places between ``low`` and ``high``."""
    step = _round_step((high - low) / 4)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    places = [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
    if whole and places and places[0] != 1:
        places = [1.0, *(p for p in places if p > 1 + step / 3)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if math.isclose(step * 10**digits % 1, 0.5, abs_tol=1e-6):
        digits += 1
    return places, [_word(p, digits) for p in places]


def logarithmic_ticks(low: float, high: float) -> Ticks:
    """Powers of ten, thinned to at most six; within two decades also 3, within one also 2 and 5."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    decades = math.log10(high / low)
    if decades > 3:
        step = max(1, -(-(last - first + 1) // 6))
        places = [10.0**k for k in range(first, last + 1, step)]
    else:
        within = (1, 2, 5) if decades <= 1.2 else (1, 3)
        places = [m * 10.0**k for k in range(first - 1, last + 1) for m in within]
        places = [p for p in places if low <= p * (1 + 1e-9) and p <= high * (1 + 1e-9)]
    if len(places) < 2:
        return linear_ticks(low, high)
    return places, [_power(p) for p in places]


def text_width(text: str) -> float:
    """Width in pixels at 11.5 px, near enough to reserve room: Han characters are square, Latin ones about half."""
    return sum(11.5 if unicodedata.east_asian_width(c) in "WF" else 6.3 for c in text)


def _round_step(raw: float) -> float:
    if not raw > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return power * next(m for m in (1, 2, 2.5, 5, 10) if raw <= m * power * (1 + 1e-9))


def _word(value: float, digits: int) -> str:
    if value and (abs(value) >= 1e6 or digits > 5):
        exponent = math.floor(math.log10(abs(value)) + 1e-9)
        mantissa = f"{value / 10.0**exponent:.3g}".replace("-", "−")
        return f"{mantissa}×10{str(exponent).translate(_SUPERSCRIPT)}"
    text = f"{value:,.{digits}f}".replace("-", "−")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "−0" else text


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 5:
        return f"{value:,.{max(0, -exponent)}f}"
    mantissa = round(value / 10.0**exponent)
    return ("" if mantissa == 1 else f"{mantissa}×") + "10" + str(exponent).translate(_SUPERSCRIPT)
