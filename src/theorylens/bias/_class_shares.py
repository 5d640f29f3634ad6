"""The class counts of every split, and the error of the trivial predictor that follows from them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Subject, UnsuitableError, Work, call_first, probe
from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.results import (
    Assumption,
    Estimate,
    Intervals,
    Kind,
    Message,
    Payload,
    Result,
    Status,
    Table,
    Verdict,
    Wall,
)

from ._class_balance import ClassBalance, class_balance, effective_classes

UNEVEN = 10  # from a ratio of 10 to 1 on, plain accuracy says little about the smallest class
SHOWN = 40  # classes of one picture


def judge(found: ClassBalance, effective: Estimate, unseen: int) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading; ``unseen`` counts classes that other splits have and the first split lacks."""
    k, trivial = len(found.counts), 1 - found.majority
    if unseen:
        text = "{unseen} classes occur in other splits and never in training"
        reason = Message("TL503.unseen", text, unseen=unseen)
        text = (
            "No: {unseen} classes of the other splits have no training example, so the network could not learn them."
            " {even}"
        )
        reading = Message("TL503.reading_unseen", text, unseen=unseen, even=_even(found, effective, k, trivial))
        return Verdict.FAILS, reason, reading
    text = "{effective:.2g} effective classes of {k}; always answering the largest errs on {trivial:.1%}"
    reason = Message("TL503.found", text, effective=effective.value, k=k, trivial=trivial)
    if found.ratio >= UNEVEN:
        text = "No: the largest class has {ratio:.0f} times the examples of the smallest. {even}"
        return Verdict.DESCRIPTIVE, reason, Message(
            "TL503.reading_uneven", text, ratio=found.ratio, even=_even(found, effective, k, trivial)
        )  # fmt: skip
    text = "Yes: the largest class has {ratio:.1f} times the examples of the smallest. {even}"
    return Verdict.DESCRIPTIVE, reason, Message(
        "TL503.reading_even", text, ratio=found.ratio, even=_even(found, effective, k, trivial)
    )  # fmt: skip


def _even(found: ClassBalance, effective: Estimate, k: int, trivial: float) -> Message:
    text = (
        "The {k} classes count as {effective:.2f} even ones, and an answer that never changes errs on {trivial:.1%}:"
        " that is the level to beat."
    )
    return Message("TL503.level", text, k=k, effective=effective.value, trivial=trivial)


def _work(subject: Subject, rung: int | None) -> Work:
    if subject.model is None or subject.task is None or subject.task.forward is call_first:
        return Work(forwards=32.0)  # one look at the outputs, to count the classes
    return Work(forwards=float(sum(len(subject.split(role)) for role in subject.roles)))


@probe(code="TL503", needs=set(), cost=_work)
def probe_class_balance(subject: Subject, *, rng: torch.Generator) -> Result:
    """Are the classes evenly spread, and what does always answering the largest one get?"""
    del rng  # counting draws nothing
    if not subject.roles:
        raise UnsuitableError(Message("TL503.no_data", "there are no data; give train= or test= to Subject"))
    labels = {role: _labels(subject, role) for role in subject.roles}
    k = max(subject.classes or 0, *(int(y.max()) + 1 for y in labels.values()))
    counts = {role: y.bincount(minlength=k).numpy() for role, y in labels.items()}
    first = subject.roles[0]
    found = {role: class_balance(c) for role, c in counts.items()}
    effective = effective_classes(counts[first])
    others = sum((c for role, c in counts.items() if role != first), np.zeros(k, dtype=np.int64))
    unseen = [int(c) for c in np.flatnonzero((counts[first] == 0) & (others > 0))] if first == "train" else []
    verdict, reason, reading = judge(found[first], effective, len(unseen))
    return Result(
        estimate=effective,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_draws(),),
        references=(
            "Hill (1973). Diversity and evenness: a unifying notation and its consequences. Ecology 54:427.",
            "Miller (1955). Note on the bias of information estimates.",
        ),
        payload=_payload(found, first),
        settings={
            "split": first, "majority share": found[first].majority, "trivial error": 1 - found[first].majority,
            "imbalance ratio": found[first].ratio, "gini": found[first].gini,
            "classes unseen": ", ".join(map(str, unseen)),
        },
    )  # fmt: skip


def _labels(subject: Subject, role: str) -> Tensor:
    """Whole-number classes of every labelled row of a split."""
    task = subject.judged
    if task.kind != "classification":
        text = "the task has no classes to count; class balance is for classification"
        raise UnsuitableError(Message("TL503.unsuitable", text))
    if subject.model is not None and task.forward is call_first:
        y = torch.cat([batch[1].cpu() for batch in subject.split(role).batches(subject.batch_size)])
    else:
        y = subject.predictions(role)[1]
    if y.is_floating_point():
        if y.numel() != len(y):
            text = "the targets are shares of classes, not one class per example; they cannot be counted"
            raise UnsuitableError(Message("TL503.soft", text))
        return (y.reshape(-1) > 0.5).long()
    return y.reshape(-1)[y.reshape(-1) >= 0]


def _draws() -> Assumption:
    text = "labels are independent draws (for the interval; the counts are exact)"
    return Assumption(statement=Message("TL503.draws", text), status=Status.UNCHECKED)


def _payload(found: dict[str, ClassBalance], first: str) -> tuple[Payload, ...]:
    table = Table(
        label=Message("TL503.table", "Class balance of each split"),
        columns=(
            Message("TL503.split", "split"),
            Message("TL503.examples", "examples"),
            Message("TL503.largest", "largest class"),
            Message("TL503.ratio", "largest over smallest"),
            Message("TL503.effective", "effective classes"),
            Message("TL503.gini", "Gini"),
            Message("TL503.empty", "empty classes"),
        ),
        rows=tuple(
            (role, sum(b.counts), b.majority, b.ratio, b.effective, b.gini, b.empty) for role, b in found.items()
        ),
    )
    counts = np.asarray(found[first].counts)
    if len(counts) > SHOWN:
        return (table,)
    lower, upper = clopper_pearson_interval(counts, counts.sum(), 0.05)
    picture = Intervals(
        label=Message(
            "TL503.shares", "Share of each class in the {split} split, with exact 95 % intervals", split=first
        ),
        names=tuple(str(c) for c in range(len(counts))),
        values=counts / counts.sum(),
        lower=np.asarray(lower),
        upper=np.asarray(upper),
        x_name=Message("TL503.share", "share of the examples"),
        walls=(Wall(at=1 / len(counts), name=Message("TL503.even", "even")),),
    )
    return picture, table
