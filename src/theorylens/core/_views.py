"""How a subject's views are computed: passes over a split that keep losses, outputs or activations."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from theorylens.numerics.counting import count
from theorylens.numerics.memory import Batch, fitting, part, rows, to_device

from ._errors import RefusedError
from ._randomness import global_randomness_kept, key_seed
from ._recipe import Initial
from ._split import Split

if TYPE_CHECKING:
    from ._subject import Subject


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Per row of a split: mean loss, and error when the task has one. Float64 tensors of shape (n,)."""

    losses: Tensor
    errors: Tensor | None


def score(subject: Subject, role: str) -> Scores:
    """Loss and error of every row, each averaged over what counts in it."""
    task, split = subject.judged, subject.split(role)
    model = subject.model or nn.Identity()

    def judge(piece: Batch) -> tuple[Tensor, Tensor | None]:
        outputs, targets = task.forward(model, piece)
        n = rows(piece)
        error = None if task.error is None else task.error(outputs, targets).double().reshape(n, -1)
        if not task.per_example:
            single = [task.losses(*task.forward(model, part(piece, i, i + 1)))[0].double() for i in range(n)]
            return torch.stack(single).reshape(n), None if error is None else error.mean(1)
        values, weights = (x.double().reshape(n, -1) for x in task.losses(outputs, targets))
        total = weights.sum(1)
        total = torch.where(total > 0, total, torch.ones_like(total))
        if error is not None and error.shape == weights.shape and weights.shape[1] > 1:
            error = (error * weights).sum(1) / total  # tokens that do not count are not errors either
        elif error is not None:
            error = error.mean(1)
        return (values * weights).sum(1) / total, error

    losses, errors = [], []
    with subject.studied(), torch.no_grad():
        for batch in split.batches(subject.batch_size):
            for loss, error in fitting(judge, to_device(batch, subject.device)):
                losses.append(loss.cpu())
                if error is not None:
                    errors.append(error.cpu())
    count(forwards=len(split))
    return Scores(losses=torch.cat(losses), errors=torch.cat(errors) if errors else None)


def predict(subject: Subject, role: str, limit: int | None) -> tuple[Tensor, Tensor]:
    """Outputs and targets of the chosen rows, on the CPU."""
    split, task = subject.split(role), subject.judged
    pieces: list[tuple[Tensor, Tensor]] = []
    with subject.studied(), torch.no_grad():
        for batch in chosen(subject, split, limit):
            for outputs, targets in fitting(lambda b: task.forward(subject.model or nn.Identity(), b), batch):
                pieces.append((outputs.cpu(), targets.cpu()))
    count(forwards=len(split) if limit is None else min(limit, len(split)))
    return torch.cat([o for o, _ in pieces]), torch.cat([t for _, t in pieces])


def activations(subject: Subject, layer: str, role: str, limit: int | None) -> Tensor:
    """What a hook on one module sees, a row per example; the last use counts."""
    modules = dict(subject.net.named_modules())
    if layer not in modules:
        raise RefusedError(f"the model has no layer {layer!r}; it has {', '.join(n for n in modules if n)}")
    kept: list[Tensor] = []
    last: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        last[:] = [next(x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)).detach()]

    handle = modules[layer].register_forward_hook(keep)
    try:
        with subject.studied(), torch.no_grad():
            for batch in chosen(subject, subject.split(role), limit):
                subject.judged.forward(subject.net, batch)
                kept.append(last[0].reshape(rows(batch), -1))
                count(forwards=rows(batch))
    finally:
        handle.remove()
    return torch.cat(kept)


def chosen(subject: Subject, split: Split, limit: int | None) -> Iterator[Batch]:
    """Batches of the rows chosen by ``limit``, on the device of the model."""
    if limit is None or limit >= len(split):
        for batch in split.batches(subject.batch_size):
            yield to_device(batch, subject.device)
        return
    for index in chunks(split.subset(limit), subject.batch_size):
        yield to_device(split.take(index), subject.device)


def order_of_use(subject: Subject) -> tuple[str, ...]:
    """Names of the leaf modules in the order in which a forward pass uses them."""
    order: list[str] = []
    handles = []
    for name, module in subject.net.named_modules():
        if name and not any(True for _ in module.children()):
            handles.append(module.register_forward_hook(lambda m, a, o, name=name: order.append(name)))
    split = subject.split(subject.roles[0])
    try:
        with subject.studied(), torch.no_grad():
            subject.judged.forward(subject.net, to_device(split.take(range(min(2, len(split)))), subject.device))
    finally:
        for handle in handles:
            handle.remove()
    return tuple(dict.fromkeys(order))


def find_initial(subject: Subject) -> Initial | None:
    """Look for the network before training: given, checkpoint 0, or re-initialised."""
    if isinstance(subject.init, nn.Module):
        return Initial(subject=subject._with(copy.deepcopy(subject.init).to(subject.device)), own=True)
    if subject.init is not None:
        return Initial(subject=subject._with_state(subject.init), own=True)
    if subject.checkpoints and 0 in subject.checkpoints:
        return Initial(subject=subject.at(0), own=True)
    model = copy.deepcopy(subject.net)
    with global_randomness_kept(key_seed("default init")):
        for module in model.modules():
            own = list(module.parameters(recurse=False))
            if own and not hasattr(module, "reset_parameters"):
                return None
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return Initial(subject=subject._with(model), own=False)


def chunks(index: Tensor, size: int) -> list[Tensor]:
    """Row numbers in batches."""
    return list(torch.split(index, size))
