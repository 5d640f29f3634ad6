"""How much a trained network minds random changes of its weights, beside its controls: judge and probe."""

from __future__ import annotations

import numpy as np
import torch

from theorylens.core import Need, Subject, Work, controls, probe
from theorylens.results import (
    Assumption,
    Control,
    Curve,
    Estimate,
    Intervals,
    Kind,
    Line,
    Message,
    Result,
    Status,
    Table,
    Unknown,
    Verdict,
    Wall,
)

from ._directions import random_direction
from ._expected_sharpness import mean_rise
from ._slices import Slice, slice_of

ROWS = 512
RADIUS = 0.1  # of the root mean square of each tensor: a rise well above the rounding of single precision
POINTS = 11  # of the slice
REFERENCES = (
    "Neyshabur, Bhojanapalli, McAllester, Srebro (2017). Exploring generalization in deep learning. NeurIPS.",
    "Li, Xu, Taylor, Studer, Goldstein (2018). Visualizing the loss landscape of neural nets. NeurIPS.",
    "Dinh, Pascanu, Bengio, Bengio (2017). Sharp minima can generalize for deep nets. ICML.",
    "Andriushchenko, Croce, Mueller, Hein, Flammarion (2023). A modern look at the relationship between sharpness and "
    "generalization. ICML.",
)


def judge(found: Estimate, others: dict[str, Estimate], radius: float) -> tuple[Verdict, Message]:
    """``found``: mean rise of the loss; ``others``: that of each control, by role."""
    for each in (found, *others.values()):
        if isinstance(each.uncertainty, Unknown):
            text = "mean rise not known: {why}"
            return Verdict.INCONCLUSIVE, Message("TL305.unknown", text, why=each.uncertainty.why)
    start, noise = others.get("init"), others.get("shuffled")
    if start is not None and _alike(found, start):
        text = "noise of {radius:.0%} of the weights raises the loss by {rise:.3g}, as before training ({other:.3g})"
        said = Message("TL305.as_init", text, radius=radius, rise=found.value, other=start.value)
        return Verdict.INCONCLUSIVE, said
    if noise is not None and _alike(found, noise):
        text = (
            "noise of {radius:.0%} of the weights raises the loss by {rise:.3g}, as after training on shuffled labels "
            "({other:.3g})"
        )
        said = Message("TL305.as_shuffled", text, radius=radius, rise=found.value, other=noise.value)
        return Verdict.INCONCLUSIVE, said
    if start is None:
        text = "noise of {radius:.0%} of the weights raises the loss by {rise:.3g}"
        return Verdict.DESCRIPTIVE, Message("TL305.alone", text, radius=radius, rise=found.value)
    if found.lower > start.upper:
        text = (
            "noise of {radius:.0%} of the weights raises the loss by {rise:.3g}, "
            "more than before training ({other:.3g})"
        )
        said = Message("TL305.sharper", text, radius=radius, rise=found.value, other=start.value)
        return Verdict.INCONCLUSIVE, said
    text = "noise of {radius:.0%} of the weights raises the loss by {rise:.3g}, {other:.3g} before training"
    said = Message("TL305.compared", text, radius=radius, rise=found.value, other=start.value)
    return Verdict.DESCRIPTIVE, said


def _alike(a: Estimate, b: Estimate) -> bool:
    near = abs(a.value - b.value) <= 1e-5 * max(abs(a.value), abs(b.value))
    return near or b.lower <= a.value <= b.upper or a.lower <= b.value <= a.upper


def read(found: Estimate, loss: float, others: dict[str, Estimate], radius: float) -> Message:
    """The reading: the rise in units of the loss, what the noise is measured in, what controls leave of it."""
    text = (
        "By {rise:.3g} on average, from {loss:.3g}, when every weight gets noise of {radius:.0%} of the typical size "
        "in its tensor. Rescaling two layers against each other does not change this number. {beside}"
    )
    return Message(
        "TL305.reading", text, rise=found.value, loss=loss, radius=radius, beside=_beside(found, others)
    )  # fmt: skip


def _beside(found: Estimate, others: dict[str, Estimate]) -> Message:
    start, noise = others.get("init"), others.get("shuffled")
    if start is None:
        return Message("TL305.no_control", "There is no network before training to compare it with.")
    if any(isinstance(each.uncertainty, Unknown) for each in (found, *others.values())):
        return Message("TL305.not_compared", "A network that overflows cannot be compared.")
    if _alike(found, start):
        return Message("TL305.equal", "Before training it is the same, so it says nothing about what was learnt.")
    if noise is not None and _alike(found, noise):
        text = "After training on shuffled labels it is the same, so it says nothing about the labels."
        return Message("TL305.equal_shuffled", text)
    if found.value > start.value:
        return Message("TL305.sharper", "Before training it is less; sharpness alone does not explain generalisation.")
    return Message("TL305.flatter", "Before training it is more; flatness alone does not explain generalisation.")


def _cost(subject: Subject, rung: int | None) -> Work:
    rows = min(ROWS, len(subject.split("train")))
    runs = 3 if subject.shuffled is not None else 2
    return Work(forwards=rows * (runs * ((rung or 0) + 1) + 2 * POINTS))


