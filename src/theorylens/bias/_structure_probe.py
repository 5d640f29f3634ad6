"""Do the data have neighbourhoods that a convolution can use, or would any order of the inputs do?"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from theorylens.core import Need, Split, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Control,
    Estimate,
    Kind,
    Message,
    Result,
    Status,
    Verdict,
)
from theorylens.training import Optimisation

from ._data_structure import DataStructure, data_structure
from ._trials import Budget

ROWS = 900  # of the training split; two thirds train, one third judges
FEWEST = 150
SEEDS = 4
CELLS = 5  # local and dense, intact and scrambled, and copies shifted by one place
SIZE = 1500  # parameters of each candidate
BATCH, EPOCHS, STEPS = 64, 8, 80  # passes over the data, or as many steps when the data are few
STEP = 2.5e-3  # seconds a step takes on one core, the mean of both candidates
WIDEST = 32 * 32 * 4  # numbers per input; larger ones take minutes


def judge(found: DataStructure, chance: float) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading of the change by reordering; ``chance`` is the error of always one class."""
    change, dense = found.scrambled, found.dense_scrambled
    text = "with neighbourhoods destroyed the error of a small convolution changes by {change:+.1f} points"
    reason = Message("TL508.found", text, change=100 * change.value)
    if found.error.upper >= chance:
        text = "Unknown: the small convolution is no better than always giving one class ({error:.1%} error)."
        words = Message("TL508.chance", text, error=found.error.value)
        return Verdict.INCONCLUSIVE, Message("TL508.no_skill", "the small convolution learnt nothing"), words
    if change.lower <= 0:
        verdict, id = Verdict.INCONCLUSIVE, "TL508.not_shown"
        text = (
            "Not shown: with all inputs reordered the same way the error of a small convolution changes by"
            " {change:+.1f} points ({lower:+.1f} to {upper:+.1f}), which may be nothing; that of a dense network by"
            " {dense:+.1f}. {moved}"
        )
    elif change.lower > dense.upper:
        verdict, id = Verdict.DESCRIPTIVE, "TL508.local"
        text = (
            "Yes: with all inputs reordered the same way a small convolution errs {change:.1f} points more ({lower:.1f}"
            " to {upper:.1f}); a dense network, which has no neighbourhoods to lose, {dense:+.1f}. {moved}"
        )
    else:
        verdict, id = Verdict.INCONCLUSIVE, "TL508.unclear"
        text = (
            "Unclear: reordering costs a small convolution {change:.1f} points of error ({lower:.1f} to {upper:.1f}),"
            " and the dense control, which should not notice, {dense:+.1f}. {moved}"
        )
    points = {"change": change.value, "lower": change.lower, "upper": change.upper, "dense": dense.value}
    moved = _shift_said(found.transformed.get("shift"))
    return verdict, reason, Message(id, text, **{k: 100 * v for k, v in points.items()}, moved=moved)


def _shift_said(shift: Estimate | None) -> Message:
    if shift is None:
        return Message("TL508.no_shift", "Shifts were not tried.")
    by = 100 * shift.value
    if shift.upper < 0:
        return Message("TL508.shift_helps", "Adding copies shifted by one place helps ({by:+.1f} points).", by=by)
    if shift.lower > 0:
        return Message("TL508.shift_hurts", "Adding copies shifted by one place hurts ({by:+.1f} points).", by=by)
    text = "Adding copies shifted by one place makes no difference that shows ({by:+.1f} points)."
    return Message("TL508.shift_nothing", text, by=by)


def _work(subject: Subject, rung: int | None) -> Work:
    if not subject.has("train") or subject.model is None:
        return Work()
    leaves = [x for x in pytree.tree_leaves(subject.split("train").take([0])) if isinstance(x, Tensor)]
    if not any(x.is_floating_point() and x.ndim in (3, 4) and x.numel() <= WIDEST for x in leaves):
        return Work()  # it will say at once that it has nothing to destroy
    n = min(ROWS, len(subject.split("train"))) * 2 // 3
    return Work(seconds=CELLS * SEEDS * _epochs(n) * (n / BATCH + 1) * STEP)


