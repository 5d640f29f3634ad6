"""Has training come to rest at a critical point, and at which kind? Judge and probe."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from theorylens.core import Need, Subject, Work, controls, probe
from theorylens.results import (
    Assumption,
    Control,
    Estimate,
    Exact,
    Intervals,
    Kind,
    Message,
    Result,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._curvature import Ends
from ._outermost import ROWS, TOLERANCE, network_ends, products
from ._stationarity import AT_REST, CriticalPoint, Place, describe, gradient_norm, known_symmetries

REFERENCES = (
    "Nesterov, Polyak (2006). Cubic regularization of Newton method and its global performance. "
    "Math. Program. 108:177-205.",
    "Jin, Ge, Netrapalli, Kakade, Jordan (2017). How to escape saddle points efficiently. ICML.",
    "Frye, Simon, Wadia, Ligeralde, DeWeese, Bouchard (2021). Critical point-finding methods reveal gradient-flat "
    "regions of deep network losses. Neural Comput. 33:1469-1497.",
)


def judge(point: CriticalPoint) -> tuple[Verdict, Message]:
    """The verdict in words: where the two derivatives put the point."""
    trouble = point.ends.bottom.trouble or point.ends.top.trouble
    if point.place is not Place.SLOPE and trouble is not None:
        text = "at rest, but of which kind is open: {why}"
        return Verdict.INCONCLUSIVE, Message("TL303.unconverged", text, why=trouble)
    low, top = float(point.ends.bottom.values[0]), float(point.ends.top.values[0])
    match point.place:
        case Place.SLOPE:
            text = (
                "not at a critical point: moving 1 % of the weights' norm against the gradient lowers the loss by "
                "{drop:.2g} % to first order"
            )
            return Verdict.DESCRIPTIVE, Message("TL303.slope", text, drop=point.relative)
        case Place.SADDLE:
            text = "at a strict saddle: the loss bends downwards with {low:.3g}, upwards with up to {top:.3g}"
            return Verdict.DESCRIPTIVE, Message("TL303.saddle", text, low=low, top=top)
        case Place.MAXIMUM:
            text = "at a local maximum: every direction bends downwards, the least with {top:.3g}"
            return Verdict.DESCRIPTIVE, Message("TL303.maximum", text, top=top)
        case Place.MINIMUM:
            text = "at an approximate minimum: every direction found bends upwards, the least with {low:.3g}"
            return Verdict.DESCRIPTIVE, Message("TL303.minimum", text, low=low)
    text = (
        "at a critical point with flat directions (smallest eigenvalue {low:.2g}, largest {top:.3g}); "
        "two derivatives cannot tell a minimum from a degenerate saddle"
    )
    return Verdict.INCONCLUSIVE, Message("TL303.degenerate", text, low=low, top=top)


def read(point: CriticalPoint) -> Message:
    """The reading: gradient against its scales, then what second-order stationarity would take."""
    return Message("TL303.reading", "{gradient} {second}", gradient=_gradient(point), second=_second(point))


def _gradient(point: CriticalPoint) -> Message:
    rest = point.place is not Place.SLOPE
    answer = Message("TL303.yes", "Yes, to first order") if rest else Message("TL303.no", "No, not even to first order")
    if rest and point.relative > AT_REST:
        text = (
            "{answer}: the gradient has norm {norm:.3g}; the loss is too small to be its scale, but in every direction "
            "whose curvature counts a zero of it lies within {shift:.2g} of the weights' norm."
        )
        return Message("TL303.gradient_fitted", text, answer=answer, norm=point.gradient_norm, shift=point.shift)
    start = point.initial_gradient_norm
    if start is None or start == 0:
        text = "{answer}: the gradient has norm {norm:.3g}, {relative:.2g} in units of loss over weights."
        return Message("TL303.gradient", text, answer=answer, norm=point.gradient_norm, relative=point.relative)
    text = (
        "{answer}: the gradient has norm {norm:.3g}, {share:.2g} of that before training, and {relative:.2g} in units "
        "of loss over weights."
    )
    return Message(
        "TL303.gradient_from_start", text,
        answer=answer, norm=point.gradient_norm, share=point.gradient_norm / start, relative=point.relative,
    )  # fmt: skip


def _second(point: CriticalPoint) -> Message:
    needed = point.lipschitz_needed
    if needed == 0:
        text = (
            "No certain downward curvature was found, so it is a second-order stationary point for every tolerance "
            "from {norm:.3g} up, as far as these rows show."
        )
        return Message("TL303.second", text, norm=point.gradient_norm)
    if math.isinf(needed):
        return Message("TL303.second_never", "With a zero gradient and downward curvature only perturbation leaves it.")
    text = (
        "At the tolerance {norm:.3g} its downward curvature is allowed only if the Lipschitz constant of the Hessian, "
        "which nobody knows, is at least {needed:.3g}."
    )
    return Message("TL303.second_if", text, norm=point.gradient_norm, needed=needed)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    n = len(subject.split("train"))
    rows, runs = min(ROWS, n), 3 if subject.shuffled is not None else 2
    hvps = products(subject) * rows
    return Work(forwards=n * runs, gradients=n * runs + 2 * rows, hvps=hvps)


@probe(code="TL303", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="landscape.critical_point")
def probe_critical_point(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """Has training come to rest at a critical point, and is it a minimum or a saddle?

    Gradient of the loss over the whole training split, and both ends of the Hessian spectrum on ``rows`` of it.
    """
    del rng  # the start of Lanczos is keyed by its name and shared with the eigenvalues
    ends = network_ends(subject, rows)
    beside = controls(subject, _norm)
    start = next((c.estimate.value for c in beside if c.role == "init"), None)
    point = describe(subject.objective("train"), ends, start)
    point = replace(point, symmetries=known_symmetries(subject.net, subject.split("train"), subject.judged))
    verdict, reason = judge(point)
    return Result(
        estimate=Estimate(value=point.gradient_norm, uncertainty=Exact()),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(point),
        assumptions=_assumptions(min(rows, len(subject.split("train"))), len(subject.split("train"))),
        controls=beside,
        references=REFERENCES,
        payload=(_intervals(ends), _table(point, beside)),
        settings={"rows": min(rows, len(subject.split("train"))), "tolerance": TOLERANCE},
    )


def _norm(subject: Subject) -> Estimate:
    return Estimate(value=gradient_norm(subject.objective("train")), uncertainty=Exact())


def _assumptions(used: int, rows: int) -> tuple[Assumption, ...]:
    return (
        Assumption(
            statement=Message("TL303.assume.rows", "the eigenvalues are those of the loss over the training split"),
            status=Status.MET if used == rows else Status.UNCHECKED,
            evidence=Message("TL303.assume.rows.evidence", "{used} of {rows} rows were used", used=used, rows=rows),
        ),
        Assumption(
            statement=Message("TL303.assume.smooth", "the loss is twice differentiable at the parameters"),
        ),
    )


def _intervals(ends: Ends) -> Intervals:
    """Eigenvalues in units of the largest, so that a small negative one can be seen beside it."""
    scale = max(abs(float(ends.top.values[0])), abs(float(ends.bottom.values[0]))) or 1.0
    values = np.concatenate([ends.top.values[:5], ends.bottom.values]) / scale
    errors = np.concatenate([ends.top.residuals[:5], ends.bottom.residuals]) / scale
    top = [f"λ{i + 1}" for i in range(len(ends.top.values[:5]))]
    return Intervals(
        label=Message("TL303.figure", "Largest and smallest eigenvalues, each with its residual"),
        names=(*top, "λmin"),
        values=values, lower=values - errors, upper=values + errors,
        x_name=Message("TL303.figure.x", "share of the largest in size ({scale:.3g})", scale=scale),
        walls=(Wall(at=0.0, name=Message("TL303.wall", "flat")),),
    )  # fmt: skip


def _table(point: CriticalPoint, beside: tuple[Control, ...]) -> Table:
    low, top = point.ends.bottom, point.ends.top
    rows: list[tuple[Message, float]] = [
        (Message("TL303.row.gradient", "norm of the gradient"), point.gradient_norm),
        *((Message("TL303.row.control", "the same, {name}", name=c.name), c.estimate.value) for c in beside),
        (Message("TL303.row.relative", "gradient × weights / loss"), point.relative),
        (Message("TL303.row.loss", "training loss"), point.loss),
        (Message("TL303.row.weights", "norm of the weights"), point.parameter_norm),
        (Message("TL303.row.low", "smallest eigenvalue"), float(low.values[0])),
        (Message("TL303.row.residual", "its residual"), float(low.residuals[0])),
        (Message("TL303.row.top", "largest eigenvalue"), float(top.values[0])),
        (Message("TL303.row.needed", "Lipschitz constant needed, λmin² / gradient"), point.lipschitz_needed),
    ]
    if point.symmetries is not None:
        rows.append((Message("TL303.row.symmetries", "directions that change no output"), float(point.symmetries)))
    return Table(
        label=Message("TL303.table", "Two derivatives of the training loss at the solution"),
        columns=(Message("TL303.table.quantity", "quantity"), Message("TL303.table.value", "value")),
        rows=tuple(rows),
    )
