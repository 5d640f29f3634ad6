"""How much a trained network minds random changes of its weights, beside its controls: judge and probe."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from theorylens.core import Need, RefusedError, Subject, Work, controls, probe, studied
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
from ._rescaling import ROWS as LOOKED_AT
from ._rescaling import rescaled
from ._slices import Slice, slice_of

ROWS = 512
RADIUS = 0.1  # of the root mean square of each tensor: a rise well above the rounding of single precision
POINTS = 11  # of the slice
FACTOR = 4.0  # by which a layer is multiplied and the next divided
TRIED = 4  # draws, the same ones before and after: they must agree, so more would say no more
SAME = 0.01  # relative difference after a rescaling that single precision makes of the same draws
ROUNDING = 1e-5  # of the loss
REFERENCES = (
    "Neyshabur, Bhojanapalli, McAllester, Srebro (2017). Exploring generalization in deep learning. NeurIPS.",
    "Li, Xu, Taylor, Studer, Goldstein (2018). Visualizing the loss landscape of neural nets. NeurIPS.",
    "Dinh, Pascanu, Bengio, Bengio (2017). Sharp minima can generalize for deep nets. ICML.",
    "Andriushchenko, Croce, Mueller, Hein, Flammarion (2023). A modern look at the relationship between sharpness and "
    "generalization. ICML.",
)


@dataclass(frozen=True, kw_only=True)
class Rescaled:
    """The mean rise over the same few draws before and after ``pairs`` of layers were rescaled against each other."""

    before: float
    after: float
    pairs: int
    same: bool


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


def read(
    found: Estimate, loss: float, others: dict[str, Estimate], radius: float, moved: Rescaled | None = None
) -> Message:
    """The reading: the rise in units of the loss, what the noise is measured in, what controls leave of it."""
    text = (
        "By {rise:.3g} on average, from {loss:.3g}, when every weight gets noise of {radius:.0%} of the typical size "
        "in its tensor. {invariant} {beside}"
    )
    return Message(
        "TL305.reading", text, rise=found.value, loss=loss, radius=radius, invariant=_invariant(moved),
        beside=_beside(found, others),
    )  # fmt: skip


def _invariant(moved: Rescaled | None) -> Message:
    if moved is None:
        text = "No two layers of this network can be rescaled against each other, so that does not blur the number."
        return Message("TL305.not_rescaled", text)
    if moved.same:
        text = "Rescaling layers against each other, which changes no output, did not change this number when tried."
        return Message("TL305.invariant", text)
    text = "Rescaling layers against each other, which changes no output, moved it by a factor {ratio:.2g}."
    return Message("TL305.not_invariant", text, ratio=moved.after / moved.before if moved.before else float("inf"))


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
    layers = sum(isinstance(getattr(m, "weight", None), nn.Parameter) for m in subject.net.modules())
    looked = min(LOOKED_AT, len(subject.split("train")))
    taken = runs * ((rung or 0) + 1) + 2 * POINTS + 2 * (TRIED + 1)
    return Work(forwards=rows * taken + looked * (layers + 3))


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
    moved = _rescaled(subject, loss, radius, rows, state)
    used = min(rows, len(subject.split("train")))
    verdict, reason = judge(found, others, radius)
    return Result(
        estimate=found,
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=read(found, loss, others, radius, moved),
        assumptions=(*_assumptions(used, len(subject.split("train"))), _rescaling(moved)),
        controls=beside,
        references=REFERENCES,
        payload=(_intervals(found, beside), _curve(slices), _table(found, beside, radius)),
        settings={"rows": used, "draws": draws, "radius": radius},
    )


def _rescaled(subject: Subject, loss: float, radius: float, rows: int, state: torch.Tensor) -> Rescaled | None:
    """The number before and after a rescaling of layers; None where no two layers can be."""
    try:
        other = rescaled(subject.net, subject.split("train"), factor=FACTOR, task=subject.judged)
    except RefusedError:
        return None
    goal = subject.objective("train", limit=rows)

    def rise(model: nn.Module) -> float:
        drawn = torch.Generator().set_state(state)
        with studied(model):
            there = replace(goal, model=model)
            return mean_rise(there, radius=radius, scale="tensor", draws=TRIED, generator=drawn).value

    before, after = rise(subject.net), rise(other.model)
    near = max(SAME * max(abs(before), abs(after)), ROUNDING * abs(loss))
    # Both infinite is the same; one infinite is not.
    same = after == before or bool(np.isfinite([after, before]).all() and abs(after - before) <= near)
    return Rescaled(before=before, after=after, pairs=len(other.pairs), same=same)


def _rescaling(moved: Rescaled | None) -> Assumption:
    statement = Message(
        "TL305.assume.invariant", "rescaling layers against each other without changing an output changes no number"
    )
    if moved is None:
        why = Message("TL305.assume.invariant.untried", "no two consecutive layers can be rescaled that way")
        return Assumption(statement=statement, evidence=why)
    text = "{before:.3g} before and {after:.3g} after {pairs} pairs of layers were rescaled, over {draws} draws"
    return Assumption(
        statement=statement,
        status=Status.MET if moved.same else Status.BROKEN,
        evidence=Message(
            "TL305.assume.invariant.tried", text, before=moved.before, after=moved.after, pairs=moved.pairs,
            draws=TRIED,
        ),
    )  # fmt: skip


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
