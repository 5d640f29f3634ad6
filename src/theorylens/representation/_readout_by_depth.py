"""Where along the depth do the classes become linearly readable, beside random features and shuffled labels?"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    Message,
    Result,
    Role,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._by_depth import class_numbers
from ._depth import Depth, activations, depth
from ._linear_probe import linear_probe

ROWS = 1000  # of the training data; half of them fit the probe
LAYERS = 8


@dataclass(frozen=True)
class Readout:
    """Which rows fit the probe and which score it, with labels for each and a shuffled version for the control."""

    fitted: Tensor
    scored: Tensor
    labels: Tensor
    scored_labels: Tensor
    shuffled: Tensor
    scored_role: str

    @property
    def chance(self) -> float:
        """Share of the largest class among the scored rows: what a constant answer gets."""
        return float(self.scored_labels.bincount().max()) / len(self.scored_labels)


def judge(
    accuracy: Estimate, layer: str, chance: float, init: Estimate | None, inputs: Estimate | None
) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading for the accuracy of a linear probe on the last hidden layer."""
    value = accuracy.value
    if accuracy.lower <= chance:
        text = "a linear probe on layer {layer} reads {value:.1%}, no better than the largest class ({chance:.1%})"
        reason = Message("TL202.chance", text, layer=layer, value=value, chance=chance)
        return Verdict.INCONCLUSIVE, reason, reason
    text = "a linear probe on layer {layer} reads {value:.1%} of the classes (a constant answer {chance:.1%})"
    reason = Message("TL202.found", text, layer=layer, value=value, chance=chance)
    if init is None:
        start = Message("TL202.alone", "There are no random features to compare with, so this alone explains nothing.")
        verdict = Verdict.DESCRIPTIVE
    elif accuracy.lower <= init.upper and init.lower <= accuracy.upper:
        text = "The untrained layer gives {init:.1%}, no different within the error: training explains none of it."
        start, verdict = Message("TL202.same", text, init=init.value), Verdict.INCONCLUSIVE
    elif init.value > value:
        text = "The untrained layer gives more, {init:.1%}: training made the classes harder to read here."
        start, verdict = Message("TL202.less", text, init=init.value), Verdict.DESCRIPTIVE
    else:
        text = "The untrained layer gives {init:.1%}, so training made the classes easier to read."
        start, verdict = Message("TL202.more", text, init=init.value), Verdict.DESCRIPTIVE
    text = "{value:.1%} are read off layer {layer} by a linear classifier, {raw} {start}"
    if inputs is None:
        raw = Message("TL202.no_inputs", "where a constant answer gets {chance:.1%}.", chance=chance)
    else:
        raw = Message("TL202.inputs", "{inputs:.1%} straight off the inputs.", inputs=inputs.value)
    return verdict, reason, Message("TL202.reading", text, value=value, layer=layer, raw=raw, start=start)


