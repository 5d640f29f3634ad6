"""Similarity of every pair of layers, and of each layer with itself before training."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Control,
    Curve,
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
)

from ._by_depth import depth_line, narrow_layers, place_of, seen_layers, without_value
from ._depth import INPUTS, Depth, activations
from ._effective_rank import covariance_eigenvalues, participation_ratio
from ._similarity import cka, cka_matrix

ROWS = 500
LAYERS = 8
FEWEST = 10

NO_LAYER = Message("TL204.no_layer", "no layer gives one row of real numbers per example; a similarity needs them")
NO_START = Message(
    "TL204.no_start", "the network before training is not known and cannot be made; give init= to Subject"
)


def judge(found: Estimate, layer: str, own: bool, shuffled: Estimate | None) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the similarity of one layer with itself before training."""
    value = found.value
    if not math.isfinite(value):
        reason = Message("TL204.none", "layer {layer} is the same for all rows and has no similarity", layer=layer)
        return Verdict.INCONCLUSIVE, reason, reason
    text = "layer {layer} after training has similarity {value:.2f} to itself before (1 is the same, 0 unrelated)"
    reason = Message("TL204.found", text, layer=layer, value=value)
    if shuffled is None or not math.isfinite(shuffled.value):
        beside = Message("TL204.alone", "How much of this any training would do is not known.")
    elif found.lower <= shuffled.upper and shuffled.lower <= found.upper:
        text = "Training on shuffled labels leaves {shuffled:.2f}, no different within the error."
        beside = Message("TL204.same", text, shuffled=shuffled.value)
    else:
        text = "Training on shuffled labels leaves {shuffled:.2f}."
        beside = Message("TL204.differs", text, shuffled=shuffled.value)
    if own:
        text = "By {value:.2f}, where 1 is the same and 0 unrelated, layer {layer} resembles its start. {beside}"
    else:
        text = (
            "By {value:.2f}, where 1 is the same and 0 unrelated, layer {layer} resembles a fresh initialisation that"
            " need not be its own. {beside}"
        )
    return Verdict.DESCRIPTIVE, reason, Message("TL204.reading", text, value=value, layer=layer, beside=beside)


def _role(subject: Subject) -> str:
    return "test" if subject.test is not None else subject.roles[0]


def _work(subject: Subject, rung: int | None) -> Work:
    if subject.model is None or not subject.roles:
        return Work()
    role = _role(subject)
    layers, n = narrow_layers(subject, role, LAYERS), min(ROWS, len(subject.split(role)))
    networks = 2 + (subject.shuffled is not None)
    flops = 2.0 * n * n * sum(layers.units) + 60.0 * n * n * len(layers.names)
    return Work(forwards=float(n * len(layers.names)), flops=flops, seconds=0.02) * networks


@probe(code="TL204", needs={Need.MODEL}, cost=_work)
def probe_cka(subject: Subject, *, layers: int = LAYERS, rows: int = ROWS, rng: torch.Generator) -> Result:
    """How similar are the layers to each other, and to themselves before training?"""
    del rng  # the rows are keyed by the content of the split, the halves by their number
    role = _role(subject)
    seen = seen_layers(subject, role, layers, NO_LAYER)
    if (start := subject.initial()) is None:
        raise UnsuitableError(NO_START)
    if seen.last_hidden in ("", INPUTS):
        text = "the network has no hidden layer, and its inputs are the same before and after; it takes one"
        raise UnsuitableError(Message("TL204.no_hidden", text))
    n = min(rows, len(subject.split(role)))
    if n < FEWEST:
        text = "{n} rows are too few to compare layers; give at least {least}"
        raise UnsuitableError(Message("TL204.few", text, n=n, least=FEWEST))
    place = place_of(seen)
    own = _features(subject, seen, role, rows)
    with start.subject.studied():
        before = _features(start.subject, seen, role, rows)
    found = [_similar(x, y) for x, y in zip(own, before, strict=True)]
    lines = [depth_line(found, seen, Message("TL204.network", "trained, with its start"), "network")]
    beside: list[Control] = []
    if subject.shuffled is not None:
        with subject.shuffled.studied():
            other = _features(subject.shuffled, seen, role, rows)
        noise = [_similar(x, y) for x, y in zip(other, before, strict=True)]
        name = Message("TL204.shuffled", "trained on shuffled labels, with the same start")
        beside.append(Control(role="shuffled", name=name, estimate=noise[place]))
        lines.append(depth_line(noise, seen, name, "shuffled"))
    shuffled = beside[0].estimate if beside else None
    verdict, reason, reading = judge(found[place], seen.names[place], start.own, shuffled)
    return Result(
        estimate=found[place],
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_its_own(start.own),),
        controls=tuple(beside),
        references=(
            "Kornblith, Norouzi, Lee, Hinton (2019). Similarity of neural network representations revisited. ICML.",
            "Song, Smola, Gretton, Bedo, Borgwardt (2012). Feature selection via dependence maximization."
            " JMLR 13:1393.",
        ),
        payload=(
            _curve(lines),
            _drawn(own, seen, Message("TL204.matrix", "Similarity of the layers of the trained network")),
            _drawn(before, seen, Message("TL204.matrix_init", "Similarity of the layers before training")),
            _ranks(own, before, seen, start.name),
            _table(seen, found, own, before),
        ),
        settings={
            "split": role, "rows": n, "layer": seen.names[place], "layers": ", ".join(seen.names), "debiased": True,
        },
    )  # fmt: skip


