"""TL403: did training move the tangent kernel, or did the network stay near its linearisation?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Cell,
    Control,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Payload,
    Result,
    Status,
    Table,
    Verdict,
)

from ._jackknife import with_interval
from ._movement import FAR, STILL, Movement, moved
from ._subset import LIMIT, Rows, chosen_rows, kernel_work, tangent_kernel

CHECKPOINTS = 6  # kernels along training; each costs as much as the one at the end
REFERENCES = (
    "Chizat, Oyallon, Bach (2019). On lazy training in differentiable programming. NeurIPS.",
    "Fort et al. (2020). Deep learning versus kernel learning: an empirical study of loss landscape geometry and the "
    "time evolution of the neural tangent kernel. NeurIPS.",
)


def judge(found: Estimate, turn: float) -> tuple[Verdict, Message, Message]:
    """Lazy, in between or far, from the interval of the relative change; always descriptive.

    ``turn`` is the change of direction of the centred kernel.
    """
    if found.upper < STILL:
        reason = Message("TL403.still", "the kernel stayed: training was close to linear")
        text = (
            "Hardly: the tangent kernel changed by {value:.3g} of its initial norm, its centred direction by "
            "{turn:.2g}, so on these rows the network trained nearly like its linearisation at the start."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL403.still_long", text, value=found.value, turn=turn)
    if found.lower > FAR:
        reason = Message("TL403.far", "the kernel moved far from its start")
        text = (
            "Yes, far: the tangent kernel changed by {value:.3g} times its initial norm, so predictions from the "
            "kernel at the start do not describe this training. Its centred direction changed by {turn:.2g} of 1: near "
            "0 it grew or shrank, near 1 other examples are now similar."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL403.far_long", text, value=found.value, turn=turn)
    reason = Message("TL403.between", "the kernel moved, neither lazy nor far")
    text = (
        "Somewhat: the tangent kernel changed by {value:.3g} of its initial norm, its centred direction by {turn:.2g} "
        "of 1, between lazy training and a new kernel."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL403.between_long", text, value=found.value, turn=turn)


@probe(
    code="TL403", needs={Need.MODEL, Need.TRAIN},
    cost=lambda subject, rung: (
        kernel_work(subject, 2 + len(_steps(subject)))
        + Work(flops=8.0 * min(LIMIT, len(subject.split("train"))) ** 3)
    ),
)  # fmt: skip
def probe_movement(subject: Subject, *, rng: torch.Generator) -> Result:
    """Did training change the tangent kernel?

    Relative Frobenius change of the trace kernel on at most 150 training rows, from the network's own initialisation;
    along the checkpoints where there are some.
    """
    del rng  # the rows are keyed by content
    start = subject.initial()
    if start is None or not start.own:
        text = (
            "kernel movement needs the network's own initial weights; give init= or a checkpoint of step 0 to Subject"
        )
        raise UnsuitableError(Message("TL403.no_init", text))
    rows = chosen_rows(subject)
    last = tangent_kernel(subject, rows)
    with start.subject.studied():
        first = tangent_kernel(start.subject, rows)
    if float(first.norm()) == 0 or float(last.norm()) == 0:
        raise UnsuitableError(Message("TL403.zero", "a tangent kernel is zero: no gradient reaches the outputs"))
    change = moved(first, last)
    estimate = with_interval(change.relative, changes_without_each(first, last), rows.strata, (0.0, np.inf))
    verdict, reason, reading = judge(estimate, change.centred_turn)
    payload: list[Payload] = [_table(change, _parameters_moved(subject, start.subject))]
    if steps := _steps(subject):
        payload = [*_along(subject, rows, first, steps), *payload]
    assumption = Assumption(
        statement=Message("TL403.a_init", "the initial weights given are those the training started from"),
        status=Status.UNCHECKED,
    )
    return Result(
        estimate=estimate, kind=Kind.DESCRIPTION, verdict=verdict, reason=reason, reading=reading,
        assumptions=(assumption,), controls=_controls(subject), references=REFERENCES, payload=tuple(payload),
        settings={"rows": len(rows)},
    )  # fmt: skip


def changes_without_each(first: Tensor, last: Tensor) -> np.ndarray:
    """The relative change with each row and column left out: squared norms lose that row and column once."""
    change, start = _squares_without_each(last - first), _squares_without_each(first)
    found: np.ndarray = np.sqrt(change / np.where(start > 0, start, np.nan))
    return found


def _squares_without_each(kernel: Tensor) -> np.ndarray:
    squares = kernel.numpy() ** 2
    left: np.ndarray = squares.sum() - 2 * squares.sum(1) + squares.diagonal()
    return left.clip(min=0)


def _controls(subject: Subject) -> tuple[Control, ...]:
    """The same change when the labels were shuffled, if that network came with its own start."""
    if subject.shuffled is None or (start := subject.shuffled.initial()) is None or not start.own:
        return ()
    rows = chosen_rows(subject.shuffled)
    with subject.shuffled.studied():
        last = tangent_kernel(subject.shuffled, rows)
    with start.subject.studied():
        first = tangent_kernel(start.subject, rows)
    estimate = with_interval(moved(first, last).relative, changes_without_each(first, last), rows.strata, (0.0, np.inf))
    return (Control(role="shuffled", name=Message("TL403.shuffled", "trained on shuffled labels"), estimate=estimate),)


def _parameters_moved(subject: Subject, start: Subject) -> float:
    """Relative change of the trainable parameters in Euclidean norm."""
    before, total, change = dict(start.net.named_parameters()), 0.0, 0.0
    for name, p in subject.net.named_parameters():
        if p.requires_grad and name in before:
            old = before[name].detach().double().cpu()
            total += float((old**2).sum())
            change += float(((p.detach().double().cpu() - old) ** 2).sum())
    return float((change / total) ** 0.5) if total > 0 else float("nan")


def _steps(subject: Subject) -> list[int]:
    """A few checkpoints, evenly spaced in number, the first and the last among them."""
    steps = sorted(subject.checkpoints or ())
    if len(steps) <= CHECKPOINTS:
        return steps
    return [steps[round(i * (len(steps) - 1) / (CHECKPOINTS - 1))] for i in range(CHECKPOINTS)]


def _along(subject: Subject, rows: Rows, first: Tensor, steps: list[int]) -> tuple[Curve, Curve]:
    changes: list[Movement] = []
    for step in steps:
        there = subject.at(step)
        with there.studied():
            changes.append(moved(first, tangent_kernel(there, rows)))
    x = np.array(steps, dtype=np.float64)
    relative = Message("TL403.line_relative", "relative change")
    turn = Message("TL403.line_turn", "one minus cosine of the centred kernels")
    at = Message("TL403.step", "training step")
    size = Curve(
        label=Message("TL403.curve", "Change of the tangent kernel since initialisation, in units of its norm there"),
        lines=(Line(x=x, y=np.array([m.relative for m in changes]), name=relative),),
        x_name=at, y_name=relative,
    )  # fmt: skip
    direction = Curve(
        label=Message("TL403.curve_turn", "Change of direction of the centred tangent kernel since initialisation"),
        lines=(Line(x=x, y=np.array([m.centred_turn for m in changes]), name=turn),),
        x_name=at, y_name=turn,
    )  # fmt: skip
    return size, direction


def _table(change: Movement, parameters: float) -> Table:
    columns = (Message("TL403.column_what", "what"), Message("TL403.column_value", "change"))
    rows: list[tuple[Cell, ...]] = [
        (Message("TL403.row_relative", "kernel, relative Frobenius norm"), change.relative),
        (Message("TL403.row_turn", "kernel, one minus cosine"), change.turn),
        (Message("TL403.row_centred", "centred kernel, one minus cosine"), change.centred_turn),
        (Message("TL403.row_parameters", "trainable parameters, relative Euclidean norm"), parameters),
    ]
    return Table(label=Message("TL403.table", "How far training went"), columns=columns, rows=tuple(rows))
