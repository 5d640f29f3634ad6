"""TL106: by how much the true class leads on the training examples, against networks with nothing to find.

Outputs can be multiplied by any number without changing an answer, so margins are measured in units of the outputs' own
spread. A margin is no certificate here: the class whose complexity a margin bound needs was chosen by training.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.numerics.label_margins import margins
from theorylens.results import (
    Assumption,
    Cell,
    Control,
    Curve,
    Estimate,
    Exact,
    Kind,
    Line,
    Message,
    Result,
    Status,
    Table,
    Verdict,
    Wall,
)

LEVEL = 0.1  # the quantile reported: low enough to speak of the hard examples, high enough not to be one of them
LEVELS = (0.01, 0.1, 0.5, 0.9)
DRAWN = 200  # quantiles drawn of a distribution
IGNORED = -100
REFERENCES = (
    "Bartlett, Foster, Telgarsky (2017). Spectrally-normalized margin bounds for neural networks. NeurIPS 30.",
    "Koltchinskii, Panchenko (2002). Empirical margin distributions and bounding the generalization error of combined "
    "classifiers. Ann. Statist. 30:1-50.",
)


def normalised_margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """`margins` over the root mean square of the outputs about their mean per example: free of the outputs' scale.

    With one score per row the spread is the root mean square of the scores. Shapes as for `margins`.

    Raises
    ------
    ValueError
        When the outputs of every row are all equal: there is no spread to measure in.

    >>> outputs = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> found = normalised_margins(outputs, torch.tensor([0, 1]))
    >>> torch.equal(found, normalised_margins(10 * outputs, torch.tensor([0, 1])))
    True
    """
    scores = outputs.double()
    centred = scores if outputs.numel() == targets.numel() else scores - scores.mean(1, keepdim=True)
    spread = float(centred.square().mean().sqrt())
    if not 0 < spread < math.inf:
        raise ValueError(f"the outputs have a spread of {spread}; margins need scores that differ and are finite")
    return margins(outputs, targets) / spread


def judge(value: float, init: float | None, shuffled: float | None) -> tuple[Verdict, Message]:
    """A margin says something only beside that of a network that learned nothing but its labels by heart."""
    if value <= 0:
        text = "a tenth of the training examples or more are not answered rightly, so there is no margin to speak of"
        return Verdict.INCONCLUSIVE, Message("TL106.wrong", text)
    if shuffled is not None and value <= shuffled:
        text = "not wider than after training on shuffled labels ({shuffled:.3g}), so margins explain nothing here"
        return Verdict.INCONCLUSIVE, Message("TL106.shuffled", text, shuffled=shuffled)
    if init is not None and value <= init:
        text = "not wider than before training ({init:.3g}), so margins explain nothing here"
        return Verdict.INCONCLUSIVE, Message("TL106.init", text, init=init)
    if shuffled is None:
        text = "margins are known, but not how wide those of a network trained on shuffled labels are"
        return Verdict.DESCRIPTIVE, Message("TL106.uncontrolled", text)
    text = "wider than after training on shuffled labels ({shuffled:.3g})"
    return Verdict.DESCRIPTIVE, Message("TL106.wider", text, shuffled=shuffled)


def _cost(subject: Subject, rung: int | None) -> Work:
    test = len(subject.split("test")) if subject.has("test") else 0
    return Work(forwards=3.0 * len(subject.split("train")) + test)


@probe(code="TL106", needs={Need.TRAIN}, cost=_cost, name="generalization.margins")
def probe_margins(subject: Subject, *, rng: torch.Generator) -> Result:
    """By how much does the true class lead, and is that more than learning by heart would give?"""
    del rng  # nothing is sampled
    found = {role: _measured(subject, role) for role in ("train", "test") if subject.has(role)}
    estimate = _estimate(found["train"])
    beside = controls(subject, lambda other: _estimate(_compared(other)))
    value = {c.role: c.estimate.value for c in beside}
    verdict, reason = judge(estimate.value, value.get("init"), value.get("shuffled"))
    wrong = int((found["train"] <= 0).sum())
    return Result(
        estimate=estimate,
        kind=Kind.INDICATOR,
        verdict=verdict,
        reason=reason,
        reading=_reading(verdict, estimate.value, reason),
        assumptions=(_scale(), _separated(wrong, len(found["train"]))),
        controls=beside,
        references=REFERENCES,
        payload=(_curve(subject, found["train"], beside), _table(found)),
        settings={"level": LEVEL, "rows": len(found["train"]), "wrong": wrong},
    )


def _measured(subject: Subject, role: str) -> NDArray[np.float64]:
    """Normalised margins of the rows that have a target."""
    outputs, targets = subject.predictions(role)
    plain = subject.judged.kind == "classification" and isinstance(outputs, Tensor) and targets.numel() == len(outputs)
    if not plain or outputs.ndim > 2:
        text = "margins are about plain classification; give a task with one class number per example"
        raise UnsuitableError(Message("TL106.no_classes", text))
    counted = targets.reshape(-1) != IGNORED
    try:
        return np.asarray(normalised_margins(outputs[counted], targets.reshape(-1)[counted]).numpy())
    except ValueError as error:
        text = "margins cannot be measured on the {role} split: {error}"
        raise UnsuitableError(Message("TL106.unsuitable", text, role=role, error=str(error))) from error


def _compared(other: Subject) -> NDArray[np.float64]:
    """Margins of a control; where its last layer starts at zero all answers tie, which is a margin of 0."""
    outputs, targets = other.predictions("train")
    if bool((outputs == 0).all()):
        return np.zeros(int((targets != IGNORED).sum()))
    return _measured(other, "train")


def _estimate(found: NDArray[np.float64]) -> Estimate:
    return Estimate(value=float(np.quantile(found, LEVEL)), uncertainty=Exact())


def _reading(verdict: Verdict, value: float, reason: Message) -> Message:
    if value <= 0:
        text = "Not on a tenth of the training examples or more, where the margin is {value:.3g} or less."
        return Message("TL106.reading.behind", text, value=value)
    if verdict is Verdict.INCONCLUSIVE:
        text = "By no more than elsewhere: nine tenths of the training examples lead by {value:.3g} or more, {reason}."
        return Message("TL106.reading.none", text, value=value, reason=reason)
    text = (
        "By {value:.3g} spreads of the outputs or more on nine tenths of the training examples: {reason}. Wide margins "
        "go with small gaps in many settings and guarantee nothing by themselves."
    )
    return Message("TL106.reading", text, value=value, reason=reason)


def _scale() -> Assumption:
    text = "the outputs are compared with each other only, so that their scale carries no meaning"
    said = Message("assume.scale_evidence", "margins are divided by the spread of the outputs")
    return Assumption(statement=Message("assume.scale", text), status=Status.MET, evidence=said)


def _separated(wrong: int, n: int) -> Assumption:
    text = "every training example is answered rightly, without which a margin is not a margin of separation"
    said = Message("assume.separated_evidence", "{wrong} of {n} are answered wrongly or tied", wrong=wrong, n=n)
    status = Status.MET if wrong == 0 else Status.BROKEN
    return Assumption(statement=Message("assume.separated", text), status=status, evidence=said)


def _curve(subject: Subject, found: NDArray[np.float64], beside: tuple[Control, ...]) -> Curve:
    """Share of the training examples whose margin is below x."""
    shares = np.linspace(0, 1, DRAWN)
    lines = [Line(x=np.quantile(found, shares), y=shares, name=Message("line.network", "this network"))]
    others = {"shuffled": subject.shuffled}
    if (start := subject.initial() if subject.model is not None else None) is not None:
        others["init"] = start.subject
    for control in beside:
        other = others.get(control.role)
        if other is not None:
            x = np.quantile(_compared(other), shares)
            lines.append(Line(x=x, y=shares, name=control.name, role=control.role))
    return Curve(
        label=Message("TL106.curve", "Share of the training examples whose margin is smaller; wrong answers below 0"),
        lines=tuple(lines[:3]), x_name=Message("axis.margin", "margin / spread of the outputs"),
        y_name=Message("axis.share", "share of examples"),
        walls=(Wall(at=LEVEL, name=Message("wall.tenth", "one tenth")),),
    )  # fmt: skip


def _table(found: dict[str, NDArray[np.float64]]) -> Table:
    names = {"train": Message("name.train", "training"), "test": Message("name.test", "test")}
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (names[role], *(float(np.quantile(values, q)) for q in LEVELS), float((values <= 0).mean()))
        for role, values in found.items()
    )
    columns = (
        Message("table.split", "split"), *(Message("table.below", "{q:.0%} lie below", q=q) for q in LEVELS),
        Message("table.not_right", "share not right"),
    )  # fmt: skip
    return Table(label=Message("TL106.table", "Margins in units of the outputs' spread"), columns=columns, rows=rows)
