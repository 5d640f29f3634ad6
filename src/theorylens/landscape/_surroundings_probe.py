"""The loss on a plane around the solution, and how far off half of what training gained is lost: judge and probe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Control,
    Curve,
    Enclosure,
    Estimate,
    Kind,
    Line,
    Matrix,
    Message,
    Result,
    Role,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._directions import random_direction
from ._slices import Surface, surface_matrix, surface_of, symmetric_grid

ROWS = 256
REACH = 1.0  # of each filter's own norm
POINTS = 11
REFERENCES = (
    "Li, Xu, Taylor, Studer, Goldstein (2018). Visualizing the loss landscape of neural nets. NeurIPS.",
    "Dinh, Pascanu, Bengio, Bengio (2017). Sharp minima can generalize for deep nets. ICML.",
)
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """Losses around a network: ``mean``, ``lowest`` and ``highest`` of four half-lines at each distance in ``at``."""

    surface: Surface
    at: Floats
    mean: Floats
    lowest: Floats
    highest: Floats

    @property
    def loss(self) -> float:
        return float(self.mean[0])


def surroundings(surface: Surface) -> Surroundings:
    """A surface as a profile: along the two directions, both ways."""
    half = len(surface.at_first) // 2
    rays = np.stack([
        surface.losses[half:, half], surface.losses[half::-1, half],
        surface.losses[half, half:], surface.losses[half, half::-1],
    ])  # fmt: skip
    return Surroundings(
        surface=surface, at=surface.at_first[half:], mean=rays.mean(0), lowest=rays.min(0), highest=rays.max(0)
    )


def distance(found: Surroundings, rise: float) -> Estimate:
    """The distance at which the mean loss has risen by ``rise``, between two points of the grid; or beyond its end."""
    above = ~(found.mean < found.loss + rise)  # a loss that is not a number is not low
    if not above.any():
        why = Message("TL309.beyond", "the mean over four half-lines does not rise so far on the plane looked at")
        reach = float(found.at[-1])
        return Estimate(value=reach, uncertainty=Enclosure(lower=reach, upper=math.inf, why=why))
    i = int(above.argmax())
    if i == 0:
        raise ValueError(f"the rise must be a positive number, got {rise}")
    low, high = float(found.at[i - 1]), float(found.at[i])
    before, after = float(found.mean[i - 1]), float(found.mean[i])
    share = (found.loss + rise - before) / (after - before) if math.isfinite(after) else 1.0
    why = Message("TL309.grid", "between two points of the grid, for these directions; others differ")
    return Estimate(value=low + share * (high - low), uncertainty=Enclosure(lower=low, upper=high, why=why))


def judge(found: Estimate | None, start: float, end: float) -> tuple[Verdict, Message]:
    """``found``: the distance at which half of the fall from ``start`` to ``end`` is lost; None without a fall."""
    if found is None:
        text = "the loss after training ({end:.3g}) is not below that before ({start:.3g}), so there is nothing to lose"
        return Verdict.INCONCLUSIVE, Message("TL309.no_fall", text, end=end, start=start)
    if math.isinf(found.upper):
        text = "moving every filter by its own norm at random keeps more than half of what training gained"
        return Verdict.DESCRIPTIVE, Message("TL309.wide", text)
    text = "half of what training gained is lost when every filter is moved by about {radius:.0%} of its norm"
    return Verdict.DESCRIPTIVE, Message("TL309.radius", text, radius=found.value)


def read(found: Estimate | None, own: Surroundings, start: Estimate | None, gained: float) -> Message:
    """The reading: the distance, what the same rise takes before training, and what the picture does not say."""
    if found is None:
        return Message("TL309.nothing", "Nothing was gained by training on these rows, so the plane has no low place.")
    shape = (
        Message("TL309.bowl", "Like a bowl: the mean loss rises at every step away")
        if bool((np.diff(own.mean) > 0).all())
        else Message("TL309.uneven", "Not like a bowl: the mean loss does not rise at every step away")
    )
    text = (
        "{shape}, and half of what training gained ({rise:.3g}) is lost at {radius:.0%} of the filters' norms{open}. "
        "{beside} Two directions show no valley that they do not cross, and a wide one does not explain generalisation."
    )
    return Message(
        "TL309.reading", text, shape=shape, rise=gained / 2, radius=found.value, beside=_beside(found, start),
        open=Message("TL309.or_more", " or more") if math.isinf(found.upper) else "",
    )  # fmt: skip


def _beside(found: Estimate, start: Estimate | None) -> Message:
    if start is None:
        return Message("TL309.no_control", "There is no network before training to compare it with.")
    if math.isinf(start.upper):
        text = "Before training the loss does not rise by as much anywhere on the plane."
        return Message("TL309.start_flat", text)
    if found.lower <= start.value <= found.upper or start.lower <= found.value <= start.upper:
        text = "Before training the same rise takes as much ({radius:.0%}), so the width is none of training's doing."
        return Message("TL309.start_same", text, radius=start.value)
    text = "Before training the same rise takes {radius:.0%}."
    return Message("TL309.start", text, radius=start.value)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    return Work(forwards=2 * POINTS**2 * min(ROWS, len(subject.split("train"))))


@probe(code="TL309", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="landscape.surroundings")
def probe_surroundings(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """What does the training loss look like on a plane around the solution?

    Two random filter-normalised directions, the same for the network before training; 11 × 11 points of a plane.
    """
    first = subject.initial()
    if first is None:
        text = "needs the network before training to know what was gained; give init= or checkpoint 0 to Subject"
        raise UnsuitableError(Message("TL309.unsuitable", text))
    seeds = [int(s) for s in torch.randint(1 << 40, (2,), generator=rng)]
    own = surroundings(_plane(subject, rows, seeds))
    with first.subject.studied():
        start = surroundings(_plane(first.subject, rows, seeds))
    gained = start.loss - own.loss
    falls = gained > 0
    found = distance(own, gained / 2) if falls else None
    other = distance(start, gained / 2) if falls else None
    verdict, reason = judge(found, start.loss, own.loss)
    beside = () if other is None else (Control(name=first.name, role="init", estimate=other),)
    used = min(rows, len(subject.split("train")))
    return Result(
        estimate=found if found is not None else _nothing(),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(found, own, other, gained),
        assumptions=_assumptions(used, len(subject.split("train")), subject.net),
        controls=beside,
        references=REFERENCES,
        payload=(_matrix(own, start), _profile(own, start), _table(own, start, found, other)),
        settings={"rows": used, "points": POINTS, "reach": REACH},
    )


def _nothing() -> Estimate:
    why = Message("TL309.nothing_lost", "training gained nothing on these rows")
    return Estimate(value=0.0, uncertainty=Enclosure(lower=0.0, upper=math.inf, why=why), trouble=why)


def _plane(subject: Subject, rows: int, seeds: list[int]) -> Surface:
    """The loss around a network; the same numbers are drawn for every network of one shape."""
    goal = subject.objective("train", limit=rows)
    at = symmetric_grid(REACH, POINTS)
    one, two = (_direction(subject.net, seed) for seed in seeds)
    return surface_of(goal, (one, two), at, at)


def _direction(net: nn.Module, seed: int) -> Float[Tensor, "p"]:
    try:
        return random_direction(net, seed=seed)
    except ValueError:  # no weight has two axes: nothing is left of a filter-normalised direction
        return random_direction(net, normalise="tensor", seed=seed)


def _assumptions(used: int, rows: int, net: nn.Module) -> tuple[Assumption, ...]:
    whole = Assumption(
        statement=Message("TL309.assume.rows", "the loss is that over the whole training split"),
        status=Status.MET if used == rows else Status.UNCHECKED,
        evidence=Message("TL309.assume.rows.evidence", "{used} of {rows} rows were used", used=used, rows=rows),
    )
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in net.modules())
    statistics = Assumption(
        statement=Message("TL309.assume.statistics", "running statistics fit the networks around the solution"),
        status=Status.UNCHECKED if norms else Status.MET,
        evidence=Message("TL309.assume.statistics.kept", "they stay those of the solution")
        if norms
        else Message("TL309.assume.statistics.none", "there are none"),
    )
    return whole, statistics


def _matrix(own: Surroundings, start: Surroundings) -> Matrix:
    text = "The training loss on a plane around the solution; full ink from twice the loss before training on"
    return surface_matrix(own.surface, Message("TL309.figure.plane", text), top=2 * start.loss)


def _profile(own: Surroundings, start: Surroundings) -> Curve:
    lines = (
        _line(own, Message("TL309.figure.network", "solution"), "network"),
        _line(start, Message("TL309.figure.start", "before training"), "init"),
    )
    return Curve(
        label=Message("TL309.figure.profile", "Mean training loss over four half-lines, with the lowest and highest"),
        lines=lines,
        x_name=Message("TL309.figure.x", "distance, share of each filter's norm"),
        y_name=Message("TL309.figure.y", "training loss"),
        walls=(Wall(at=(own.loss + start.loss) / 2, name=Message("TL309.wall", "half of the gain")),),
    )


def _line(found: Surroundings, name: Message, role: Role) -> Line:
    known = np.isfinite(found.mean) & np.isfinite(found.highest)
    at, mean, low, high = (v[known] for v in (found.at, found.mean, found.lowest, found.highest))
    return Line(x=at, y=mean, lower=low, upper=high, name=name, role=role)


def _table(own: Surroundings, start: Surroundings, found: Estimate | None, other: Estimate | None) -> Table:
    rows: list[tuple[Message, float]] = [
        (Message("TL309.row.end", "loss at the solution"), own.loss),
        (Message("TL309.row.start", "loss before training"), start.loss),
    ]
    if found is not None and other is not None:
        rows += [
            (Message("TL309.row.radius", "distance at which half of the gain is lost"), found.value),
            (Message("TL309.row.control", "distance of the same rise before training"), other.value),
        ]
    rows.append((Message("TL309.row.edge", "mean loss at the end of the half-lines"), float(own.mean[-1])))
    return Table(
        label=Message("TL309.table", "The plane in a few numbers"),
        columns=(Message("TL309.table.quantity", "quantity"), Message("TL309.table.value", "value")),
        rows=tuple(rows),
    )
