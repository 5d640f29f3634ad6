"""What a network answered on a split: the error of every row, and the labels it was compared with. One pass.

Design: certificates need more care than training losses do. A row whose every target is ignored (-100) carries no
error and must not be counted in n; a custom error must stay inside the range it declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.core import Split, Subject, Task, UnsuitableError, zero_one
from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch, fitting, rows, to_device
from theorylens.results import Message

IGNORED = -100  # torch's ignore_index
COMPANY = 32  # rows answered in one batch and, the first half of them, without the other half
ROUNDING = (2e-3, 8.0)  # share of the largest output, or steps of the number format: other batch sizes add otherwise


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """One network on one split.

    Attributes
    ----------
    rows
        Numbers of the rows that carry an error, shape (n,).
    errors
        Their errors inside the task's range, averaged over tokens, float64, shape (n,).
    binary
        Whether each error is 0 or 1 by its construction (not merely in these data).
    labels
        True classes, int64, shape (n, tokens); -100 where there is none. None when targets are not classes.
    columns
        Whether the tokens of ``labels`` are separate yes/no questions rather than repetitions of one.
    targets
        Real-valued targets shaped like the outputs, else None.
    predicted
        The class answered, shape (n,), for plain classification only.
    outputs
        Width of the outputs of one row: the number of classes the network can answer.
    """

    rows: Tensor
    errors: Tensor
    binary: bool
    labels: Tensor | None = None
    columns: bool = False
    targets: Tensor | None = None
    predicted: Tensor | None = None
    outputs: int = 1

    @property
    def classes(self) -> Tensor | None:
        """One true class per row, shape (n,), for plain classification."""
        return self.labels[:, 0] if self.labels is not None and self.predicted is not None else None

    def units(self, split: Split) -> Any:
        """Number of the independent unit of each row that carries an error."""
        return split.unit_numbers[self.rows.numpy()]


def answers(subject: Subject, role: str) -> Answers:
    """The errors of ``subject`` on the split in ``role``.

    Raises
    ------
    UnsuitableError
        When the task has no error, an error is not finite or outside the declared range, or no row has a target.
    """
    if subject.judged.error is None:
        text = "the task is {kind} and states no error to bound; give Task(error=..., error_range=(low, high))"
        raise UnsuitableError(Message("generalization.no_error", text, kind=str(subject.judged.kind)))
    return subject.once(("answers", role), lambda: _answer(subject, role))


def _answer(subject: Subject, role: str) -> Answers:
    task, split = subject.judged, subject.split(role)
    model = subject.model or nn.Identity()
    pieces: list[_Piece] = []
    with subject.studied(), torch.no_grad():
        if subject.model is not None:
            _check_alone(task, model, split, subject.device)
        for batch in split.batches(subject.batch_size):
            pieces += fitting(lambda piece: _judge(task, model, piece), to_device(batch, subject.device))
    count(forwards=len(split))
    errors = torch.cat([p.errors for p in pieces])
    kept = torch.cat([p.counted for p in pieces]).nonzero()[:, 0]
    _check(errors[kept], task.error_range, len(split))
    return Answers(
        rows=kept,
        errors=errors[kept],
        binary=all(p.binary for p in pieces) and task.error_range == (0.0, 1.0),
        labels=_joined([p.labels for p in pieces], kept),
        columns=pieces[0].columns,
        targets=_joined([p.targets for p in pieces], kept),
        predicted=_joined([p.predicted for p in pieces], kept),
        outputs=pieces[0].outputs,
    )


def _check_alone(task: Task, model: nn.Module, split: Split, device: torch.device) -> None:
    """The answer for an example must not change with the others of its batch, or units are not what is bounded."""
    if len(split) < COMPANY:
        return
    many = to_device(split.take(range(COMPANY)), device)
    few = to_device(split.take(range(COMPANY // 2)), device)
    (wide, _), (narrow, _) = task.forward(model, many), task.forward(model, few)
    count(forwards=COMPANY * 3 // 2)
    if not (isinstance(wide, Tensor) and isinstance(narrow, Tensor) and wide.is_floating_point()):
        return
    if wide.shape[1:] != narrow.shape[1:] or len(wide) != COMPANY or len(narrow) != COMPANY // 2:
        return  # padded to another length, or not one answer a row: nothing to compare
    apart = float((wide[: len(narrow)].float() - narrow.float()).abs().max())
    limit = max(ROUNDING[0], ROUNDING[1] * torch.finfo(wide.dtype).eps) * float(narrow.float().abs().max())
    if apart > limit:
        text = (
            "the answer for an example changes with the others of its batch (by {apart:.2g}), so no bound on single "
            "examples holds; normalise with running statistics instead of those of the batch"
        )
        raise UnsuitableError(Message("generalization.company", text, apart=apart))


@dataclass(frozen=True, kw_only=True)
class _Piece:
    errors: Tensor
    counted: Tensor
    binary: bool
    labels: Tensor | None
    columns: bool
    targets: Tensor | None
    predicted: Tensor | None
    outputs: int


def _judge(task: Task, model: nn.Module, batch: Batch) -> _Piece:
    assert task.error is not None
    outputs, targets = task.forward(model, batch)
    n = rows(batch)
    raw = task.error(outputs, targets)
    single = raw.numel() == n
    error = raw.double().reshape(n, -1)
    labels, columns = _labels(outputs, targets, n)
    counted = torch.ones(n, dtype=torch.bool)
    if labels is not None and not columns and task.error is zero_one:
        # `zero_one` gives 0 where there is no target; such tokens leave the mean, such rows leave the sample.
        tokens = (labels != IGNORED).sum(1)
        counted = tokens > 0
        values = error.cpu().sum(1) / tokens.clamp(min=1)
    else:
        values = error.cpu().mean(1)
    plain = labels is not None and labels.shape[1] == 1 and task.kind == "classification"
    return _Piece(
        errors=values,
        counted=counted,
        binary=single and (task.error is zero_one or raw.dtype == torch.bool),
        labels=labels,
        columns=columns,
        targets=_real(outputs, targets) if labels is None else None,
        predicted=_predicted(outputs, targets, n) if plain else None,
        outputs=outputs.shape[1] if isinstance(outputs, Tensor) and outputs.ndim > 1 else 1,
    )


def _labels(outputs: Any, targets: Any, n: int) -> tuple[Tensor | None, bool]:
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return None, False
    one_logit = outputs.numel() == targets.numel()
    if not targets.is_floating_point() and outputs.ndim == targets.ndim + 1 and not one_logit:
        return targets.reshape(n, -1).long().cpu(), False
    if one_logit and bool(((targets == 0) | (targets == 1)).all()):
        return (targets > 0.5).reshape(n, -1).long().cpu(), True
    return None, False


def _real(outputs: Any, targets: Any) -> Tensor | None:
    same = isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.shape == targets.shape
    return targets.cpu() if same else None


def _predicted(outputs: Tensor, targets: Tensor, n: int) -> Tensor:
    chosen = outputs > 0 if outputs.numel() == targets.numel() else outputs.argmax(1)
    return chosen.reshape(n).long().cpu()


def _joined(parts: list[Tensor | None], kept: Tensor) -> Tensor | None:
    """Pieces of one width stacked; None when a piece lacks it or batches were padded to different lengths."""
    present = [p for p in parts if p is not None]
    if len(present) < len(parts) or len({p.shape[1:] for p in present}) > 1:
        return None
    return torch.cat(present)[kept]


def _check(errors: Tensor, error_range: tuple[float, float], n: int) -> None:
    if len(errors) == 0:
        text = "none of the {n} rows has a target to be compared with; give labels"
        raise UnsuitableError(Message("generalization.no_targets", text, n=n))
    if bad := int((~torch.isfinite(errors)).sum()):
        text = "{bad} of {n} errors are not finite; a bound needs every one of them"
        raise UnsuitableError(Message("generalization.not_finite", text, bad=bad, n=n))
    low, high = error_range
    if bool((errors < low).any() or (errors > high).any()):
        text = (
            "errors run from {least:g} to {most:g}, outside the declared range {low:g} to {high:g}; correct error_range"
        )
        values = {"least": float(errors.min()), "most": float(errors.max()), "low": low, "high": high}
        raise UnsuitableError(Message("generalization.out_of_range", text, **values))
