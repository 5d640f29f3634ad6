"""The intrinsic dimension of every layer, from the inputs to the outputs, beside the untrained network."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.numerics.neighbours import nearest, unique_rows
from theorylens.results import (
    Assumption,
    Control,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Result,
    Status,
    Table,
    Unknown,
    Verdict,
)

from ._depth import Depth, activations, depth
from ._intrinsic_dimension import FEWEST, from_neighbours

SPLIT = 2  # enough examples to cut every direction in two at least once
CEILING = 10  # above, nearest-neighbour estimators read low by a fifth on average (24 manifolds of known dimension)
ROWS = 1000
LAYERS = 8

Measured = tuple[Estimate, int]
"""The dimension of a layer and how many rows were left out as exact copies."""


def judge(
    estimate: Estimate, examples: int, units: int, layer: str, control: Estimate | None
) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the dimension of one layer from ``examples`` distinct rows."""
    value = estimate.value
    if not math.isfinite(value):
        text = "layer {layer} takes too few different values to have a dimension"
        reason = Message("TL201.none", text, layer=layer)
        return Verdict.INCONCLUSIVE, reason, reason
    if examples < SPLIT**value:
        text = "{n} different examples cannot resolve {value:.1f} dimensions"
        reason = Message("TL201.unresolved", text, n=examples, value=value)
        text = (
            "At least {value:.1f} of the {units} directions of layer {layer}, but {n} different examples cannot resolve"
            " that many: two per direction would be 2^{value:.1f}, and with fewer the value reads low."
        )
        reading = Message("TL201.reading_unresolved", text, n=examples, value=value, units=units, layer=layer)
        return Verdict.INCONCLUSIVE, reason, reading
    text = "layer {layer} varies along about {value:.1f} of its {units} directions"
    reason = Message("TL201.found", text, layer=layer, value=value, units=units)
    beside = _beside(estimate, control)
    if value > CEILING:
        text = (
            "{value:.1f} or more of the {units} directions of layer {layer} carry its variation: above {ceiling} the"
            " estimate reads low. {beside}"
        )
        reading = Message(
            "TL201.reading_low", text, value=value, units=units, layer=layer, ceiling=CEILING, beside=beside
        )
    else:
        text = "{value:.1f} of the {units} directions of layer {layer} carry its variation. {beside}"
        reading = Message("TL201.reading", text, value=value, units=units, layer=layer, beside=beside)
    return Verdict.DESCRIPTIVE, reason, reading


def _beside(estimate: Estimate, control: Estimate | None) -> Message:
    if control is None or not math.isfinite(control.value):
        return Message("TL201.alone", "There is no untrained network to compare with.")
    if estimate.lower <= control.upper and control.lower <= estimate.upper:
        text = "The untrained network has {control:.1f}, no different within the error: training explains none of it."
        return Message("TL201.same", text, control=control.value)
    text = "The untrained network has {control:.1f}, so training changed it."
    return Message("TL201.changed", text, control=control.value)


def _role(subject: Subject) -> str:
    return "test" if subject.test is not None else subject.roles[0]


def _networks(subject: Subject) -> int:
    return 2 + (subject.shuffled is not None)


def _work(subject: Subject, rung: int | None) -> Work:
    if subject.model is None or not subject.roles:
        return Work()
    role = _role(subject)
    layers, n = depth(subject, role, LAYERS), min(ROWS, len(subject.split(role)))
    flops = 3.0 * n * n * sum(layers.units)
    return Work(forwards=float(n * len(layers.names)), flops=flops) * _networks(subject)


@probe(code="TL201", needs={Need.MODEL}, cost=_work)
def probe_two_nn(subject: Subject, *, layers: int = LAYERS, rows: int = ROWS, rng: torch.Generator) -> Result:
    """Along how many directions do the features of each layer vary?"""
    del rng  # the rows are keyed by the content of the split
    role = _role(subject)
    seen = depth(subject, role, layers)
    if not seen.names:
        raise UnsuitableError(
            Message("TL201.unsuitable", "no layer gives one row of real numbers per example; a dimension needs them")
        )
    place = seen.names.index(seen.last_hidden) if seen.last_hidden in seen.names else len(seen.names) - 1
    layer = seen.names[place]
    found = _profile(subject, seen, role, rows)
    beside = controls(subject, lambda other: _profile(other, seen, role, rows)[place][0])
    estimate, copies = found[place]
    n = min(rows, len(subject.split(role)))
    start = next((c.estimate for c in beside if c.role == "init"), None)
    verdict, reason, reading = judge(estimate, n - copies, seen.units[place], layer, start)
    return Result(
        estimate=estimate,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_no_copies(copies, n), _constant_density()),
        controls=beside,
        references=(
            "Facco, d'Errico, Rodriguez, Laio (2017). Estimating the intrinsic dimension of datasets by a minimal"
            " neighborhood information. Sci. Rep. 7:12140.",
            "Ansuini, Laio, Macke, Zoccolan (2019). Intrinsic dimension of data representations in deep neural"
            " networks. NeurIPS.",
        ),
        payload=(_curve(subject, seen, role, rows, beside), _table(seen, found)),
        settings={"split": role, "rows": n, "layer": layer, "layers": ", ".join(seen.names), "estimator": "unbiased"},
    )


