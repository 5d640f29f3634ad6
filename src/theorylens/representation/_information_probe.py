"""How much is known of the class at every layer, beside random features and shuffled labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    Message,
    Result,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._by_depth import class_numbers, depth_line, enough_of_each, narrow_layers, place_of, seen_layers, without_value
from ._depth import Depth, activations
from ._label_information import DIRECTIONS, label_entropy, label_information

ROWS = 1000
LAYERS = 8
FEWEST = 6  # rows of a class, so that the scored half has neighbours

NO_LAYER = Message("TL206.no_layer", "no layer gives one row of real numbers per example; information needs them")
NO_CLASSES = Message("TL206.no_classes", "the targets are not one class per example; give classes to know of")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of known classes, which of them fit directions, and the labels, true or shuffled."""

    used: Tensor
    fitted: Tensor
    labels: Tensor
    shuffled: Tensor

    @property
    def entropy(self) -> float:
        return label_entropy(self.labels[~self.fitted])


def judge(known: Estimate, layer: str, entropy: float, init: Estimate | None) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the information about the class in the last hidden layer."""
    value = known.value
    if not math.isfinite(value):
        reason = Message("TL206.none", "layer {layer} does not vary, so it knows nothing of the class", layer=layer)
        return Verdict.INCONCLUSIVE, reason, reason
    if known.lower <= 0:
        text = "{value:.2f} nats about the class in layer {layer}, no more than nothing within the error"
        reason = Message("TL206.nothing", text, value=value, layer=layer)
        return Verdict.INCONCLUSIVE, reason, reason
    text = "{value:.2f} of {entropy:.2f} nats about the class are in {directions} directions of layer {layer}"
    reason = Message("TL206.found", text, value=value, entropy=entropy, directions=DIRECTIONS, layer=layer)
    if init is None or not math.isfinite(init.value):
        beside, verdict = Message("TL206.alone", "There are no random features to compare with."), Verdict.DESCRIPTIVE
    elif known.lower <= init.upper and init.lower <= known.upper:
        text = "The untrained layer has {init:.2f}, no different within the error: training explains none of it."
        beside, verdict = Message("TL206.same", text, init=init.value), Verdict.INCONCLUSIVE
    elif init.value > value:
        text = "The untrained layer has more, {init:.2f}: training moved it out of these directions."
        beside, verdict = Message("TL206.less", text, init=init.value), Verdict.DESCRIPTIVE
    else:
        text = "The untrained layer has {init:.2f}, so training gathered it."
        beside, verdict = Message("TL206.more", text, init=init.value), Verdict.DESCRIPTIVE
    text = (
        "{value:.2f} of the {entropy:.2f} nats that there are to know of the class lie in {directions} directions of"
        " layer {layer}. {beside}"
    )
    reading = Message(
        "TL206.reading", text, value=value, entropy=entropy, directions=DIRECTIONS, layer=layer, beside=beside
    )
    return verdict, reason, reading


def _work(subject: Subject, rung: int | None) -> Work:
    if not subject.has("train") or subject.model is None:
        return Work()
    layers, n = narrow_layers(subject, "train", LAYERS), min(ROWS, len(subject.split("train")))
    # Principal directions of half of the rows, and forty quarters of all pairs of the other half.
    flops = sum(10.0 * n * min(n / 2, units) * min(units, 4000) + 30.0 * (n / 2) ** 2 * 10 for units in layers.units)
    return Work(forwards=2.0 * n * len(layers.names), flops=3 * flops, seconds=0.05 * len(layers.names))


@probe(code="TL206", needs={Need.MODEL, Need.TRAIN}, cost=_work)
def probe_label_information(
    subject: Subject, *, layers: int = LAYERS, rows: int = ROWS, rng: torch.Generator
) -> Result:
    """How much does each layer know about the class, of all there is to know?"""
    seen = seen_layers(subject, "train", layers, NO_LAYER)
    split = _divide(subject, rows, rng)
    place = place_of(seen)
    network = _known(subject, seen, rows, split, split.labels)
    lines = [depth_line(network, seen, Message("TL206.network", "trained"), "network")]
    beside: list[Control] = []
    untrained: list[Estimate] | None = None
    if (start := subject.initial()) is not None:
        with start.subject.studied():
            untrained = _known(start.subject, seen, rows, split, split.labels)
        beside.append(Control(role="init", name=start.name, estimate=untrained[place]))
        lines.append(depth_line(untrained, seen, start.name, "init"))
    noise = _known(subject, seen, rows, split, split.shuffled)
    name = Message("TL206.shuffled", "labels shuffled for the estimate")
    beside.append(Control(role="shuffled", name=name, estimate=noise[place]))
    lines.append(depth_line(noise, seen, name, "shuffled"))
    init = None if untrained is None else untrained[place]
    verdict, reason, reading = judge(network[place], seen.names[place], split.entropy, init)
    return Result(
        estimate=network[place],
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=_assumptions(),
        controls=tuple(beside),
        references=(
            "Ross (2014). Mutual information between discrete and continuous data sets. PLoS ONE 9:e87357.",
            "Saxe, Bansal, Dapello, Advani, Kolchinsky, Tracey, Cox (2018). On the information bottleneck theory of"
            " deep learning. ICLR.",
        ),
        payload=(_curve(lines, split), _table(seen, network, untrained, noise)),
        settings={
            "split": "train", "rows fitted": int(split.fitted.sum()), "rows scored": int((~split.fitted).sum()),
            "layer": seen.names[place], "layers": ", ".join(seen.names), "directions": DIRECTIONS,
        },
    )  # fmt: skip


def _divide(subject: Subject, limit: int, rng: torch.Generator) -> Rows:
    """Every second row of each class, after a shuffle, fits; the others score."""
    labels = class_numbers(subject, "train", limit, NO_CLASSES)
    used = enough_of_each(labels, FEWEST)
    if len(used) == 0 or len(labels[used].unique()) < 2:  # type: ignore[no-untyped-call]
        text = "fewer than two classes have {least} of the {rows} training rows; give more rows or classes"
        raise UnsuitableError(Message("TL206.few_classes", text, least=FEWEST, rows=len(labels)))
    own = labels[used]
    fitted, shuffled = torch.zeros(len(own), dtype=torch.bool), own.clone()
    order = torch.randperm(len(own), generator=rng)
    for c in own.unique():  # type: ignore[no-untyped-call]
        mine = order[own[order] == c]
        fitted[mine[: len(mine) // 2]] = True
    for part in (fitted, ~fitted):  # within each half, so that each class keeps its rows in both
        at = torch.nonzero(part)[:, 0]
        shuffled[at] = own[at[torch.randperm(len(at), generator=rng)]]
    return Rows(used, fitted, own, shuffled)


def _known(subject: Subject, seen: Depth, limit: int, split: Rows, labels: Tensor) -> list[Estimate]:
    found = []
    for name in seen.names:
        x = activations(subject, name, "train", limit)[split.used]
        if not bool(torch.isfinite(x).all()):
            found.append(without_value(Message("TL206.not_finite", "some features are not finite")))
            continue
        try:
            found.append(label_information(x, labels, split.fitted))
        except ValueError:  # rows and classes were made to fit, so the features do not vary
            found.append(without_value(Message("TL206.constant", "the layer does not vary")))
    return found


def _assumptions() -> tuple[Assumption, ...]:
    text = "only the class is asked about: what a deterministic layer keeps of its input is infinite or undefined"
    evidence = Message("TL206.infinite", "a finite number for it would measure bins or the number of rows")
    return (
        Assumption(statement=Message("TL206.class_only", text), status=Status.MET, evidence=evidence),
        Assumption(
            statement=Message("TL206.independent", "the scored rows are independent draws"), status=Status.UNCHECKED
        ),
        Assumption(
            statement=Message("TL206.unseen", "the scored rows had no part in training the network"),
            status=Status.BROKEN,
            evidence=Message("TL206.train", "they are training rows, so what is known of new ones may be less"),
        ),
    )


def _curve(lines: list[Line], split: Rows) -> Curve:
    return Curve(
        label=Message("TL206.curve", "Information about the class in two directions of each layer"),
        lines=tuple(lines),
        x_name=Message("TL206.depth", "layer (0 = inputs)"),
        y_name=Message("TL206.information", "information about the class, nats"),
        walls=(Wall(at=split.entropy, name=Message("TL206.entropy", "all there is to know")),),
    )


def _table(seen: Depth, found: list[Estimate], init: list[Estimate] | None, noise: list[Estimate]) -> Table:
    none = Message("TL206.not_known", "not known")
    return Table(
        label=Message("TL206.table", "Information about the class by layer, in nats"),
        columns=(
            Message("TL206.column_layer", "layer"),
            Message("TL206.column_value", "nats"),
            Message("TL206.column_lower", "lower"),
            Message("TL206.column_upper", "upper"),
            Message("TL206.column_init", "untrained"),
            Message("TL206.column_shuffled", "shuffled labels"),
        ),
        rows=tuple(
            (name, e.value, e.lower, e.upper, none if init is None else init[k].value, noise[k].value)
            for k, (name, e) in enumerate(zip(seen.names, found, strict=True))
        ),
    )
