"""Does the answer survive a shift of one pixel, and does the convolutional part move with its input?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.results import Assumption, Cell, Estimate, Kind, Matrix, Message, Result, Status, Table, Verdict

from ._equivariance import LayerShift, changed_decisions, decisions, disagreement, equivariance_error
from ._images import images_of, role_of, scores_of

ROWS = 500
FEATURE_ROWS = 32  # images whose feature maps are compared; a ratio of norms over them settles fast
REACH = 2
GRID = tuple((down, right) for down in range(-REACH, REACH + 1) for right in range(-REACH, REACH + 1))
ONE_PIXEL = ((-1, 0), (1, 0), (0, -1), (0, 1))
ROUNDING = 1e-4  # relative: below it features move with their input as far as single precision can say


def judge(
    estimate: Estimate, control: Estimate | None, last: LayerShift | None, decided: int
) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the share of decisions a shift changes; ``decided`` counts the classes given."""
    share = estimate.value
    if decided == 1:
        text = "the network gives all images one class, which no shift can change"
        reason = Message("TL501.one_class", text)
        return Verdict.INCONCLUSIVE, reason, reason
    reason = Message("TL501.found", "a shift by one pixel changes {share:.1%} of the decisions", share=share)
    if control is None:
        beside = Message("TL501.alone", "There is no untrained network to compare with.")
    elif estimate.lower <= control.upper and control.lower <= estimate.upper:
        text = (
            "The untrained network changes {control:.1%}, no different within the error: that says nothing of training."
        )
        beside = Message("TL501.same", text, control=control.value)
    else:
        beside = Message("TL501.changed", "The untrained network changes {control:.1%}.", control=control.value)
    text = (
        "{share:.1%} of the decisions change when the image moves by one pixel (95 % interval {lower:.1%} to"
        " {upper:.1%}). {beside} {layers}"
    )
    reading = Message(
        "TL501.reading", text, share=share, lower=estimate.lower, upper=estimate.upper, beside=beside,
        layers=_layers_said(last),
    )  # fmt: skip
    return Verdict.DESCRIPTIVE, reason, reading


def _layers_said(last: LayerShift | None) -> Message:
    if last is None:
        return Message("TL501.dense", "No convolution makes this architecture move with its input.")
    pixels = max(last.stride)
    if last.interior is None:
        text = (
            "Features of layer {layer} miss a shift by its stride ({pixels} px) by {whole:.1%} of their norm; every"
            " unit sees a border, so the part owed to borders cannot be told apart."
        )
        return Message("TL501.border_everywhere", text, layer=last.name, pixels=pixels, whole=last.whole)
    if last.interior < ROUNDING:
        text = (
            "Away from borders the features of layer {layer} move with the image exactly for shifts by its stride"
            " ({pixels} px); borders make an error of {whole:.1%} of their norm."
        )
        return Message("TL501.exact_inside", text, layer=last.name, pixels=pixels, whole=last.whole)
    text = (
        "Even away from borders the features of layer {layer} miss a shift by its stride ({pixels} px) by"
        " {interior:.1%} of their norm ({whole:.1%} with borders)."
    )
    return Message(
        "TL501.broken_inside", text, layer=last.name, pixels=pixels, whole=last.whole, interior=last.interior
    )


def _work(subject: Subject, rung: int | None) -> Work:
    if not subject.roles:
        return Work()
    n = min(ROWS, len(subject.split(role_of(subject))))
    return Work(forwards=(len(GRID) + 1.0) * n * (2 + (subject.shuffled is not None)) + 6.0 * FEATURE_ROWS)