def _work(subject: Subject, rung: int | None) -> Work:
    if not subject.has("train") or subject.model is None:
        return Work()
    n = min(ROWS, len(subject.split("train")))
    scored = min(ROWS // 2, len(subject.split("validation"))) if subject.validation is not None else 0
    layers = depth(subject, "train", LAYERS)
    fits = 3 * len(layers.names)  # network, init and shuffled labels
    # Some hundreds of L-BFGS steps over rows times units times classes (ten, say), at a few Gflop/s.
    flops = 300 * 40.0 * (n / 2) * sum(min(u, n // 2) for u in layers.units) * 3
    return Work(forwards=2.0 * (n + scored) * len(layers.names), flops=flops, seconds=0.005 * fits)


@probe(code="TL202", needs={Need.MODEL, Need.TRAIN}, cost=_work)
def probe_linear_probe(subject: Subject, *, layers: int = LAYERS, rows: int = ROWS, rng: torch.Generator) -> Result:
    """How well can a linear classifier read the classes off each layer?"""
    seen = depth(subject, "train", layers)
    if not seen.names:
        raise UnsuitableError(
            Message("TL202.no_layer", "no layer gives one row of real numbers per example; a probe needs them")
        )
    split = _divide(subject, rows, rng)
    place = seen.names.index(seen.last_hidden) if seen.last_hidden in seen.names else len(seen.names) - 1
    network = _read(subject, seen, rows, split, split.labels)
    lines = [_line(network, seen, Message("TL202.network", "trained"), "network")]
    beside: list[Control] = []
    untrained: list[Estimate] | None = None
    if (start := subject.initial()) is not None:
        with start.subject.studied():
            untrained = _read(start.subject, seen, rows, split, split.labels)
        beside.append(Control(role="init", name=start.name, estimate=untrained[place]))
        lines.append(_line(untrained, seen, start.name, "init"))
    noise = _read(subject, seen, rows, split, split.shuffled)
    name = Message("TL202.shuffled", "labels shuffled for the probe")
    beside.append(Control(role="shuffled", name=name, estimate=noise[place]))
    lines.append(_line(noise, seen, name, "shuffled"))
    init = next((c.estimate for c in beside if c.role == "init"), None)
    raw = network[0] if seen.names[0] != seen.names[place] and seen.at[0] == 0 else None
    verdict, reason, reading = judge(network[place], seen.names[place], split.chance, init, raw)
    return Result(
        estimate=_with_all_trouble(place, seen, network, untrained, noise),
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_unseen(split), _rows_independent()),
        controls=tuple(beside),
        references=(
            "Alain, Bengio (2016). Understanding intermediate layers using linear classifier probes."
            " arXiv:1610.01644.",
            "Hewitt, Liang (2019). Designing and interpreting probes with control tasks. EMNLP.",
        ),
        payload=(_curve(lines, split), _table(seen, network, untrained, noise)),
        settings={
            "layer": seen.names[place], "layers": ", ".join(seen.names), "rows fitted": len(split.labels),
            "rows scored": len(split.scored_labels), "scored on": split.scored_role, "C": 1.0,
        },
    )  # fmt: skip


def _with_all_trouble(place: int, seen: Depth, *found: list[Estimate] | None) -> Estimate:
    """The estimate of the headline layer, with every layer whose fit did not converge in its trouble."""
    fits = [f for f in found if f is not None]
    bad = [name for k, name in enumerate(seen.names) if any(f[k].trouble for f in fits)]
    if not bad:
        return fits[0][place]
    text = "the probe did not converge on {layers}; raise steps"
    return replace(fits[0][place], trouble=Message("TL202.not_converged", text, layers=", ".join(bad)))


def _divide(subject: Subject, rows: int, rng: torch.Generator) -> Readout:
    """Half of a keyed training subset fits; validation data score, else the other half. Test data stay untouched."""
    labels = _labels(subject, "train", rows)
    order = torch.randperm(len(labels), generator=rng)
    order = order[labels[order] >= 0]  # -100 marks a row without a label
    fitted, other = order[: len(order) // 2].sort().values, order[len(order) // 2 :].sort().values
    if len(fitted) < 2 or len(labels[fitted].unique()) < 2:  # type: ignore[no-untyped-call]
        text = "half of {rows} training rows holds a single class; a probe needs two to tell apart"
        raise UnsuitableError(Message("TL202.one_class", text, rows=len(labels)))
    shuffled = labels[fitted][torch.randperm(len(fitted), generator=rng)]
    if subject.validation is None:
        return Readout(fitted, other, labels[fitted], labels[other], shuffled, "train")
    held = _labels(subject, "validation", rows // 2)
    known = torch.nonzero(held >= 0)[:, 0]
    return Readout(fitted, known, labels[fitted], held[known], shuffled, "validation")


def _labels(subject: Subject, role: str, limit: int) -> Tensor:
    """Whole-number classes of ``split(role).subset(limit)``."""
    text = "the targets are not one class per example; a probe needs classes to read"
    return class_numbers(subject, role, limit, Message("TL202.no_classes", text))


def _read(subject: Subject, seen: Depth, rows: int, split: Readout, labels: Tensor) -> list[Estimate]:
    """Accuracy of a probe fitted to ``labels`` on each layer; scored against the true labels."""
    found = []
    for name in seen.names:
        train = activations(subject, name, "train", rows)
        scored = train if split.scored_role == "train" else activations(subject, name, "validation", rows // 2)
        found.append(linear_probe(train[split.fitted], labels, scored[split.scored], split.scored_labels).accuracy)
    return found


def _unseen(split: Readout) -> Assumption:
    statement = Message("TL202.unseen", "the scored rows had no part in training the network")
    if split.scored_role == "validation":
        text = (
            "scored on {m} validation rows, which may have served for choices; the test split is kept for certificates"
        )
        evidence = Message("TL202.validation", text, m=len(split.scored_labels))
        return Assumption(statement=statement, status=Status.UNCHECKED, evidence=evidence)
    text = "scored on {m} training rows that the probe did not see but the network did, so it may read high"
    evidence = Message("TL202.train", text, m=len(split.scored_labels))
    return Assumption(statement=statement, status=Status.BROKEN, evidence=evidence)


def _rows_independent() -> Assumption:
    return Assumption(
        statement=Message("TL202.independent", "the scored rows are independent draws"), status=Status.UNCHECKED
    )


def _line(found: list[Estimate], seen: Depth, name: Message, role: Role) -> Line:
    return Line(
        x=seen.at,
        y=np.asarray([e.value for e in found]),
        lower=np.asarray([e.lower for e in found]),
        upper=np.asarray([e.upper for e in found]),
        name=name,
        role=role,
    )


def _curve(lines: list[Line], split: Readout) -> Curve:
    return Curve(
        label=Message("TL202.curve", "Accuracy of a linear classifier on each layer, with exact 95 % intervals"),
        lines=tuple(lines),
        x_name=Message("TL202.depth", "layer (0 = inputs)"),
        y_name=Message("TL202.accuracy", "accuracy of the linear probe"),
        walls=(Wall(at=split.chance, name=Message("TL202.largest", "largest class")),),
    )


def _table(seen: Depth, found: list[Estimate], init: list[Estimate] | None, noise: list[Estimate]) -> Table:
    none = Message("TL202.none", "not known")
    return Table(
        label=Message("TL202.table", "Accuracy of the linear probe by layer"),
        columns=(
            Message("TL202.column_layer", "layer"),
            Message("TL202.column_units", "units"),
            Message("TL202.column_accuracy", "accuracy"),
            Message("TL202.column_lower", "lower"),
            Message("TL202.column_upper", "upper"),
            Message("TL202.column_init", "untrained"),
            Message("TL202.column_shuffled", "shuffled labels"),
        ),
        rows=tuple(
            (name, seen.units[k], e.value, e.lower, e.upper, none if init is None else init[k].value, noise[k].value)
            for k, (name, e) in enumerate(zip(seen.names, found, strict=True))
        ),
    )