def _features(subject: Subject, seen: Depth, role: str, limit: int) -> list[Tensor]:
    return [activations(subject, name, role, limit).double() for name in seen.names]


def _similar(x: Tensor, y: Tensor) -> Estimate:
    if not bool(torch.isfinite(x).all() & torch.isfinite(y).all()):
        return without_value(Message("TL204.not_finite", "some features are not finite"))
    try:
        return cka(x, y)
    except ValueError:  # the only refusal that is left: features that are the same on all rows
        return without_value(Message("TL204.constant", "the layer is the same on all rows"))


def _its_own(own: bool) -> Assumption:
    statement = Message("TL204.own_start", "the network it is compared with is the one training started from")
    if own:
        return Assumption(statement=statement, status=Status.UNCHECKED)
    evidence = Message("TL204.fresh", "it was initialised afresh; give init= to compare with the start")
    return Assumption(statement=statement, status=Status.BROKEN, evidence=evidence)


def _curve(lines: list[Line]) -> Curve:
    return Curve(
        label=Message("TL204.curve", "Similarity of each layer with itself before training, with 95 % intervals"),
        lines=tuple(lines),
        x_name=Message("TL204.depth", "layer (0 = inputs)"),
        y_name=Message("TL204.similarity", "similarity (debiased CKA)"),
    )


def _drawn(features: list[Tensor], seen: Depth, label: Message) -> Matrix:
    finite = [x if bool(torch.isfinite(x).all()) else torch.zeros_like(x) for x in features]
    values = cka_matrix(finite).numpy()
    names = tuple("0" if name == INPUTS else name for name in seen.names)
    side = Message("TL204.side", "layer (0 = inputs)")
    return Matrix(
        label=label, values=np.nan_to_num(values, nan=0.0), top=1.0, rows=names, columns=names, x_name=side, y_name=side
    )


def _participation(x: Tensor) -> float:
    values = covariance_eigenvalues(x) if bool(torch.isfinite(x).all()) else torch.zeros(1)
    return participation_ratio(values) if float(values.sum()) > 0 else math.nan


def _ranks(own: list[Tensor], before: list[Tensor], seen: Depth, name: Message) -> Curve:
    def line(features: list[Tensor], called: Message, role: Role) -> Line:
        return Line(x=seen.at, y=np.asarray([_participation(x) for x in features]), name=called, role=role)

    return Curve(
        label=Message("TL204.ranks", "Directions that share the variance of each layer (participation ratio)"),
        lines=(line(own, Message("TL204.trained", "trained"), "network"), line(before, name, "init")),
        x_name=Message("TL204.depth", "layer (0 = inputs)"),
        y_name=Message("TL204.participation", "participation ratio"),
    )


def _table(seen: Depth, found: list[Estimate], own: list[Tensor], before: list[Tensor]) -> Table:
    return Table(
        label=Message("TL204.table", "Layers beside themselves before training"),
        columns=(
            Message("TL204.column_layer", "layer"),
            Message("TL204.column_units", "units"),
            Message("TL204.column_similarity", "similarity with its start"),
            Message("TL204.column_lower", "lower"),
            Message("TL204.column_upper", "upper"),
            Message("TL204.column_rank", "participation ratio"),
            Message("TL204.column_rank_init", "participation ratio, untrained"),
        ),
        rows=tuple(
            (name, seen.units[k], e.value, e.lower, e.upper, _participation(own[k]), _participation(before[k]))
            for k, (name, e) in enumerate(zip(seen.names, found, strict=True))
        ),
    )
