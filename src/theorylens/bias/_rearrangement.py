"""Does the order of the input units (pixels, steps, tokens) matter, and do decisions bear flips and turns?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.numerics.counting import count
from theorylens.numerics.memory import fitting, part, rows, to_device
from theorylens.results import (
    Assumption,
    Cell,
    Estimate,
    Intervals,
    Kind,
    Message,
    Payload,
    Result,
    Status,
    Table,
    Verdict,
)

from ._equivariance import disagreement
from ._images import role_of
from ._permutation import rounding as rounding_of
from ._symmetry import SQUARE, TURNS, relative_distance

ROWS = 300
CHANGES = 7  # rearrangements at most
BATCH = 256
ORDER = "random order"


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What the network says about the same rows under one rearrangement."""

    outputs: Tensor
    decided: Tensor
    errors: Tensor


def judge(
    estimate: Estimate, control: Estimate | None, distance: float, rounding: float, decided: int
) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading: share of decisions a random order changes, relative change of the outputs."""
    share = estimate.value
    if decided == 1:
        reason = Message("TL507.one_class", "the network gives all inputs one class, which no order can change")
        return Verdict.INCONCLUSIVE, reason, reason
    if distance <= rounding:
        reason = Message("TL507.invariant", "the outputs do not depend on the order of the units")
        text = (
            "No: in any order that was tried the outputs are the same up to rounding. The network sees its input as a"
            " set."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL507.set", text)
    reason = Message("TL507.found", "a random order of the units changes {share:.1%} of the decisions", share=share)
    if control is None:
        beside = Message("TL507.alone", "There is no untrained network to compare with.")
    elif estimate.lower <= control.upper and control.lower <= estimate.upper:
        text = "The untrained network changes {control:.1%}, no different within the error."
        beside = Message("TL507.same", text, control=control.value)
    else:
        beside = Message("TL507.changed", "The untrained network changes {control:.1%}.", control=control.value)
    text = (
        "Yes: in a random order of its units {share:.1%} of the inputs get another class (95 % interval {lower:.1%} to"
        " {upper:.1%}). {beside}"
    )
    reading = Message(
        "TL507.reading", text, share=share, lower=estimate.lower, upper=estimate.upper, beside=beside
    )  # fmt: skip
    return Verdict.DESCRIPTIVE, reason, reading


def _work(subject: Subject, rung: int | None) -> Work:
    if not subject.roles:
        return Work()
    n = min(ROWS, len(subject.split(role_of(subject))))
    return Work(forwards=(CHANGES + 1.0) * n * (2 + (subject.shuffled is not None)))


@probe(code="TL507", needs={Need.MODEL}, cost=_work)
def probe_permutation(subject: Subject, *, rows: int = ROWS, rng: torch.Generator) -> Result:
    """Does the order of the input units matter to the network?"""
    if not subject.roles:
        text = "there are no data to run the network on; give train= or test= to Subject"
        raise UnsuitableError(Message("TL507.no_data", text))
    role = role_of(subject)
    if subject.judged.kind != "classification":
        text = "the network does not choose between classes, so no decision can change; give a classification task"
        raise UnsuitableError(Message("TL507.no_decision", text))
    split = subject.split(role)
    batch = split.take(split.subset(rows))
    units, axis = _units(batch, subject.net)
    changed = {name: change(units) for name, change in _changes(units, axis, rng).items()}
    original = _answers(subject, batch, units, units)

    def shares(other: Subject) -> dict[str, Estimate]:
        before = original if other is subject else _answers(other, batch, units, units)
        return {
            name: disagreement(_answers(other, batch, units, x).decided != before.decided)
            for name, x in changed.items()
        }

    own = shares(subject)
    found: dict[int, dict[str, Estimate]] = {}

    def headline(other: Subject) -> Estimate:
        found[id(other)] = shares(other)
        return found[id(other)][ORDER]

    beside = controls(subject, headline)
    start = next((c.estimate for c in beside if c.role == "init"), None)
    shuffled = _answers(subject, batch, units, changed[ORDER])
    distance = relative_distance(shuffled.outputs, original.outputs)
    rounding = rounding_of(next(subject.net.parameters(), torch.zeros(1)).dtype)
    verdict, reason, reading = judge(own[ORDER], start, distance, rounding, len(torch.unique(original.decided)))
    begun = next(iter(found.values()), None) if start is not None else None
    return Result(
        estimate=own[ORDER],
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(
            Assumption(
                statement=Message("TL507.independent", "the examples are independent draws"), status=Status.UNCHECKED
            ),
        ),
        controls=beside,
        references=(
            "Zaheer, Kottur, Ravanbakhsh, Poczos, Salakhutdinov, Smola (2017). Deep sets. NeurIPS.",
            "Bronstein, Bruna, Cohen, Veličković (2021). Geometric deep learning: grids, groups, graphs, geodesics, and"
            " gauges. arXiv:2104.13478.",
        ),
        payload=_payload(own, begun, {n: _answers(subject, batch, units, x) for n, x in changed.items()}, original),
        settings={"split": role, "rows": len(original.decided), "relative change of the outputs": distance,
                  "units": int(np.prod([units.shape[a] for a in axis]))},
    )  # fmt: skip


def _units(batch: Any, model: nn.Module) -> tuple[Tensor, tuple[int, ...]]:
    """The one input tensor and its axes of units: places of images, steps of sequences, tokens."""
    first = batch[0] if isinstance(batch, tuple | list) and len(batch) > 1 else batch
    leaves = [x for x in pytree.tree_leaves(first) if isinstance(x, Tensor) and x.ndim > 1]
    if len(leaves) == 1:
        x = leaves[0]
        if x.ndim == 4 and x.is_floating_point():
            return x, (2, 3)
        if x.ndim == 3 and x.is_floating_point():
            return x, (2 if _channels_first(model) else 1,)
        if x.ndim == 2 and not x.is_floating_point() and x.dtype != torch.bool:
            return x, (1,)
    text = "the inputs are not one tensor of images, sequences or tokens; features of a vector have no order to change"
    raise UnsuitableError(Message("TL507.unsuitable", text))


def _channels_first(model: nn.Module) -> bool:
    """Whether sequences come as (n, channels, length), as one-dimensional convolutions take them."""
    return any(isinstance(m, nn.Conv1d) for m in model.modules())


def _changes(
    units: Tensor, axis: tuple[int, ...], rng: torch.Generator
) -> Mapping[str, Callable[[Tensor], Tensor]]:  # fmt: skip
    """Rearrangements by name, the random order first: every row gets its own, so that rows are single draws."""
    n, length = len(units), int(np.prod([units.shape[a] for a in axis]))
    orders = torch.stack([torch.randperm(length, generator=rng) for _ in range(n)])

    def shuffle(x: Tensor) -> Tensor:
        last = x.flatten(2) if len(axis) == 2 else x.movedim(axis[0], -1)
        index = orders.reshape(n, *(1,) * (last.ndim - 2), length).expand(last.shape)
        moved = last.gather(-1, index)
        return moved.reshape(x.shape) if len(axis) == 2 else moved.movedim(-1, axis[0])

    if len(axis) == 1:
        return {
            ORDER: shuffle,
            "reversal": lambda x: x.flip(axis[0]),
            "rotation by one": lambda x: x.roll(1, axis[0]),
        }
    square = units.shape[2] == units.shape[3]
    turns = {k: v for k, v in TURNS.items() if square or k not in SQUARE}
    return {ORDER: shuffle, **turns}


def _answers(subject: Subject, batch: Any, old: Tensor, new: Tensor) -> Answers:
    """Outputs, decisions and errors with ``new`` in the place of ``old``."""
    changed = pytree.tree_map(lambda leaf: new if leaf is old else leaf, batch)
    task, net, outputs, errors = subject.judged, subject.net, [], []
    assert task.error is not None

    def run(piece: Any) -> tuple[Tensor, Tensor]:
        found, targets = task.forward(net, piece)
        wrong = task.error(found, targets)  # type: ignore[misc]
        return found.cpu(), wrong.double().reshape(len(found), -1).mean(1).cpu()

    with torch.no_grad():
        for start in range(0, len(new), BATCH):
            piece = to_device(part(changed, start, min(start + BATCH, rows(changed))), subject.device)
            for found, wrong in fitting(run, piece):
                outputs.append(found)
                errors.append(wrong)
    count(forwards=len(new))
    scores = torch.cat(outputs)
    single = scores.ndim == 1 or scores.shape[1] == 1
    decided = (scores.reshape(-1) > 0).long() if single else scores.argmax(1)
    return Answers(outputs=scores.double(), decided=decided, errors=torch.cat(errors))


_WORDS = {
    ORDER: Message("TL507.order", "random order"),
    "reversal": Message("TL507.reversal", "reversal"),
    "rotation by one": Message("TL507.rotation", "rotation by one place"),
    "flip left-right": Message("TL507.flip", "flip left-right"),
    "flip up-down": Message("TL507.upside", "flip up-down"),
    "turn by 180°": Message("TL507.half_turn", "turn by 180°"),
    "turn by 90°": Message("TL507.quarter", "turn by 90°"),
    "turn by 270°": Message("TL507.three_quarters", "turn by 270°"),
    "transpose": Message("TL507.transpose", "transposition"),
}


def _payload(
    own: dict[str, Estimate], begun: dict[str, Estimate] | None, answers: dict[str, Answers], before: Answers
) -> tuple[Payload, ...]:
    names, found, roles = [_WORDS[n] for n in own], list(own.values()), ["network"] * len(own)
    if begun is not None:
        names += [Message("TL507.untrained", "{change}, untrained", change=_WORDS[n]) for n in begun]
        found, roles = [*found, *begun.values()], [*roles, *["init"] * len(begun)]
    forest = Intervals(
        label=Message("TL507.forest", "Share of decisions that each rearrangement changes"),
        names=tuple(names),
        values=np.asarray([e.value for e in found]),
        lower=np.asarray([e.lower for e in found]),
        upper=np.asarray([e.upper for e in found]),
        x_name=Message("TL507.share", "share of decisions changed"),
        roles=tuple(roles),  # type: ignore[arg-type]
    )
    cells: list[tuple[Cell, ...]] = [(Message("TL507.as_is", "as it is"), 0.0, float(before.errors.mean()))]
    cells += [(_WORDS[n], own[n].value, float(a.errors.mean())) for n, a in answers.items()]
    table = Table(
        label=Message("TL507.table", "Decisions and errors under each rearrangement"),
        columns=(
            Message("TL507.change", "rearrangement"),
            Message("TL507.share", "share of decisions changed"),
            Message("TL507.error", "error"),
        ),
        rows=tuple(cells),
    )
    return forest, table
