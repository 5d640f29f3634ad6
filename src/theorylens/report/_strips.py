"""Strips: one line of a table as a picture. Five marks placed by CSS percentages, so they reflow and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from theorylens.results import Control, Estimate, Message, Role, Translate

from ._numbers import NO_BREAK, is_share, plain, shown

MARKS: dict[Role, str] = {"init": "m-init", "shuffled": "m-shuf"}
LOG_FROM = 30.0  # positive numbers this many times apart go on a logarithmic axis


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Where numbers lie on a strip, in per cent of its length."""

    low: float
    high: float
    log: bool = False
    root: bool = False

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if math.isnan(value):
            return 0.0
        if self.log:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        place = min(max((value - low) / (high - low), 0.0), 1.0)
        return round(100 * (math.sqrt(place) if self.root else place), 2)


def mark(kind: str, left: float, **style: str) -> Markup:
    """One mark: ``iv`` interval, ``pt`` point, ``ub`` bound, ``wall``, ``hold``, ``zone``, ``grid``."""
    rest = "".join(f";{name}:{value}" for name, value in style.items())
    return Markup('<i class="{}" style="left:{}%{}"></i>').format(kind, left, rest)


def bar(start: float, end: float, **style: str) -> Markup:
    return mark("iv", start, width=f"{max(0.0, round(end - start, 2))}%", **style)


def controls(found: Sequence[Control], axis: Axis) -> Markup:
    """Diamonds and triangles of the controls; a theoretical value is a dotted line."""
    made = Markup("")
    for control in found:
        left = axis.at(control.estimate.value)
        if control.role in MARKS:
            made += Markup('<i class="ctl" style="left:{}%"><svg><use href="#{}"/></svg></i>').format(
                left, MARKS[control.role]
            )
        else:
            made += mark("hold", left)
    return made


def indicator(estimate: Estimate, found: Sequence[Control], translate: Translate) -> Markup:
    """Strip of an indicator: its interval around the point, its controls, and the ends of the axis in words.

    Empty when there is nothing to compare the point with.
    """
    axis = axis_for(estimate, found)
    if axis is None or not math.isfinite(estimate.value):
        return Markup("")
    marks = Markup('<i class="base"></i>')
    low, high = estimate.lower, estimate.upper
    if low < high and not (math.isinf(low) and math.isinf(high)):
        marks += bar(axis.at(low), axis.at(high))
    marks += controls(found, axis) + mark("pt", axis.at(estimate.value))
    share = is_share(estimate.unit)
    ends = [_end(axis.low, share), _end(axis.high, share)]
    if axis.log:
        ends[1] = Message("strip.log", "{number}, log", number=ends[1]).render(translate)
    label = spoken(estimate, found, translate)
    return Markup(
        '<div role="img" aria-label="{}"><div class="strip">{}</div>'
        '<div class="ends"><span>{}</span><span>{}</span></div></div>'
    ).format(label, marks, *ends)


def spoken(estimate: Estimate, found: Sequence[Control], translate: Translate) -> str:
    """What a strip shows, for those who hear it."""
    own = shown(estimate)
    parts = [f"{own.value} {own.interval}".strip()]
    parts += [f"{c.name.render(translate)} {shown(c.estimate).value}" for c in found]
    return ", ".join(parts)


def axis_for(estimate: Estimate, found: Sequence[Control]) -> Axis | None:
    """Shares lie between 0 and 1; other numbers get the room that they and their controls need."""
    numbers = [estimate.value, estimate.lower, estimate.upper]
    numbers += [n for c in found for n in (c.estimate.value, c.estimate.lower, c.estimate.upper)]
    numbers = [n for n in numbers if math.isfinite(n)]
    if is_share(estimate.unit) and all(0 <= n <= 1 for n in numbers):
        return Axis(low=0.0, high=1.0)
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    if low == high:
        return None
    if low > 0 and high / low > LOG_FROM:
        return Axis(low=_round(low / 1.3, down=True), high=_round(high * 1.3, down=False), log=True)
    room = 0.08 * (high - low)
    start = 0.0 if 0 <= low <= 0.5 * high else _round(low - room, down=True)
    stop = 0.0 if low < 0 and high <= 0 and high > 0.5 * low else _round(high + room, down=False)
    return Axis(low=start, high=stop) if start < stop else Axis(low=low, high=high)


def _round(value: float, *, down: bool) -> float:
    """The next number of two digits, downwards or upwards."""
    if value == 0:
        return 0.0
    power = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return (math.floor(value / power) if down else math.ceil(value / power)) * power


def _end(value: float, share: bool) -> str:
    return f"{plain(100 * value)}{NO_BREAK}%" if share and value else plain(value, 2)
