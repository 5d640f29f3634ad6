"""TL404: the trained network beside its linearisation at the start, output by output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import Need, RefusedError, Subject, UnsuitableError, Work, probe
from theorylens.numerics import count, rows, to_device
from theorylens.results import (
    Assumption,
    Cell,
    Control,
    Estimate,
    Kind,
    Message,
    Payload,
    Points,
    Result,
    Status,
    Table,
    Unknown,
    Verdict,
)

from ._jackknife import with_interval
from ._linearised import Linearised

LIMIT = 256  # rows of each split; each costs about five passes
LINEAR = 0.1  # the linearisation then accounts for 99 % of the squared change of the outputs
CURVED = 0.5  # a quarter of the squared change is not in it
SHOWN = 1000
REFERENCES = (
    "Lee et al. (2019). Wide neural networks of any depth evolve as linear models under gradient descent. NeurIPS.",
    "Chizat, Oyallon, Bach (2019). On lazy training in differentiable programming. NeurIPS.",
)


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs (n, d) in float64 on the same rows, centred over classes; errors per row where the task has one."""

    start: Tensor
    linear: Tensor
    now: Tensor
    errors: dict[str, float]

    @property
    def gap(self) -> float:
        """||now - linear|| / ||now - start||."""
        return float((self.now - self.linear).norm() / (self.now - self.start).norm())

    def without_each(self) -> np.ndarray:
        missed, way = ((a - b).square().sum(1) for a, b in ((self.now, self.linear), (self.now, self.start)))
        left = way.sum() - way
        ratio = (missed.sum() - missed).clamp(min=0) / torch.where(left > 0, left, torch.full_like(left, np.nan))
        found: np.ndarray = ratio.sqrt().numpy()
        return found


