"""What a report can draw, named by shape and not by probe. Arrays and words only; nobody draws here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ._message import Message

Array = NDArray[np.float64]
Role = Literal["network", "init", "shuffled", "theory"]
Cell = str | int | float | Message


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One curve: ``y`` over ``x`` with an optional band; ``role`` says who is drawn (its colour, dash, marker)."""

    x: Array
    y: Array
    name: Message
    role: Role = "network"
    lower: Array | None = None
    upper: Array | None = None

    def __post_init__(self) -> None:
        _same_length(x=self.x, y=self.y, lower=self.lower, upper=self.upper)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wall:
    """A level that matters: chance, a stability limit, the trivial predictor."""

    at: float
    name: Message


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Up to three lines in one panel. ``label`` says in one sentence what the picture shows."""

    label: Message
    lines: tuple[Line, ...]
    x_name: Message
    y_name: Message
    x_log: bool = False
    y_log: bool = False
    walls: tuple[Wall, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.lines) <= 3:
            raise ValueError(f"a curve shows one to three lines, got {len(self.lines)}; use several curves")


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
    """Eigenvalues of one operator, largest first; ``error`` bounds the distance of each to a true eigenvalue."""

    values: Array
    name: Message
    role: Role = "network"
    error: Array | None = None

    def __post_init__(self) -> None:
        _same_length(values=self.values, error=self.error)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Eigenvalues against rank, the network beside its controls."""

    label: Message
    levels: tuple[Levels, ...]
    y_name: Message
    y_log: bool = False
    walls: tuple[Wall, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """A matrix as ink: ``top`` is the value drawn with full ink. Row and column names may be empty."""

    label: Message
    values: Array
    top: float
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    x_name: Message | None = None
    y_name: Message | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ValueError(f"a matrix has two axes, got shape {self.values.shape}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Rows of words and numbers."""

    label: Message
    columns: tuple[Message, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} columns: {row}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervals:
    """A forest plot: one named point with its interval per line. A name is a name as it is, or words to translate."""

    label: Message
    names: tuple[str | Message, ...]
    values: Array
    lower: Array
    upper: Array
    x_name: Message
    roles: tuple[Role, ...] = ()
    walls: tuple[Wall, ...] = ()

    def __post_init__(self) -> None:
        _same_length(names=self.names, values=self.values, lower=self.lower, upper=self.upper)
        if self.roles and len(self.roles) != len(self.names):
            raise ValueError(f"{len(self.roles)} roles for {len(self.names)} names; give one each or none")


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """A scatter of at most 2,000 points in two coordinates, with a group number each."""

    label: Message
    x: Array
    y: Array
    x_name: Message
    y_name: Message
    group: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        _same_length(x=self.x, y=self.y)
        if len(self.x) > 2000:
            raise ValueError(f"a scatter shows at most 2,000 points, got {len(self.x)}; draw a sample")


Payload = Curve | Spectrum | Matrix | Table | Intervals | Points
PAYLOADS: tuple[type, ...] = (Curve, Spectrum, Matrix, Table, Intervals, Points)


def _same_length(**columns: object) -> None:
    sizes = {name: len(column) for name, column in columns.items() if column is not None}  # type: ignore[arg-type]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"these must have one length: {sizes}")
