"""What the network is asked to do: how a batch becomes outputs, what is minimised, what counts as an error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.numerics.memory import Batch, part, rows

from ._errors import RefusedError

Kind = Literal["classification", "regression", "language", "other"]
PerExample = Callable[[Any, Any], Tensor | tuple[Tensor, Tensor]]
Forward = Callable[[nn.Module, Batch], tuple[Any, Any]]


IGNORED = -100  # the target that counts neither as right nor as wrong, as in torch


def call_first(model: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """``model(batch[0])`` against ``batch[1]``: the forward of a batch ``(inputs, targets)``."""
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        shape = f"a {type(batch).__name__}" + (f" with keys {sorted(batch)}" if isinstance(batch, dict) else "")
        raise RefusedError(
            f"a batch is {shape}, not a pair (inputs, targets); say how to use it in two lines:\n"
            "    def forward(model, batch): return model(batch['x']), batch['y']\n"
            "    Subject(model=..., task=Task(forward=forward, loss='cross_entropy'), ...)"
        )
    inputs, targets = batch
    return model(inputs), targets


@dataclass(frozen=True, eq=False)
class Task:
    """How to use a model on a batch, and how its answers are judged.

    Parameters
    ----------
    forward
        ``forward(model, batch) -> (outputs, targets)``.
    loss
        A name (``"cross_entropy"``, ``"binary_cross_entropy"``, ``"mse"``, ``"l1"``), a ``torch.nn`` loss module, or
        ``f(outputs, targets)`` that returns one value per example (or per token), or a pair (values, weights). A
        function that returns one scalar is taken after a check on a batch and its halves.
    error
        ``error(outputs, targets)``: one value per example inside ``error_range``; what certificates bound. For
        classification it is the 0-1 error by default; elsewhere there is none unless stated.
    mean
        Whether training minimises the weighted mean (True) or the sum.
    """

    forward: Forward = call_first
    loss: str | nn.Module | PerExample = "cross_entropy"
    error: Callable[[Any, Any], Tensor] | None = None
    error_range: tuple[float, float] = (0.0, 1.0)
    error_name: str = ""
    kind: Kind | None = None
    mean: bool = True
    _scalar: Literal["mean", "sum"] | None = field(default=None, repr=False)

    def losses(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
        """Values and weights, one per example or token, both flat per example: shapes (n, ...)."""
        values = _NAMED[self.loss](outputs, targets) if isinstance(self.loss, str) else self.loss(outputs, targets)
        return values if isinstance(values, tuple) else (values, torch.ones_like(values))

    def loss_sum(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Weighted sum of the losses of a batch and the sum of the weights: what `numerics.Objective` takes."""
        outputs, targets = self.forward(model, batch)
        if self._scalar is not None:
            value = self.losses(outputs, targets)[0]
            n = rows(batch)
            return (value * n if self._scalar == "mean" else value), torch.tensor(float(n))
        values, weights = self.losses(outputs, targets)
        return (values * weights).sum(), weights.sum()

    @property
    def per_example(self) -> bool:
        """Whether single losses are known, not only their mean over a batch."""
        return self._scalar is None

    @property
    def loss_name(self) -> str:
        if isinstance(self.loss, str):
            return self.loss
        return getattr(self.loss, "__name__", type(self.loss).__name__)

    def settled(self, model: nn.Module, batch: Batch) -> Task:
        """The task with everything that depends on seeing one batch decided.

        Raises
        ------
        RefusedError
            When the outputs do not fit the targets, or a scalar loss is neither a mean nor a sum over examples.
        """
        with torch.no_grad():
            task = self._without_reduction()
            outputs, targets = task.forward(model, batch)
            kind = task.kind or _guess_kind(task.loss, outputs, targets)
            _check_shapes(kind, outputs, targets)
            scalar, mean = task._scalar_reduction(model, batch, outputs, targets)
        error, name = task.error, task.error_name
        if error is None and kind in ("classification", "language"):
            error, name = zero_one, "0-1 loss"
        named = getattr(error, "__name__", "error")
        return Task(
            task.forward, task.loss, error, task.error_range, name or ("error" if named == "<lambda>" else named),
            kind, mean, scalar,
        )  # fmt: skip

    def _without_reduction(self) -> Task:
        """A torch loss module with its reduction taken over by us: per-example values and the module's own weights."""
        if isinstance(self.loss, str):
            if self.loss not in _NAMED:
                raise RefusedError(f"unknown loss {self.loss!r}; known names are {sorted(_NAMED)}, or give a function")
            return self
        if not isinstance(self.loss, nn.Module) or not hasattr(self.loss, "reduction"):
            return self
        forward = self.forward
        single = copy.copy(self.loss)
        if isinstance(single, nn.CrossEntropyLoss | nn.NLLLoss):
            _refuse_lost_smoothing(single)
            if single.ignore_index != IGNORED:
                forward, single.ignore_index = _IgnoringAs(forward, single.ignore_index), IGNORED
        setattr(single, "reduction", "none")  # noqa: B010 - a plain attribute of every torch loss
        mean = self.loss.reduction != "sum"
        return Task(
            forward, _WithWeights(single, averaged=mean), self.error, self.error_range, self.error_name, self.kind,
            mean,
        )  # fmt: skip

    def _scalar_reduction(
        self, model: nn.Module, batch: Batch, outputs: Any, targets: Any
    ) -> tuple[Literal["mean", "sum"] | None, bool]:
        values, _ = self.losses(outputs, targets)
        n = rows(batch)
        if values.ndim > 0 and len(values) == n:
            return None, self.mean
        if values.ndim > 0:
            raise RefusedError(
                f"the loss returned shape {tuple(values.shape)} for {n} examples; return one value per example"
            )
        halves = [part(batch, 0, n - n // 2), part(batch, n - n // 2, n)] if n > 1 else [batch]
        pieces = [self.losses(*self.forward(model, half))[0].double() for half in halves]
        sizes = [rows(half) for half in halves]
        whole = values.double()
        mean = torch.stack([p * s for p, s in zip(pieces, sizes, strict=True)]).sum() / n
        if torch.allclose(mean, whole, rtol=1e-4, atol=1e-7):
            return "mean", True
        if torch.allclose(torch.stack(pieces).sum(), whole, rtol=1e-4, atol=1e-7):
            return "sum", False
        raise RefusedError(
            f"the loss of a batch of {n} is {float(whole):.6g}, neither the mean nor the sum of its halves "
            f"({', '.join(f'{float(p):.6g}' for p in pieces)}); return one value per example, or (values, weights)"
        )


def _refuse_lost_smoothing(loss: nn.Module) -> None:
    weight, smoothing = getattr(loss, "weight", None), getattr(loss, "label_smoothing", 0.0)
    if smoothing > 0 and weight is not None and bool((weight == 0).any()):
        raise RefusedError(
            f"label smoothing {smoothing} with a class of weight 0 adds loss that no example's weight accounts for; "
            "give that class a small weight, or a function that returns (values, weights)"
        )


class _IgnoringAs:
    """A forward whose ignored targets are named as everywhere else in the library."""

    def __init__(self, forward: Forward, ignored: int) -> None:
        self.forward = forward
        self.ignored = ignored

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Any, Any]:
        outputs, targets = self.forward(model, batch)
        return outputs, torch.where(targets == self.ignored, IGNORED, targets)


class _WithWeights(nn.Module):
    """A torch loss without reduction, returning values and the weights its own mean divides by.

    ``averaged``: the loss of an example is the mean over its outputs, as torch's mean over every element; else the sum.
    """

    def __init__(self, loss: nn.Module, *, averaged: bool) -> None:
        super().__init__()
        self.loss = loss
        self.averaged = averaged

    @property
    def __name__(self) -> str:
        return type(self.loss).__name__

    def forward(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        values: Tensor = self.loss(outputs, targets)
        if isinstance(self.loss, nn.CrossEntropyLoss | nn.NLLLoss) and not targets.is_floating_point():
            counted = targets != IGNORED
            weight = self.loss.weight
            share = counted.to(values.dtype) if weight is None else weight[torch.where(counted, targets, 0)] * counted
            # The module multiplied the class weight in already; what is left to average is value / weight.
            return torch.where(share > 0, values / share.clamp(min=1e-30), torch.zeros_like(values)), share
        if values.ndim > 1:  # torch averages, or sums, over every element
            values = values.flatten(1).mean(1) if self.averaged else values.flatten(1).sum(1)
        return values, torch.ones_like(values)


def zero_one(outputs: Any, targets: Any) -> Tensor:
    """1 where the most probable class is not the target (0 where the target is -100), per example or token."""
    if outputs.numel() == targets.numel():  # one logit
        flipped: Tensor = (outputs.reshape(targets.shape) > 0) != (targets > 0.5)
        return flipped.float()
    guess = outputs.argmax(_class_axis(outputs, targets))
    wrong: Tensor = (guess != targets) & (targets != IGNORED)
    return wrong.float()


def _mean_over_outputs(loss: Callable[..., Tensor]) -> PerExample:
    def per_example(outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(outputs.dtype).view_as(outputs) if targets.numel() == outputs.numel() else targets
        each: Tensor = loss(outputs, targets, reduction="none")
        return each.reshape(len(outputs), -1).mean(1)

    return per_example


def _class_axis(outputs: Tensor, targets: Tensor) -> int:
    """Axis 1 as torch has it, or the last as language models have it: (examples, tokens, classes)."""
    return 1 if outputs.shape[2:] == targets.shape[1:] else outputs.ndim - 1


def _cross_entropy(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if not targets.is_floating_point() and outputs.ndim == targets.ndim + 1:
        outputs = outputs.movedim(_class_axis(outputs, targets), 1)
    values = F.cross_entropy(outputs, targets, reduction="none")
    counted = torch.ones_like(values) if targets.is_floating_point() else (targets != IGNORED).to(values.dtype)
    return values, counted


_NAMED: dict[str, Callable[[Any, Any], Any]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _mean_over_outputs(F.binary_cross_entropy_with_logits),
    "mse": _mean_over_outputs(F.mse_loss),
    "l1": _mean_over_outputs(F.l1_loss),
}


def _guess_kind(loss: Any, outputs: Any, targets: Any) -> Kind:
    inner = loss.loss if isinstance(loss, _WithWeights) else loss
    if inner in ("cross_entropy", "binary_cross_entropy") or isinstance(
        inner, nn.CrossEntropyLoss | nn.NLLLoss | nn.BCEWithLogitsLoss
    ):
        return "language" if isinstance(targets, Tensor) and targets.ndim > 1 and not targets.is_floating_point() else (
            "classification" if isinstance(targets, Tensor) else "other"
        )  # fmt: skip
    if inner in ("mse", "l1") or isinstance(inner, nn.MSELoss | nn.L1Loss | nn.SmoothL1Loss | nn.HuberLoss):
        return "regression"
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.ndim == 2 and targets.ndim == 1:
        return "classification" if not targets.is_floating_point() else "other"
    return "other"


def _check_shapes(kind: Kind, outputs: Any, targets: Any) -> None:
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return
    if len(outputs) != len(targets):
        raise RefusedError(
            f"the model returned {len(outputs)} outputs for {len(targets)} targets; both need one row per example"
        )
    if kind == "regression" and outputs.numel() != targets.numel():
        raise RefusedError(
            f"outputs of shape {tuple(outputs.shape)} against targets of shape {tuple(targets.shape)}: torch would "
            "repeat one to match the other; give targets with one value per output"
        )
    if kind != "classification" or targets.is_floating_point() or outputs.ndim != 2 or targets.ndim != 1:
        return
    valid = targets[targets != IGNORED]
    if len(valid) and (int(valid.max()) >= outputs.shape[1] or int(valid.min()) < 0):
        raise RefusedError(
            f"the model has {outputs.shape[1]} outputs, but targets run from {int(valid.min())} to {int(valid.max())}; "
            f"give a model with {int(valid.max()) + 1} outputs, or targets from 0 to {outputs.shape[1] - 1}"
        )
