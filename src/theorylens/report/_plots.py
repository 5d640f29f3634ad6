"""Payloads as pictures: the only file that imports matplotlib.

A picture is drawn at the size it is read (1 unit = 1 px) inside a fixed rectangle, so no text of unknown width can move
anything. Whoever is drawn has a colour, a dash and a marker, everywhere the same, so that no reader needs the colour.
`draw` serves papers and the report alike; `theorylens.report._svg` turns the report's figures into text of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import Any

import numpy as np

from theorylens.results import Curve, Intervals, Line, Matrix, Payload, Points, Spectrum, Table, Translate

from ._axes import CARD, INIT, INK, MUTED, NET, SHUF, linear_ticks, text_width
from ._frames import axis_names, end_labels, frame, literal, name_ticks, no_spines, usable, wall_line, x_axis, y_axis
from ._tables import said

STYLE: dict[str, dict[str, Any]] = {
    "network": {"color": NET, "ls": "-", "marker": "o", "mfc": NET, "mec": NET},
    "init": {"color": INIT, "ls": (0, (5, 2.5)), "marker": "D", "mfc": CARD, "mec": INIT, "ms": 4.6},
    "shuffled": {"color": SHUF, "ls": (0, (1.2, 1.8)), "marker": "^", "mfc": CARD, "mec": SHUF, "ms": 5.4},
    "theory": {"color": INK, "ls": (0, (6, 2, 1.2, 2)), "marker": "s", "mfc": CARD, "mec": INK, "ms": 4.2},
}
AGAIN: tuple[dict[str, Any], ...] = (
    {},
    {"color": MUTED, "mfc": CARD, "mec": MUTED, "ls": (0, (7, 2))},
    {"color": INK, "mfc": CARD, "mec": INK, "ls": (0, (3, 2))},
)
MARKERS = 40  # above, a line goes without markers
DRAWN = 800  # points of one line that a picture can show
BACKED = {"boxstyle": "round,pad=0.2", "facecolor": CARD, "edgecolor": "none"}
SIZE = (440, 272)
NARROW = (300, 272)
RC = {
    "svg.fonttype": "none", "svg.hashsalt": "theorylens", "svg.image_inline": True, "figure.dpi": 72,
    "savefig.dpi": 144, "text.parse_math": False, "text.usetex": False, "path.simplify": True,
    "font.family": "sans-serif", "font.size": 11.5, "axes.labelsize": 11.5, "xtick.labelsize": 11,
    "ytick.labelsize": 11, "text.color": INK, "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "axes.edgecolor": MUTED, "axes.linewidth": 0.8,
    "lines.linewidth": 1.8, "lines.markersize": 5, "lines.solid_capstyle": "round", "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none",
}  # fmt: skip


def figure(payload: Payload, translate: Translate = str, *, narrow: bool = False) -> Any:
    """A matplotlib figure of ``payload`` at reading size, ``narrow`` for a row of three; no global state is touched."""
    import matplotlib
    from matplotlib.figure import Figure

    left, right, top, bottom, width, height = _box(payload, translate, narrow=narrow)
    with matplotlib.rc_context(RC):
        made = Figure(figsize=(width / 72, height / 72))
        ax = made.add_axes(
            (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
        )
        draw(payload, ax, translate)
    return made


def plot(payload: Payload, ax: Any, translate: Translate = str) -> None:
    """Draw ``payload`` on axes of the caller, leaving the caller's matplotlib settings as they are."""
    import matplotlib

    with matplotlib.rc_context(RC):
        draw(payload, ax, translate)