@probe(code="TL501", needs={Need.MODEL}, cost=_work)
def probe_equivariance(subject: Subject, *, rows: int = ROWS, fill: str = "edge", rng: torch.Generator) -> Result:
    """How often does moving the image by one pixel change the answer?"""
    role = role_of(subject)
    if subject.judged.kind != "classification":
        text = "the network does not choose between classes, so no decision can change; give a classification task"
        raise UnsuitableError(Message("TL501.no_decision", text))
    chosen = subject.split(role).subset(rows)
    images = images_of(subject, role, chosen, "TL501")
    # One of the four directions per image: each image is then one draw, and the binomial interval is exact.
    direction = torch.randint(len(ONE_PIXEL), (len(images),), generator=rng)

    def changes(other: Subject) -> Tensor:
        key = ("shift changes", role, rows, fill)
        return other.once(key, lambda: changed_decisions(scores_of(other, role), images, GRID, fill).cpu())

    def headline(other: Subject) -> Estimate:
        by_shift = torch.stack([changes(other)[GRID.index(shift)] for shift in ONE_PIXEL])
        return disagreement(by_shift[direction, torch.arange(len(images))])

    estimate, beside = headline(subject), controls(subject, headline)
    layers = equivariance_error(subject.net, images[:FEATURE_ROWS], fill=fill, run=scores_of(subject, role))
    decided = len(decisions(scores_of(subject, role), images).unique())  # type: ignore[no-untyped-call]
    start = next((c.estimate for c in beside if c.role == "init"), None)
    verdict, reason, reading = judge(estimate, start, layers[-1] if layers else None, decided)
    return Result(
        estimate=estimate,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_independent(subject, role), _content_kept(fill)),
        controls=beside,
        references=(
            "Azulay, Weiss (2019). Why do deep convolutional networks generalize so poorly to small image"
            " transformations? JMLR 20:184.",
            "Zhang (2019). Making convolutional networks shift-invariant again. ICML.",
        ),
        payload=(_matrix(changes(subject)), *((_table(layers),) if layers else ())),
        settings={
            "split": role,
            "rows": len(images),
            "fill": fill,
            "shift": "one pixel, one of 4 directions per image",
        },
        examples=tuple(int(i) for i in chosen[changes(subject)[[GRID.index(s) for s in ONE_PIXEL]].all(0)][:20]),
    )


def _independent(subject: Subject, role: str) -> Assumption:
    split, statement = subject.split(role), Message("TL501.independent", "the images are independent draws")
    if split.units is None:
        return Assumption(statement=statement, status=Status.UNCHECKED)
    if split.distinct_units == len(split):
        return Assumption(statement=statement, status=Status.UNCHECKED)
    text = "{rows} rows come from {units} units"
    evidence = Message("TL501.units", text, rows=len(split), units=split.distinct_units)
    return Assumption(statement=statement, status=Status.BROKEN, evidence=evidence)


def _content_kept(fill: str) -> Assumption:
    text = "nothing that decides the class leaves the frame (the opened border is filled by: {fill})"
    return Assumption(statement=Message("TL501.content", text, fill=fill), status=Status.UNCHECKED)


def _matrix(changed: Tensor) -> Matrix:
    side = 2 * REACH + 1
    values = changed.double().mean(1).reshape(side, side).numpy()
    names = tuple(f"{k:+d}" if k else "0" for k in range(-REACH, REACH + 1))
    return Matrix(
        label=Message("TL501.matrix", "Share of decisions that change when the image moves, by shift"),
        values=np.asarray(values),
        top=max(float(values.max()), 0.01),
        rows=names,
        columns=names,
        x_name=Message("TL501.right", "pixels to the right"),
        y_name=Message("TL501.down", "pixels down"),
    )


def _table(layers: tuple[LayerShift, ...]) -> Table:
    none = Message("TL501.none_inside", "every unit sees a border")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (x.name, max(x.stride), none if x.interior is None else x.interior, x.whole, x.one_pixel) for x in layers
    )
    return Table(
        label=Message("TL501.table", "Error of moving with the input, as a share of the norm of the features"),
        columns=(
            Message("TL501.layer", "layer"),
            Message("TL501.stride", "stride, px"),
            Message("TL501.inside", "shift by the stride, inside"),
            Message("TL501.whole", "shift by the stride, with borders"),
            Message("TL501.pixel", "shift by one pixel, interpolated"),
        ),
        rows=rows,
    )
