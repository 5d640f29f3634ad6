"""Axes of the report's pictures: spines, round ticks, names without rotated text, labels at the ends of lines."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._axes import HAIR, MUTED, WALL, linear_ticks, logarithmic_ticks, text_width

NAME_SHARE, NAME_HEIGHT = 0.45, 0.1  # of the axes: about the room that the name of a wall takes
LINE = 17.0  # pixels from one line of a name to the next: Chinese faces are taller than Latin ones


def frame(ax: Any, x: str, y: str) -> None:
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(visible=True, axis="y", color=HAIR, linewidth=1)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", length=4, width=0.8)
    axis_names(ax, x, y)


def no_spines(ax: Any) -> None:
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)


def axis_names(ax: Any, x: str, y: str) -> None:
    """Axis names without rotated text: y above the axis at the left, x at the right end below."""
    if y:
        ax.annotate(
            y,
            (0, 1),
            xycoords="axes fraction",
            xytext=(-46, 14),
            textcoords="offset points",
            color=MUTED,
            va="bottom",
            ha="left",
            parse_math=False,
        )
    if x:
        ax.annotate(
            x,
            (1, 0),
            xycoords="axes fraction",
            xytext=(0, -26),
            textcoords="offset points",
            color=MUTED,
            va="top",
            ha="right",
            parse_math=False,
        )


def x_axis(ax: Any, values: Any, log: bool, pad: float) -> None:
    _axis(ax.set_xscale, ax.set_xlim, ax.set_xticks, values, log, pad)
    literal(ax)


def y_axis(ax: Any, values: Any, log: bool) -> None:
    _axis(ax.set_yscale, ax.set_ylim, ax.set_yticks, values, log, 0.06)
    literal(ax)


def _axis(
    scale: Callable[..., Any], limits: Callable[..., Any], ticks: Callable[..., Any], values: Any, log: bool, pad: float
) -> None:
    good = usable(np.asarray(values, dtype=np.float64), log)
    good = good[np.isfinite(good)]
    low, high = (float(good.min()), float(good.max())) if len(good) else (1.0, 10.0) if log else (0.0, 1.0)
    if log:
        scale("log")
        a, b = np.log10(low), np.log10(high)
        wide = max((b - a) * max(pad, 0.04), 0.08)
        low, high = float(10.0 ** (a - wide)), float(10.0 ** (b + wide))
        positions, words = logarithmic_ticks(low, high)
    else:
        wide = (high - low) * pad or abs(high) * 0.1 or 0.5
        near_zero = 0 <= low < 0.13 * high  # then zero is shown, with room for half a marker
        low, high = (-0.02 * high if near_zero else low - wide), high + wide
        positions, words = linear_ticks(low, high)
    limits(low, high)
    ticks([])
    ticks(positions, words)
    ticks([], minor=True)


def name_ticks(
    ticks: Callable[..., Any], names: Sequence[str], n: int, *, room: int, longest: int, offset: float = 0.5
) -> None:
    step = max(1, -(-n // room))
    at = range(0, n, step)
    ticks([i + offset for i in at], [short(names[i], longest) for i in at] if names else [str(i) for i in at])


def literal(ax: Any) -> None:
    """Names are text: a dollar sign in a layer's name is not mathematics."""
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_parse_math(False)


def wall_line(ax: Any, at: float, name: str, *, upright: bool) -> None:
    if not np.isfinite(at):
        return
    if upright:
        ax.axvline(at, color=WALL, lw=1.2)
        right = (at - ax.get_xlim()[0]) / (ax.get_xlim()[1] - ax.get_xlim()[0]) > 0.5
        ax.annotate(
            name,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if right else 4, 3),
            textcoords="offset points",
            color=WALL,
            ha="right" if right else "left",
            va="bottom",
            parse_math=False,
        )
    else:
        right = _clearer_at_the_right(ax, at)
        ax.axhline(at, color=WALL, lw=1.2)
        ax.annotate(
            name,
            (1 if right else 0, at),
            xycoords=("axes fraction", "data"),
            xytext=(-4 if right else 4, 3),
            textcoords="offset points",
            color=WALL,
            ha="right" if right else "left",
            va="bottom",
            parse_math=False,
        )


def _clearer_at_the_right(ax: Any, at: float) -> bool:
    """Whether the lines drawn so far keep further from the space above ``at`` at the right end than at the left."""
    near = []
    for left, stop in ((0.0, NAME_SHARE), (1.0 - NAME_SHARE, 1.0)):
        distances = [1.0]
        for line in ax.get_lines():
            points = ax.transAxes.inverted().transform(ax.transData.transform(np.column_stack(line.get_data())))
            grid = np.linspace(left, stop, 9)
            order = np.argsort(points[:, 0], kind="stable")
            x, y = points[order].T
            inside = np.isfinite(y)
            if inside.sum() > 1:
                grid = grid[(grid >= x[inside][0]) & (grid <= x[inside][-1])]
                level = ax.transAxes.inverted().transform(ax.transData.transform((ax.get_xlim()[0], at)))[1]
                middle = level + NAME_HEIGHT / 2
                distances += np.abs(np.interp(grid, x[inside], y[inside]) - middle).tolist()
        near.append(min(distances))
    return near[0] < NAME_HEIGHT and near[1] > near[0]


def end_labels(ax: Any, ends: list[tuple[float, str, str]]) -> None:
    """Name each line at its end, in its colour; names that would touch are moved apart."""
    box = ax.get_position()
    height = box.height * ax.figure.get_size_inches()[1] * 72
    low, high = ax.get_ylim()
    log = ax.get_yscale() == "log"
    span = np.log(high / low) if log else high - low
    places = [np.log(v / low) / span if log else (v - low) / span for v, _, _ in ends]
    wrapped = [
        (float(np.clip(place, 0, 1)) * height, _wrap(name), colour)
        for place, (_, name, colour) in zip(places, ends, strict=True)
    ]
    wrapped.sort(key=lambda e: e[0])
    floor = 2.0  # the names stay above the x axis and its numbers
    for at, lines, colour in wrapped:
        size = LINE * len(lines)
        centre = max(at, floor + size / 2)
        floor = centre + size / 2
        for k, line in enumerate(lines):
            ax.annotate(
                line,
                (1, (centre + size / 2 - (k + 0.5) * LINE) / height),
                xycoords="axes fraction",
                xytext=(8, 0),
                textcoords="offset points",
                color=colour,
                va="center_baseline",
                annotation_clip=False,
                parse_math=False,
            )


def _wrap(name: str) -> list[str]:
    if text_width(name) <= 88:
        return [name]
    wide = any(ord(c) > 0x2E80 for c in name)
    lines = textwrap.wrap(name, 7 if wide else 14) or [name]
    return [*lines[:3], *(["…"] if len(lines) > 3 else [])][:3]


def usable(values: Any, log: bool) -> Any:
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)


def short(name: str, pixels: int) -> str:
    name = " ".join(name.split())
    if text_width(name) <= pixels:
        return name
    while name and text_width(name) > pixels - 10:
        name = name[:-1]
    return name + "…"
