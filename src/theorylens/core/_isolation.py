"""A model lent for study is given back as it was: mode, buffers, gradients, gradient flags, random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ._randomness import global_randomness_kept


@contextmanager
def studied(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode; everything about it and the global random state comes back, also after an error.

    Weights are not copied: nothing in this library writes to the parameters of a model it was lent.
    """
    modes = {module: module.training for module in model.modules()}
    flags = {p: p.requires_grad for p in model.parameters()}
    slopes = {p: p.grad for p in model.parameters()}
    buffers = {name: (b, b.detach().clone()) for name, b in model.named_buffers()}
    try:
        with global_randomness_kept():
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for p, flag in flags.items():
            p.requires_grad_(flag)
        for p, slope in slopes.items():
            p.grad = slope
        with torch.no_grad():
            for buffer, before in buffers.values():
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def modules_in_training(model: nn.Module) -> list[str]:
    """Names of dropout and batch-statistics modules that are in training mode, where they change the answer."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.modules.instancenorm._InstanceNorm)
    return [
        f"{name or 'the model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, kinds) and module.training and getattr(module, "track_running_stats", True)
    ]
