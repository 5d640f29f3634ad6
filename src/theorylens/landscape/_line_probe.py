"""The straight line from initialisation to the solution: judge and probe."""

from __future__ import annotations

import math

import torch
from torch import nn

from theorylens.core import Initial, Need, Subject, UnsuitableError, Work, probe
from theorylens.numerics.objective import Objective
from theorylens.results import (
    Assumption,
    Curve,
    Enclosure,
    Estimate,
    Kind,
    Line,
    Message,
    Result,
    Status,
    Table,
    Verdict,
)

from ._paths import Path, path_between

ROWS = 512
POINTS = 21
SMALL = 1e-3  # share of the fall over the whole path below which a rise is none
REFERENCES = (
    "Goodfellow, Vinyals, Saxe (2015). Qualitatively characterizing neural network optimization problems. ICLR.",
    "Lucas, Bae, Zhang, Fort, Zemel, Grosse (2021). On monotonic linear interpolation of neural network parameters. "
    "ICML.",
    "Frankle (2020). Revisiting 'Qualitatively characterizing neural network optimization problems'. arXiv:2012.06898.",
)


def judge(path: Path) -> tuple[Verdict, Message]:
    """Whether the loss falls all the way, rises on the way, or does not fall at all."""
    start, end = float(path.losses[0]), float(path.losses[-1])
    if not bool((path.losses < math.inf).all()):
        text = "on the line from initialisation the network overflows"
        return Verdict.INCONCLUSIVE, Message("TL306.infinite", text)
    if end >= start:
        text = "the loss at the end ({end:.3g}) is not below that at the start ({start:.3g})"
        return Verdict.INCONCLUSIVE, Message("TL306.no_fall", text, end=end, start=start)
    share = path.rise / (start - end)
    if share <= SMALL:
        text = "the loss falls all the way on the straight line from initialisation, from {start:.3g} to {end:.3g}"
        return Verdict.DESCRIPTIVE, Message("TL306.falls", text, start=start, end=end)
    text = "on the straight line from initialisation the loss rises by {rise:.3g} ({share:.2g} of its whole fall)"
    return Verdict.DESCRIPTIVE, Message("TL306.rises", text, rise=path.rise, share=share)


def read(path: Path) -> Message:
    """The reading: the answer, where most of the fall lies, and what this does not say."""
    start, end = float(path.losses[0]), float(path.losses[-1])
    falls = end < start and path.rise <= SMALL * (start - end)
    answer = (
        Message("TL306.yes", "Yes, at all {points} points looked at.", points=len(path.at))
        if falls
        else Message("TL306.no", "No, it rises by {rise:.3g} on the way.", rise=path.rise)
    )
    text = "{answer} {half} Training itself does not go along this line, and a barrier on it hinders nobody."
    return Message("TL306.reading", text, answer=answer, half=_half(path, start, end))


def _half(path: Path, start: float, end: float) -> Message:
    """Where half of the fall is done."""
    if not end < start:
        return Message("TL306.no_half", "There is no fall from start to end.")
    below = path.losses <= (start + end) / 2
    at = float(path.at[below.argmax()])
    return Message("TL306.half", "Half of the fall is done at {at:.0%} of the way.", at=at)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    return Work(forwards=(POINTS + 1) * min(ROWS, len(subject.split("train"))))


@probe(code="TL306", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="landscape.linear_path")
def probe_linear_path(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """Does the training loss fall all the way on the straight line from initialisation to the solution?

    Loss at 21 networks between the initial and the trained one, running statistics interpolated too.
    """
    del rng  # nothing is drawn
    start = _own_start(subject)
    goal = subject.objective("train", limit=rows)

    def loss(between: nn.Module) -> float:
        return Objective(between, goal.batches, goal.loss, goal.mean).value

    with start.subject.studied():
        path = path_between(start.subject.net, subject.net, loss, POINTS)
    verdict, reason = judge(path)
    used = min(rows, len(subject.split("train")))
    return Result(
        estimate=_estimate(path),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(path),
        assumptions=_assumptions(used, len(subject.split("train")), subject.net),
        references=REFERENCES,
        payload=(_curve(path), _table(path)),
        settings={"rows": used, "points": POINTS},
    )


def _own_start(subject: Subject) -> Initial:
    start = subject.initial()
    if start is None or not start.own:
        text = "needs the network this one was trained from; give init= or checkpoint 0 to Subject"
        raise UnsuitableError(Message("TL306.unsuitable", text))
    same = all(torch.equal(a, b) for a, b in zip(start.subject.net.parameters(), subject.net.parameters(), strict=True))
    if same:
        text = "the network is still at its initialisation; give a trained one"
        raise UnsuitableError(Message("TL306.unsuitable.same", text))
    return start


def _estimate(path: Path) -> Estimate:
    value = path.rise
    if not math.isfinite(value):
        trouble = Message("TL306.trouble", "the loss is not finite somewhere on the line; give a network that fits")
        return Estimate(value=math.inf, uncertainty=Enclosure(lower=0.0, upper=math.inf, why=trouble), trouble=trouble)
    why = Message("TL306.grid", "the largest rise at {points} points; in between it may be larger", points=POINTS)
    return Estimate(value=value, uncertainty=Enclosure(lower=value, upper=math.inf, why=why))


def _assumptions(used: int, rows: int, net: nn.Module) -> tuple[Assumption, ...]:
    whole = Assumption(
        statement=Message("TL306.assume.rows", "the loss is that over the whole training split"),
        status=Status.MET if used == rows else Status.UNCHECKED,
        evidence=Message("TL306.assume.rows.evidence", "{used} of {rows} rows were used", used=used, rows=rows),
    )
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in net.modules())
    statistics = Assumption(
        statement=Message("TL306.assume.statistics", "running statistics fit the networks in between"),
        status=Status.UNCHECKED if norms else Status.MET,
        evidence=Message("TL306.assume.statistics.interpolated", "they are interpolated like weights")
        if norms
        else Message("TL306.assume.statistics.none", "there are none"),
    )
    return whole, statistics


def _curve(path: Path) -> Curve:
    return Curve(
        label=Message("TL306.figure", "The training loss on the straight line from initialisation to the solution"),
        lines=(
            Line(x=path.at, y=path.losses, name=Message("TL306.figure.loss", "on the line")),
            Line(
                x=path.at[[0, -1]], y=path.losses[[0, -1]], name=Message("TL306.figure.chord", "between the ends"),
                role="theory",
            ),
        ),
        x_name=Message("TL306.figure.x", "share of the way"),
        y_name=Message("TL306.figure.y", "training loss"),
    )  # fmt: skip


def _table(path: Path) -> Table:
    rows: list[tuple[Message, float]] = [
        (Message("TL306.row.start", "loss at the start"), float(path.losses[0])),
        (Message("TL306.row.end", "loss at the end"), float(path.losses[-1])),
        (Message("TL306.row.rise", "largest rise on the way"), path.rise),
        (Message("TL306.row.barrier", "largest height above the chord"), path.barrier),
    ]
    return Table(
        label=Message("TL306.table", "The line in a few numbers"),
        columns=(Message("TL306.table.quantity", "quantity"), Message("TL306.table.value", "value")),
        rows=tuple(rows),
    )