def _epochs(n: int) -> int:
    return max(EPOCHS, math.ceil(STEPS * BATCH / max(n, 1)))


@probe(code="TL508", needs={Need.TRAIN, Need.MODEL}, cost=_work)
def probe_data_structure(subject: Subject, *, rows: int = ROWS, rng: torch.Generator) -> Result:
    """Do the data have neighbourhoods that a convolution can use?"""
    inputs, targets = _data(subject, rows)
    order = torch.randperm(len(targets), generator=rng)
    cut = 2 * len(order) // 3
    train, held = ((inputs[i], targets[i]) for i in (order[:cut], order[cut:]))
    found = data_structure(
        train, held, symmetries=("shift",), parameters=SIZE,
        budget=Budget(sizes=(cut,), seeds=SEEDS, optimisation=_optimisation(cut)),
    )  # fmt: skip
    chance = 1 - float(torch.bincount(held[1]).max()) / len(held[1])
    verdict, reason, reading = judge(found, chance)
    name = Message("TL508.control", "the same for a dense network")
    return Result(
        estimate=found.scrambled,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(
            Assumption(
                statement=Message("TL508.independent", "training examples are independent draws"),
                status=Status.UNCHECKED,
            ),
            Assumption(
                statement=Message("TL508.small", "small networks trained briefly see the structure that matters"),
                status=Status.UNCHECKED,
            ),
        ),
        controls=(Control(role="init", name=name, estimate=found.dense_scrambled),),
        references=(
            "Zhang, Bengio, Hardt, Recht, Vinyals (2017). Understanding deep learning requires rethinking"
            " generalization. ICLR.",
            "Chen, Dobriban, Lee (2020). A group-theoretic framework for data augmentation. JMLR 21:245.",
        ),
        payload=(found.payload(),),
        settings={
            "rows": len(order), "seeds": SEEDS, "inputs": found.kind, "local error": found.error.value,
            "dense error": found.dense_error.value, "dense change": found.dense_scrambled.value, "chance": chance,
        },
    )  # fmt: skip


def _optimisation(n: int) -> Optimisation:
    return Optimisation(optimizer="adam", lr=1e-2, batch_size=BATCH, epochs=_epochs(n), schedule="cosine")


def _data(subject: Subject, rows: int) -> tuple[Tensor, Tensor]:
    """Distinct training rows as images or sequences with one class each, on the CPU in single precision."""
    split: Split = subject.split("train")
    chosen = split.subset(rows).tolist()
    first = {split.input_hashes[i]: i for i in reversed(chosen)}  # copies would stand on both sides
    batch = split.take(sorted(first.values()))
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(x, Tensor) for x in batch)
    ordered = pair and batch[0].is_floating_point() and batch[0].ndim in (3, 4)
    if not ordered or batch[0][0].numel() > WIDEST:
        text = "the inputs are not images or sequences (of at most {most} numbers) whose order could be destroyed"
        raise UnsuitableError(Message("TL508.unsuitable", text, most=WIDEST))
    classes = pair and batch[1].ndim == 1 and not batch[1].is_floating_point() and bool((batch[1] >= 0).all())
    if not classes or subject.judged.kind != "classification":
        text = "the targets are not one class per example; give a classification task"
        raise UnsuitableError(Message("TL508.no_classes", text))
    if len(batch[1]) < FEWEST:
        text = "{n} training examples are too few to train and judge on; it takes {least}"
        raise UnsuitableError(Message("TL508.few", text, n=len(batch[1]), least=FEWEST))
    inputs: Tensor = batch[0].float()
    if inputs.ndim == 3 and any(isinstance(m, torch.nn.Conv1d) for m in subject.net.modules()):
        inputs = inputs.transpose(1, 2).contiguous()
    return inputs, batch[1].long()
