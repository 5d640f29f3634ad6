"""Neural collapse of every layer, with all its marks at the last hidden one, beside the untrained network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.results import (
    Assumption,
    Cell,
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
)

from ._by_depth import class_numbers, depth_line, enough_of_each, narrow_layers, place_of, seen_layers, without_value
from ._collapse import Collapse, neural_collapse, within_class_variability
from ._depth import Depth, activations
from ._effective_rank import covariance_eigenvalues, participation_ratio, rankme
from ._half_samples import half_samples

ROWS = 1000
LAYERS = 8
COLLAPSED = 0.05  # networks trained on to collapse ended below it, networks merely trained to the last error above 0.16
FEWEST = 4  # rows of a class, so that a half has two

NO_LAYER = Message("TL203.no_layer", "no layer gives one row of real numbers per example; collapse is seen in them")
NO_CLASSES = Message("TL203.no_classes", "the targets are not one class per example; give classes to see collapse")


def judge(within: Estimate, layer: str, init: Estimate | None) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the within-class variability of one layer."""
    value = within.value
    if not math.isfinite(value):
        reason = Message("TL203.none", "the class means of layer {layer} agree, so nothing is measured", layer=layer)
        return Verdict.INCONCLUSIVE, reason, reason
    text = "classes of layer {layer} spread by {value:.3g} of the distance of their means (squared)"
    reason = Message("TL203.found", text, layer=layer, value=value)
    if init is None or not math.isfinite(init.value):
        beside = Message("TL203.alone", "There is no untrained network to compare with.")
    elif within.lower <= init.upper and init.lower <= within.upper:
        text = "The untrained network has {init:.3g}, no different within the error: training explains none of it."
        beside = Message("TL203.same", text, init=init.value)
    elif init.value < value:
        text = "The untrained network has less, {init:.3g}: training spread the classes."
        beside = Message("TL203.more", text, init=init.value)
    else:
        text = "The untrained network has {init:.3g}, so training drew the classes together."
        beside = Message("TL203.less", text, init=init.value)
    if within.upper < COLLAPSED:
        text = "Nearly to points: within-class variability of layer {layer} is {value:.3g}, and 0 is collapse. {beside}"
        reading = Message("TL203.collapsed", text, layer=layer, value=value, beside=beside)
    else:
        text = "Not to points: within-class variability of layer {layer} is {value:.3g}, where 0 is collapse. {beside}"
        reading = Message("TL203.reading", text, layer=layer, value=value, beside=beside)
    return Verdict.DESCRIPTIVE, reason, reading


def _work(subject: Subject, rung: int | None) -> Work:
    if not subject.has("train") or subject.model is None:
        return Work()
    layers, n = narrow_layers(subject, "train", LAYERS), min(ROWS, len(subject.split("train")))
    networks = 2 + (subject.shuffled is not None)
    # Forty halves of the rows, each projected on the class means; the spectrum of one layer.
    flops = sum(80.0 * n * min(units, 4000) * 10 for units in layers.units)
    return Work(forwards=float(n * (len(layers.names) + 1)), flops=flops, seconds=0.05) * networks


@probe(code="TL203", needs={Need.MODEL, Need.TRAIN}, cost=_work)
def probe_neural_collapse(subject: Subject, *, layers: int = LAYERS, rows: int = ROWS, rng: torch.Generator) -> Result:
    """How far have the features of each class shrunk to a point?"""
    del rng  # the rows are keyed by the content of the split, the halves by their number
    seen = seen_layers(subject, "train", layers, NO_LAYER)
    place = place_of(seen)
    found = _profile(subject, seen, rows)
    beside = controls(subject, lambda other: _profile(other, seen, rows)[place])
    start = next((c.estimate for c in beside if c.role == "init"), None)
    verdict, reason, reading = judge(found[place], seen.names[place], start)
    labels = class_numbers(subject, "train", rows, NO_CLASSES)
    used = enough_of_each(labels, FEWEST)
    few = int(labels[used].bincount()[labels[used].unique()].min()) <= seen.units[place]  # type: ignore[no-untyped-call]
    return Result(
        estimate=found[place],
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_many_rows(few, seen.units[place]), _to_the_end()),
        controls=beside,
        references=(
            "Papyan, Han, Donoho (2020). Prevalence of neural collapse during the terminal phase of deep learning"
            " training. PNAS 117:24652.",
            "Garrido, Balestriero, Najman, LeCun (2023). RankMe: assessing the downstream performance of pretrained"
            " self-supervised representations by their rank. ICML.",
        ),
        payload=(_curve(subject, seen, rows, beside), _table(subject, seen, rows)),
        settings={"split": "train", "rows": len(used), "layer": seen.names[place], "layers": ", ".join(seen.names)},
    )


def _profile(subject: Subject, seen: Depth, limit: int) -> list[Estimate]:
    labels = class_numbers(subject, "train", limit, NO_CLASSES)
    used = enough_of_each(labels, FEWEST)
    classes = labels[used].unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    if len(used) == 0 or int(classes.max()) < 1:
        text = "fewer than two classes have {least} of the {rows} training rows; give more rows or classes"
        raise UnsuitableError(Message("TL203.few_classes", text, least=FEWEST, rows=len(labels)))
    key = ("collapse", seen.names, limit)
    return subject.once(key, lambda: [_within(subject, name, limit, used, classes) for name in seen.names])