@probe(
    code="TL305", needs={Need.MODEL, Need.TRAIN}, cost=_cost, rungs=(16, 32, 64, 128, 256),
    name="landscape.expected_sharpness",
)  # fmt: skip
def probe_expected_sharpness(
    subject: Subject, *, rng: torch.Generator, draws: int, radius: float = RADIUS, rows: int = ROWS
) -> Result:
    """How much does the training loss rise when the weights are moved at random?

    Mean rise under normal noise in proportion to each tensor, with the same draws for the network and its controls.
    """
    state = rng.get_state()

    def measure(other: Subject) -> Estimate:
        goal = other.objective("train", limit=rows)
        drawn = torch.Generator().set_state(state)
        return mean_rise(goal, radius=radius, scale="tensor", draws=draws, generator=drawn)

    found = measure(subject)
    slices: list[tuple[Control | None, Slice]] = [(None, _slice(subject, rows))]
    beside = controls(subject, measure)
    start = subject.initial()
    if start is not None and (control := next((c for c in beside if c.role == "init"), None)) is not None:
        with start.subject.studied():
            slices.append((control, _slice(start.subject, rows)))
    others: dict[str, Estimate] = {c.role: c.estimate for c in beside}
    loss = float(slices[0][1].losses[POINTS // 2])
    used = min(rows, len(subject.split("train")))
    verdict, reason = judge(found, others, radius)
    return Result(
        estimate=found,
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=read(found, loss, others, radius),
        assumptions=_assumptions(used, len(subject.split("train"))),
        controls=beside,
        references=REFERENCES,
        payload=(_intervals(found, beside), _curve(slices), _table(found, beside, radius)),
        settings={"rows": used, "draws": draws, "radius": radius},
    )


def _slice(subject: Subject, rows: int) -> Slice:
    """The loss along a filter-normalised direction; the same numbers are drawn for every network of one shape."""
    goal = subject.objective("train", limit=rows)
    try:
        return slice_of(goal, random_direction(subject.net), reach=1.0, points=POINTS)
    except ValueError:  # no weight has two axes: nothing is left of a filter-normalised direction
        return slice_of(goal, random_direction(subject.net, normalise="tensor"), reach=1.0, points=POINTS)


def _assumptions(used: int, rows: int) -> tuple[Assumption, ...]:
    whole = Assumption(
        statement=Message("TL305.assume.rows", "the loss is that over the whole training split"),
        status=Status.MET if used == rows else Status.UNCHECKED,
        evidence=Message(
            "TL305.assume.rows.evidence",
            "{used} of {rows} rows were used; the interval covers the draws, not this choice", used=used, rows=rows,
        ),
    )  # fmt: skip
    normal = Assumption(
        statement=Message("TL305.assume.normal", "the rises of the draws are close to normal"),
    )
    return whole, normal


def _intervals(found: Estimate, beside: tuple[Control, ...]) -> Intervals:
    estimates = [found, *(c.estimate for c in beside)]
    bounded = [not isinstance(e.uncertainty, Unknown) for e in estimates]
    return Intervals(
        label=Message("TL305.figure", "Mean rise of the training loss under noise in the weights"),
        names=(Message("TL305.name", "trained"), *(c.name for c in beside)),
        values=np.array([e.value for e in estimates]),
        lower=np.array([e.lower if k else e.value for e, k in zip(estimates, bounded, strict=True)]),
        upper=np.array([e.upper if k else e.value for e, k in zip(estimates, bounded, strict=True)]),
        x_name=Message("TL305.figure.x", "rise of the loss"),
        roles=("network", *(c.role for c in beside)),
        walls=(Wall(at=0.0, name=Message("TL305.wall", "no rise")),),
    )


def _curve(slices: list[tuple[Control | None, Slice]]) -> Curve:
    lines = []
    for control, found in slices:
        known = np.isfinite(found.losses)
        name = Message("TL305.name", "trained") if control is None else control.name
        role = "network" if control is None else control.role
        lines.append(Line(x=found.at[known], y=found.losses[known], name=name, role=role))
    return Curve(
        label=Message("TL305.slice", "The training loss along a random direction, normalised by filters"),
        lines=tuple(lines),
        x_name=Message("TL305.slice.x", "distance in norms of the weights"),
        y_name=Message("TL305.slice.y", "training loss"),
    )


def _table(found: Estimate, beside: tuple[Control, ...], radius: float) -> Table:
    named = [(Message("TL305.name", "trained"), found), *((c.name, c.estimate) for c in beside)]
    return Table(
        label=Message("TL305.table", "Mean rise under noise of {radius:.0%} of the weights", radius=radius),
        columns=(
            Message("TL305.table.who", "network"), Message("TL305.table.rise", "rise"),
            Message("TL305.table.low", "from"), Message("TL305.table.high", "to"),
        ),
        rows=tuple((name, e.value, e.lower, e.upper) for name, e in named),
    )  # fmt: skip