def _box(payload: Payload, translate: Translate, *, narrow: bool) -> tuple[int, int, int, int, int, int]:
    """Margins and size in pixels: left, right, top, bottom, width, height."""
    width, height = NARROW if narrow else SIZE
    match payload:
        case Curve() | Spectrum():
            return 52, 82 if narrow else 98, 32, 44, width, height
        case Matrix():
            return max(40, min(width // 3, _widest(payload.rows) + 14)), 12, 36, 44, width, 306 if narrow else 330
        case Intervals():
            lines = min(len(payload.names), 44)
            left = max(48, min(2 * width // 5, _widest(said(payload.names, translate)) + 14))
            return left, 20, 18, 48, width, max(120, 66 + 24 * lines)
    return 52, 18, 32, 44, width, height


@singledispatch
def draw(payload: object, ax: Any, translate: Translate) -> None:
    """Draw ``payload`` on the matplotlib axes ``ax``; one renderer per payload type."""
    raise TypeError(
        f"nobody knows how to draw a {type(payload).__name__}; drawn are the payloads of theorylens.results"
    )


@draw.register
def _curve(payload: Curve, ax: Any, translate: Translate) -> None:
    frame(ax, payload.x_name.render(translate), payload.y_name.render(translate))
    shown = [_thin(line) for line in payload.lines]
    ends = []
    for line, style in zip(shown, _styles([line.role for line in shown]), strict=True):
        x, y = usable(line.x, payload.x_log), usable(line.y, payload.y_log)
        if line.lower is not None and line.upper is not None:
            lower, upper = usable(line.lower, payload.y_log), usable(line.upper, payload.y_log)
            if len(x) == 1:
                ax.plot([x[0]] * 2, [lower[0], upper[0]], color=style["color"], lw=5, alpha=0.3, solid_capstyle="butt")
            else:
                ax.fill_between(x, lower, upper, color=style["color"], alpha=0.1, lw=0)
        ax.plot(x, y, **(style if len(x) <= MARKERS else {**style, "marker": ""}))
        good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if len(good):
            last = good[np.argmax(x[good])]
            ends.append((float(y[last]), line.name.render(translate), style["color"]))
    x_axis(ax, _all(*(line.x for line in shown)), payload.x_log, pad=0.02 if len(shown[0].x) > 1 else 0.5)
    bands = [b for line in shown for b in (line.lower, line.upper) if b is not None]
    y_axis(ax, _all(*(line.y for line in shown), *bands, [w.at for w in payload.walls]), payload.y_log)
    for wall in payload.walls:
        wall_line(ax, wall.at, wall.name.render(translate), upright=False)
    end_labels(ax, ends)


@draw.register
def _spectrum(payload: Spectrum, ax: Any, translate: Translate) -> None:
    from theorylens.results import Message

    frame(ax, Message("plot.rank", "rank").render(translate), payload.y_name.render(translate))
    ends, ranks = [], [0.0]
    for level, style in zip(payload.levels, _styles([v.role for v in payload.levels]), strict=True):
        rank = np.arange(1, len(level.values) + 1, dtype=np.float64)
        y = usable(level.values, payload.y_log)
        ranks.append(float(len(rank)))
        if level.error is not None and len(y) <= MARKERS:
            for r, v, e in zip(rank, y, level.error, strict=True):
                low = v - e if not payload.y_log or v - e > 0 else v
                ax.plot([r, r], [low, v + e], color=style["color"], lw=4, alpha=0.3, solid_capstyle="butt")
        ax.plot(rank, y, **{**style, "lw": 1.2, **({"marker": ""} if len(y) > MARKERS else {})})
        good = np.flatnonzero(np.isfinite(y))
        if len(good):
            ends.append((float(y[good[-1]]), level.name.render(translate), style["color"]))
    ax.set_xlim(0.5, max(ranks) + 0.2 if max(ranks) > 1 else 1.5)
    ax.set_xticks(*linear_ticks(1, max(max(ranks), 2), whole=True))
    y_axis(ax, _all(*(v.values for v in payload.levels), [w.at for w in payload.walls]), payload.y_log)
    for wall in payload.walls:
        wall_line(ax, wall.at, wall.name.render(translate), upright=False)
    end_labels(ax, ends)


@draw.register
def _matrix(payload: Matrix, ax: Any, translate: Translate) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    values = np.where(np.isfinite(payload.values), payload.values, 0.0)
    rows, columns = values.shape
    top = payload.top if payload.top > 0 else 1.0
    if rows <= 12 and columns <= 10:
        for i in range(rows):
            for j in range(columns):
                ink = 0.03 + 0.43 * float(np.clip(values[i, j] / top, 0, 1))  # 0.46 keeps ink readable in both themes
                ax.add_patch(Rectangle((j + 0.02, i + 0.03), 0.96, 0.94, facecolor=NET, alpha=ink, lw=0))
                number = (
                    f"{payload.values[i, j]:.2g}" if abs(payload.values[i, j]) < 1000 else f"{payload.values[i, j]:.0e}"
                )
                ax.text(
                    j + 0.5, i + 0.5, number.replace("-", "−"), ha="center", va="center", color=INK, parse_math=False
                )
    elif values.size:
        ink_map = LinearSegmentedColormap.from_list("ink", [(NET, 0.0), (NET, 1.0)])
        small = _blocks(np.clip(values / top, 0, 1))
        ax.imshow(
            small, cmap=ink_map, vmin=0, vmax=1, interpolation="nearest", aspect="auto", extent=(0, columns, rows, 0)
        )
    ax.set(xlim=(0, max(columns, 1)), ylim=(max(rows, 1), 0))
    no_spines(ax)
    width, height = (side * 72 for side in ax.figure.get_size_inches())
    room = max(1, int(0.8 * width / (_widest(payload.columns) + 12))) if payload.columns else 8
    name_ticks(ax.set_xticks, payload.columns, columns, room=room, longest=60)
    name_ticks(ax.set_yticks, payload.rows, rows, room=int(height / 16) if payload.rows else 8, longest=116)
    axis_names(
        ax,
        payload.x_name.render(translate) if payload.x_name else "",
        payload.y_name.render(translate) if payload.y_name else "",
    )
    literal(ax)


@draw.register
def _intervals(payload: Intervals, ax: Any, translate: Translate) -> None:
    frame(ax, payload.x_name.render(translate), "")
    ax.grid(visible=False)
    n = len(payload.names)
    for i in range(n):
        style = STYLE[payload.roles[i] if payload.roles else "network"]
        low, high = (
            float(np.nan_to_num(v[i], nan=payload.values[i], posinf=1e300, neginf=-1e300))
            for v in (payload.lower, payload.upper)
        )
        ax.plot([low, high], [i, i], color=style["color"], lw=5, alpha=0.3, solid_capstyle="butt")
        ax.plot(payload.values[i], i, **{**style, "ls": "none"})
    x_axis(ax, _all(payload.values, payload.lower, payload.upper, [w.at for w in payload.walls]), log=False, pad=0.04)
    for wall in payload.walls:
        wall_line(ax, wall.at, wall.name.render(translate), upright=True)
    ax.set_ylim(n - 0.4, -0.6)
    room = int(ax.get_position().x0 * ax.figure.get_size_inches()[0] * 72) - 10
    name_ticks(ax.set_yticks, said(payload.names, translate), n, room=44, longest=max(room, 60), offset=0.0)
    literal(ax)


@draw.register
def _points(payload: Points, ax: Any, translate: Translate) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    frame(ax, payload.x_name.render(translate), payload.y_name.render(translate))
    groups = payload.group if len(payload.group) == len(payload.x) else np.zeros(len(payload.x), dtype=np.int64)
    kinds = np.unique(groups)
    for k, kind in enumerate(kinds):
        mine = (groups == kind) & np.isfinite(payload.x) & np.isfinite(payload.y)
        colour = (NET, SHUF, INIT, MUTED)[k % 4]
        x, y = payload.x[mine], payload.y[mine]
        # A dot is a line of no length with a round cap: 15 bytes a point in the page instead of 120.
        dots = np.stack([np.repeat(x, 2), np.repeat(y, 2)], axis=1)
        if not len(dots):
            continue
        path = Path(dots, np.tile([Path.MOVETO, Path.LINETO], len(x)))
        path.should_simplify = False
        ax.add_patch(PathPatch(path, fill=False, edgecolor=colour, lw=4, alpha=0.55, capstyle="round"))
        if len(kinds) > 1:
            at = float(np.median(x)), float(np.median(y))
            ax.text(*at, str(kind), color=INK, ha="center", va="center", fontweight="bold", bbox=BACKED)
    x_axis(ax, payload.x, log=False, pad=0.04)
    y_axis(ax, payload.y, log=False)


@draw.register
def _table(payload: Table, ax: Any, translate: Translate) -> None:
    ax.set_axis_off()
    rows = [tuple(c.render(translate) for c in payload.columns)]
    rows += [
        tuple(c if isinstance(c, str) else c.render(translate) if hasattr(c, "render") else f"{c:.4g}" for c in r)
        for r in payload.rows
    ]
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            ax.text(
                j / len(row),
                1 - (i + 0.5) / len(rows),
                cell,
                color=MUTED if i == 0 else INK,
                va="center",
                transform=ax.transAxes,
                parse_math=False,
            )


def _styles(roles: Sequence[str]) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    styles = []
    for role in roles:
        styles.append({**STYLE[role], **AGAIN[min(seen.get(role, 0), 2)]})
        seen[role] = seen.get(role, 0) + 1
    return styles


def _thin(line: Line) -> Line:
    if len(line.x) <= DRAWN:
        return line
    kept = np.unique(np.linspace(0, len(line.x) - 1, DRAWN).round().astype(int))
    band = [None if b is None else b[kept] for b in (line.lower, line.upper)]
    return Line(x=line.x[kept], y=line.y[kept], name=line.name, role=line.role, lower=band[0], upper=band[1])


def _blocks(values: Any, most: int = 64) -> Any:
    """Average blocks so that neither side has more than ``most`` cells."""
    for axis in (0, 1):
        n = values.shape[axis]
        if n > most:
            starts = np.unique(np.linspace(0, n, most, endpoint=False).astype(int))
            counts = np.diff([*starts, n])
            values = np.add.reduceat(values, starts, axis=axis) / np.expand_dims(counts, 1 - axis)
    return values


def _all(*columns: Iterable[float]) -> Any:
    return np.concatenate([np.asarray(c, dtype=np.float64).ravel() for c in columns])


def _widest(names: Sequence[str]) -> int:
    return int(max((text_width(name) for name in names), default=18))