def _within(subject: Subject, name: str, limit: int, used: Tensor, classes: Tensor) -> Estimate:
    x = activations(subject, name, "train", limit)[used].double()
    if not bool(torch.isfinite(x).all()):
        return without_value(Message("TL203.not_finite", "some features are not finite"))
    value = within_class_variability(x, classes)
    if not math.isfinite(value):
        return without_value(Message("TL203.equal", "all class means of the layer agree"))
    count = int(classes.max()) + 1

    def on(kept: Tensor) -> float:
        left = classes[kept]
        return within_class_variability(x[kept], left) if int(left.bincount(minlength=count).min()) > 1 else math.nan

    return Estimate(value=value, uncertainty=half_samples(value, on, len(x), within=(0.0, math.inf), biased=True))


def _marks(subject: Subject, seen: Depth, limit: int) -> list[float] | None:
    """Every mark and two ranks at the last hidden layer, NaN where one has no meaning; None when there is no layer."""
    labels = class_numbers(subject, "train", limit, NO_CLASSES)
    used = enough_of_each(labels, FEWEST)
    whole = activations(subject, seen.names[place_of(seen)], "train", limit)
    x = whole[used]
    if not bool(torch.isfinite(x).all()):
        return None
    head = _head(subject, whole, limit)
    try:
        found: Collapse = neural_collapse(x, labels[used], *(head or (None, None)))
        eigenvalues = covariance_eigenvalues(x)
        ranks = [participation_ratio(eigenvalues), rankme(x)]
    except ValueError:  # a dead layer: class means that agree, or nothing that varies
        return None
    marks = [found.within.value, found.norms, found.angles, found.duality, found.disagreement, found.fisher, *ranks]
    return [math.nan if m is None else m for m in marks]


def _head(subject: Subject, features: Tensor, limit: int) -> tuple[Tensor, Tensor | None] | None:
    """Weights and bias of a last linear layer that turns these very features into the outputs."""
    modules = dict(subject.net.named_modules())
    linear = [modules[name] for name in subject.layers if isinstance(modules[name], nn.Linear)]
    if not linear:
        return None
    weight, bias = (None if p is None else p.detach().cpu().double() for p in (linear[-1].weight, linear[-1].bias))
    outputs = subject.predictions("train", limit=limit)[0].double()
    if weight is None or outputs.ndim != 2 or weight.shape != (outputs.shape[1], features.shape[1]) or len(weight) < 2:
        return None
    made = features.double() @ weight.T + (0 if bias is None else bias)
    return (weight, bias) if torch.allclose(made, outputs, rtol=1e-3, atol=1e-3 * float(outputs.abs().max())) else None


def _many_rows(few: bool, units: int) -> Assumption:
    statement = Message("TL203.many_rows", "each class has more rows than the layer has units")
    if not few:
        return Assumption(statement=statement, status=Status.MET)
    text = "a class has no more rows than the {units} units, so the variability may read low"
    evidence = Message("TL203.few_rows", text, units=units)
    return Assumption(statement=statement, status=Status.BROKEN, evidence=evidence)


def _to_the_end() -> Assumption:
    text = "training went on after the last training error; before that, no collapse is expected"
    return Assumption(statement=Message("TL203.to_the_end", text), status=Status.UNCHECKED)


def _curve(subject: Subject, seen: Depth, limit: int, beside: tuple[Control, ...]) -> Curve:
    lines: list[Line] = [
        depth_line(_profile(subject, seen, limit), seen, Message("TL203.network", "trained"), "network")
    ]
    start = subject.initial()
    others = {"init": None if start is None else start.subject, "shuffled": subject.shuffled}
    for control in beside:
        if (other := others[control.role]) is not None:
            lines.append(depth_line(_profile(other, seen, limit), seen, control.name, control.role))
    return Curve(
        label=Message("TL203.curve", "Within-class variability of each layer from inputs to outputs"),
        lines=tuple(lines),
        x_name=Message("TL203.depth", "layer (0 = inputs)"),
        y_name=Message("TL203.variability", "within-class variability NC1"),
        y_log=True,
    )


def _table(subject: Subject, seen: Depth, limit: int) -> Table:
    names = (
        Message("TL203.nc1", "NC1: within-class variability"),
        Message("TL203.nc2_norms", "NC2: unequal distances of the class means"),
        Message("TL203.nc2_angles", "NC2: departure from equal angles"),
        Message("TL203.nc3", "NC3: weights against class means"),
        Message("TL203.nc4", "NC4: decisions unlike the nearest mean"),
        Message("TL203.fisher", "Fisher ratio, between over within"),
        Message("TL203.participation", "participation ratio of the covariance"),
        Message("TL203.rankme", "RankMe"),
    )
    own = _marks(subject, seen, limit)
    before: list[float] | None = None
    if (start := subject.initial()) is not None:
        with start.subject.studied():
            before = _marks(start.subject, seen, limit)
    none = Message("TL203.not_known", "not known")

    def cell(marks: list[float] | None, i: int) -> Cell:
        return none if marks is None or math.isnan(marks[i]) else marks[i]

    return Table(
        label=Message("TL203.table", "Marks of collapse at the last hidden layer; NC1 to NC4 go to 0"),
        columns=(
            Message("TL203.column_mark", "mark"),
            Message("TL203.column_trained", "trained"),
            Message("TL203.column_init", "untrained"),
        ),
        rows=tuple((name, cell(own, i), cell(before, i)) for i, name in enumerate(names)),
    )