def _profile(subject: Subject, seen: Depth, role: str, limit: int) -> tuple[Measured, ...]:
    key = ("two_nn", seen.names, role, limit)
    return subject.once(key, lambda: tuple(_dimension(activations(subject, name, role, limit)) for name in seen.names))


def _dimension(points: Tensor) -> Measured:
    """`two_nn` of the different rows of ``points``; without one there is trouble, never an exception."""
    if bad := int((~torch.isfinite(points).all(1)).sum()):
        return _nothing(Message("TL201.not_finite", "{bad} rows have values that are not finite", bad=bad)), 0
    different = points[unique_rows(points).first]
    copies = len(points) - len(different)
    if len(different) < FEWEST:
        text = "only {n} rows are different; give more examples"
        return _nothing(Message("TL201.too_few", text, n=len(different))), copies
    distance, index = nearest(different.double(), 2)
    if bool((distance[:, 0] == distance[:, 1]).all()):
        return _nothing(Message("TL201.grid", "the rows lie on a regular grid; distance ratios say nothing")), copies
    return from_neighbours(different, distance, index, "unbiased"), copies


def _nothing(trouble: Message) -> Estimate:
    why = Message("TL201.no_value", "there is no value")
    return Estimate(value=math.nan, uncertainty=Unknown(why=why), trouble=trouble)


def _no_copies(copies: int, n: int) -> Assumption:
    statement = Message("TL201.no_copies", "no two examples have the same features")
    if not copies:
        return Assumption(statement=statement, status=Status.MET)
    text = "{copies} of {n} rows were exact copies and were left out"
    return Assumption(
        statement=statement, status=Status.MET, evidence=Message("TL201.copies", text, copies=copies, n=n)
    )


def _constant_density() -> Assumption:
    text = "the density is near constant out to the second neighbour"
    return Assumption(statement=Message("TL201.density", text), status=Status.UNCHECKED)


def _curve(subject: Subject, seen: Depth, role: str, limit: int, beside: tuple[Control, ...]) -> Curve:
    lines = [_line(_profile(subject, seen, role, limit), seen, Message("TL201.network", "trained"), "network")]
    others = {"init": subject.initial(), "shuffled": subject.shuffled}
    for control in beside:
        other = others[control.role]
        owner = other if isinstance(other, Subject) else other.subject  # type: ignore[union-attr]
        lines.append(_line(_profile(owner, seen, role, limit), seen, control.name, control.role))
    return Curve(
        label=Message("TL201.curve", "Intrinsic dimension of each layer from inputs to outputs, with 95 % intervals"),
        lines=tuple(lines),
        x_name=Message("TL201.depth", "layer (0 = inputs)"),
        y_name=Message("TL201.dimension", "intrinsic dimension"),
    )


def _line(found: tuple[Measured, ...], seen: Depth, name: Message, role: str) -> Line:
    finite = [e if math.isfinite(e.value) else None for e, _ in found]
    return Line(
        x=seen.at,
        y=np.asarray([e.value if e else math.nan for e in finite]),
        lower=np.asarray([e.lower if e else math.nan for e in finite]),
        upper=np.asarray([e.upper if e else math.nan for e in finite]),
        name=name,
        role=role,  # type: ignore[arg-type]
    )


def _table(seen: Depth, found: tuple[Measured, ...]) -> Table:
    return Table(
        label=Message("TL201.table", "Intrinsic dimension by layer"),
        columns=(
            Message("TL201.column_layer", "layer"),
            Message("TL201.column_units", "units"),
            Message("TL201.column_dimension", "dimension"),
            Message("TL201.column_lower", "lower"),
            Message("TL201.column_upper", "upper"),
            Message("TL201.column_copies", "copies left out"),
        ),
        rows=tuple(
            (name, units, e.value, e.lower, e.upper, copies)
            for name, units, (e, copies) in zip(seen.names, seen.units, found, strict=True)
        ),
    )