def judge(found: Estimate) -> tuple[Verdict, Message, Message]:
    """Words for the gap between network and linearisation, in units of how far training moved them."""
    value = found.value
    if isinstance(found.uncertainty, Unknown):
        reason = Message("TL404.few", "too few rows to tell")
        text = "Undecided: the linearisation misses the outputs by {value:.2g} of the way, on too few rows to tell."
        return Verdict.INCONCLUSIVE, reason, Message("TL404.few_long", text, value=value)
    if found.upper < LINEAR:
        reason = Message("TL404.lazy", "lazy: the linearised network says the same")
        text = (
            "Yes: at the trained weights the linearisation misses the outputs by {value:.2g} of the way training "
            "moved them. Training was lazy: a fixed set of features, those of the start, explains this network."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL404.lazy_long", text, value=value)
    if found.lower > CURVED:
        reason = Message("TL404.rich", "rich: the linearisation does not describe the network")
        text = (
            "No: at the trained weights the linearisation misses the outputs by {value:.2g} of the way training moved "
            "them. The features changed on the way, so theorems about the tangent kernel of the start do not speak "
            "about this network."
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL404.rich_long", text, value=value)
    reason = Message("TL404.between", "between lazy and rich")
    text = (
        "Partly: at the trained weights the linearisation misses the outputs by {value:.2g} of the way training moved "
        "them, between lazy training and new features."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL404.between_long", text, value=value)


def work(subject: Subject) -> Work:
    """Cost of one network: three forwards of a row, one backward pass and one through it."""
    n = sum(min(LIMIT, len(subject.split(role))) for role in _roles(subject))
    return Work(forwards=3.0 * n, gradients=3.0 * n)


@probe(
    code="TL404", needs={Need.MODEL, Need.TRAIN},
    cost=lambda subject, rung: work(subject) * (1 + (subject.shuffled is not None)),
)  # fmt: skip
def probe_linearised(subject: Subject, *, rng: torch.Generator) -> Result:
    """Does the network linearised at its start explain the trained one?

    Distance of the trained outputs from f(x; start) + J(x; start) (weights - start), relative to how far training
    moved them, on at most 256 test rows (training rows where there is no test split).
    """
    del rng  # the rows are keyed by content
    roles = _roles(subject)
    found = {role: compared(subject, role) for role in roles}
    headline = "test" if "test" in found else "train"
    estimate = _estimate(found[headline])
    verdict, reason, reading = judge(estimate)
    assumption = Assumption(
        statement=Message("TL404.a_init", "the initial weights given are those the training started from"),
        status=Status.UNCHECKED,
    )
    payload: tuple[Payload, ...] = (_points(found[headline]), _table(found))
    return Result(
        estimate=estimate, kind=Kind.DESCRIPTION, verdict=verdict, reason=reason, reading=reading,
        assumptions=(assumption,), controls=_controls(subject), references=REFERENCES, payload=payload,
        settings={"split": headline, "rows": len(found[headline].now)},
    )  # fmt: skip


def compared(subject: Subject, role: str) -> Outputs:
    """Outputs of the start, of the linearisation at the trained weights, and of the network, on rows of a split."""
    start = subject.initial()
    if start is None or not start.own:
        text = (
            "a linearisation needs the network's own initial weights; give init= or a checkpoint of step 0 to Subject"
        )
        raise UnsuitableError(Message("TL404.no_init", text))
    before = dict(start.subject.net.state_dict())
    try:
        models = (start.subject.net, Linearised(subject.net, before), subject.net)
        with start.subject.studied():
            outputs, targets = _on(subject, role, models)
    except (RefusedError, ValueError) as error:
        text = "the network has no linearisation here: {why}"
        raise UnsuitableError(Message("TL404.refused", text, why=str(error))) from error
    names, task = ("start", "linear", "now"), subject.judged
    errors: dict[str, float] = {}
    if task.error is not None:
        errors = {n: float(task.error(o, targets).double().mean()) for n, o in zip(names, outputs, strict=True)}
    flat = [_centred(o, task.kind == "classification") for o in outputs]
    if float((flat[2] - flat[0]).norm()) == 0:
        raise UnsuitableError(
            Message("TL404.still", "training did not change the outputs, so there is nothing to explain")
        )
    return Outputs(start=flat[0], linear=flat[1], now=flat[2], errors=errors)


def _on(subject: Subject, role: str, models: tuple[nn.Module, ...]) -> tuple[list[Tensor], Tensor]:
    split, task = subject.split(role), subject.judged
    kept: list[list[Tensor]] = [[] for _ in models]
    targets: list[Tensor] = []
    for index in torch.split(split.subset(LIMIT), subject.batch_size):
        batch = to_device(split.take(index), subject.device)
        for model, own in zip(models, kept, strict=True):
            with torch.no_grad():
                found, target = task.forward(model, batch)
            if not isinstance(found, Tensor):
                raise RefusedError(f"outputs must be one tensor, got {type(found).__name__}")
            own.append(found.detach().cpu())
        targets.append(target.cpu())
        count(forwards=3 * rows(batch), gradients=3 * rows(batch))
    return [torch.cat(own) for own in kept], torch.cat(targets)


def _centred(outputs: Tensor, classes: bool) -> Tensor:
    """Rows of outputs; logits without the constant that a softmax does not see."""
    flat = outputs.double().reshape(len(outputs), -1)
    return flat - flat.mean(1, keepdim=True) if classes and flat.shape[1] > 1 else flat


def _roles(subject: Subject) -> tuple[str, ...]:
    return ("train", "test") if subject.has("test") else ("train",)


def _estimate(found: Outputs) -> Estimate:
    return with_interval(found.gap, found.without_each(), np.zeros(len(found.now), dtype=np.int64), (0.0, np.inf))


def _controls(subject: Subject) -> tuple[Control, ...]:
    """The same gap when the labels were shuffled, if that network came with its own start."""
    other = subject.shuffled
    if other is None or (start := other.initial()) is None or not start.own:
        return ()
    with other.studied():
        estimate = _estimate(compared(other, "test" if other.has("test") else "train"))
    return (Control(role="shuffled", name=Message("TL404.shuffled", "trained on shuffled labels"), estimate=estimate),)


def _points(found: Outputs) -> Points:
    way, linear = ((a - found.start).reshape(-1).numpy() for a in (found.now, found.linear))
    kept = np.linspace(0, len(way) - 1, min(SHOWN, len(way))).round().astype(np.int64)
    return Points(
        label=Message("TL404.points", "Change of each output; on the diagonal the linearisation is right"),
        x=way[kept], y=linear[kept], x_name=Message("TL404.x", "change of the output in training"),
        y_name=Message("TL404.y", "change according to the linearisation"),
    )  # fmt: skip


def _table(found: dict[str, Outputs]) -> Table:
    with_errors = all(outputs.errors for outputs in found.values())
    columns = [Message("TL404.column_split", "split"), Message("TL404.column_gap", "linearisation off by (of the way)")]
    if with_errors:
        columns += [
            Message("TL404.column_start", "error before training"), Message("TL404.column_linear", "its linearisation"),
            Message("TL404.column_now", "the network"),
        ]  # fmt: skip
    rows_: list[tuple[Cell, ...]] = []
    for role, outputs in found.items():
        row: list[Cell] = [role, outputs.gap]
        if with_errors:
            row += [outputs.errors[name] for name in ("start", "linear", "now")]
        rows_.append(tuple(row))
    label = Message("TL404.table", "The network and its linearisation at the trained weights")
    return Table(label=label, columns=tuple(columns), rows=tuple(rows_))
