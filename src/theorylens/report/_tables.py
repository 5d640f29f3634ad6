"""Payloads as tables of numbers: the *Data table* fold under every picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from theorylens.results import Curve, Intervals, Levels, Line, Matrix, Message, Points, Spectrum, Table, Translate

from ._numbers import plain

Array = NDArray[np.float64]
ROWS, COLUMNS = 60, 12  # of a data table; the rest is in the JSON
SENTENCE = 12  # letters in a cell from which on it is read, not compared


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table ready to print: its head, its rows, and a sentence when it was cut."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def words(self) -> tuple[bool, ...]:
        """Whether a column holds sentences, which are set from the left and may take several lines, not numbers."""
        return tuple(
            place == 0 or any(sum(c.isalpha() for c in row[place]) >= SENTENCE for row in self.rows)
            for place in range(len(self.head))
        )


@singledispatch
def grid(payload: object, translate: Translate) -> Grid:
    """``payload`` as words and numbers; one way per payload type."""
    raise TypeError(
        f"nobody knows how to tabulate a {type(payload).__name__}; known are the payloads of theorylens.results"
    )


@grid.register
def _curve(payload: Curve, translate: Translate) -> Grid:
    same = all(np.array_equal(line.x, payload.lines[0].x) for line in payload.lines)
    x = payload.x_name.render(translate)
    if same:
        head = (x, *(name for line in payload.lines for name in _names(line, translate)))
        columns = [payload.lines[0].x, *(c for line in payload.lines for c in _columns(line))]
        return _cut(head, list(zip(*(c.tolist() for c in columns), strict=True)), translate)
    head = (Message("table.line", "line").render(translate), x, payload.y_name.render(translate))
    rows = [
        (line.name.render(translate), a, b)
        for line in payload.lines
        for a, b in zip(line.x.tolist(), line.y.tolist(), strict=True)
    ]
    return _cut(head, rows, translate)


def _names(line: Line, translate: Translate) -> list[str]:
    name = line.name.render(translate)
    if line.lower is None or line.upper is None:
        return [name]
    return [name, Message("table.lower", "lower").render(translate), Message("table.upper", "upper").render(translate)]


def _columns(line: Line) -> list[Array]:
    return [line.y] if line.lower is None or line.upper is None else [line.y, line.lower, line.upper]


@grid.register
def _spectrum(payload: Spectrum, translate: Translate) -> Grid:
    longest = max((len(v.values) for v in payload.levels), default=0)
    error = Message("table.error", "error").render(translate)
    head = (
        Message("plot.rank", "rank").render(translate),
        *(w for v in payload.levels for w in _level_names(v, error, translate)),
    )
    rows = []
    for i in range(longest):
        row: list[float | str] = [i + 1]
        for level in payload.levels:
            row.append(float(level.values[i]) if i < len(level.values) else "")
            if level.error is not None:
                row.append(float(level.error[i]) if i < len(level.error) else "")
        rows.append(row)
    return _cut(head, rows, translate)


def _level_names(level: Levels, error: str, translate: Translate) -> list[str]:
    return [level.name.render(translate), *([error] if level.error is not None else [])]


@grid.register
def _matrix(payload: Matrix, translate: Translate) -> Grid:
    rows, columns = payload.values.shape
    left = payload.rows or tuple(str(i) for i in range(rows))
    top = payload.columns or tuple(str(j) for j in range(columns))
    corner = " \\ ".join(m.render(translate) for m in (payload.y_name, payload.x_name) if m is not None)
    return _cut((corner, *top), [(left[i], *payload.values[i].tolist()) for i in range(rows)], translate)


@grid.register
def _table(payload: Table, translate: Translate) -> Grid:
    head = tuple(c.render(translate) for c in payload.columns)
    return _cut(
        head, [tuple(c.render(translate) if isinstance(c, Message) else c for c in r) for r in payload.rows], translate
    )


def said(names: Sequence[str | Message], translate: Translate) -> tuple[str, ...]:
    """Names as readers see them: words translated, names as they are."""
    return tuple(name.render(translate) if isinstance(name, Message) else name for name in names)


@grid.register
def _intervals(payload: Intervals, translate: Translate) -> Grid:
    ends = (Message("table.lower", "lower"), Message("table.upper", "upper"))
    head = ("", payload.x_name.render(translate), *(m.render(translate) for m in ends))
    columns = (payload.values.tolist(), payload.lower.tolist(), payload.upper.tolist())
    return _cut(head, list(zip(said(payload.names, translate), *columns, strict=True)), translate)


@grid.register
def _points(payload: Points, translate: Translate) -> Grid:
    head = [payload.x_name.render(translate), payload.y_name.render(translate)]
    columns = [payload.x.tolist(), payload.y.tolist()]
    if len(payload.group) == len(payload.x):
        head.append(Message("table.group", "group").render(translate))
        columns.append(payload.group.tolist())
    return _cut(tuple(head), list(zip(*columns, strict=True)), translate)


def _cut(head: Iterable[str], rows: Sequence[Sequence[object]], translate: Translate) -> Grid:
    """Print what fits: rows evenly spaced over all of them, the first columns."""
    names = tuple(head)
    kept = range(len(rows))
    note = ""
    if len(rows) > ROWS or len(names) > COLUMNS + 1:
        kept_rows = sorted({round(i * (len(rows) - 1) / (ROWS - 1)) for i in range(ROWS)}) if len(rows) > ROWS else kept
        text = "{rows} of {all_rows} rows and {columns} of {all_columns} columns; all of them are in the JSON."
        note = Message(
            "table.cut", text, rows=len(kept_rows), all_rows=len(rows),
            columns=min(len(names), COLUMNS + 1), all_columns=len(names),
        ).render(translate)  # fmt: skip
        return Grid(head=names[: COLUMNS + 1], rows=tuple(_words(rows[i][: COLUMNS + 1]) for i in kept_rows), note=note)
    return Grid(head=names, rows=tuple(_words(row) for row in rows), note=note)


def _words(row: Sequence[object]) -> tuple[str, ...]:
    return tuple(_word(cell) for cell in row)


def _word(cell: object) -> str:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return str(cell)
    if isinstance(cell, int):
        return str(cell).replace("-", "−") if abs(cell) < 10_000 else plain(cell)
    return plain(cell, 4) if not math.isnan(cell) else "–"
