"""From ``(model, data, loss)`` to an objective: the way in for measures that are used without a Subject."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from theorylens.numerics.memory import to_device
from theorylens.numerics.objective import Objective

from ._errors import RefusedError
from ._isolation import modules_in_training
from ._split import Split
from ._subject import BATCH
from ._task import PerExample, Task


def objective(
    model: nn.Module, data: Any, loss: str | nn.Module | PerExample | Task, *, batch_size: int = BATCH
) -> Objective:
    """The loss of ``model`` over ``data`` as a function of its parameters.

    Parameters
    ----------
    model
        Used as it is. Dropout and batch normalisation must be in evaluation mode.
    data
        Anything `Split` takes: ``(x, y)`` tensors, a dataset, a loader.
    loss
        Anything `Task` takes as its loss, or a `Task`.

    Raises
    ------
    RefusedError
        A module in training mode, a parameter that is not finite, no data, or a loss that does not fit.
    """
    if noisy := modules_in_training(model):
        raise RefusedError(f"{', '.join(noisy)} is in training mode, so the loss is not a function; call model.eval()")
    check_finite(model)
    split = Split.of(data)
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    settled = task.settled(model, to_device(split.take(range(min(len(split), 32))), device))
    return Objective(model, split.batches(batch_size), settled.loss_sum, settled.mean)


def check_finite(model: nn.Module) -> None:
    """Refuse a parameter or buffer with a NaN or an infinity, by name."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise RefusedError(
                f"parameter {name} has {bad} values of {tensor.numel()} that are not finite; "
                "load a checkpoint from before the run diverged"
            )
