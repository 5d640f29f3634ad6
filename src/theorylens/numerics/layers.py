"""Layers whose Jacobian is known in closed form from what went in and what comes back.

A linear layer or convolution is a product of patches and weights, so its per-example gradient is the product of two
factors, patches ``a`` (n, groups, places, inputs) and output gradients ``g`` (n, k, groups, places, outputs), k being
the number of network outputs. Normalisations scale and shift normalised values, embeddings look rows up.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORMS: tuple[type[nn.Module], ...] = (*_BATCH_NORMS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_KNOWN: tuple[type[nn.Module], ...] = (nn.Linear, *_CONVOLUTIONS, *_NORMS, nn.Embedding)


def has_known_gradient(module: nn.Module) -> bool:
    """Whether the module is exactly a known layer with plain weights of its own: no subclass, no reparametrisation."""
    if type(module) not in _KNOWN or not set(module._parameters) <= {"weight", "bias"}:
        return False
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.scale_grad_by_freq
    if isinstance(module, _BATCH_NORMS):
        return getattr(module, "running_mean", None) is not None and not module.training
    return "weight" in module._parameters


def is_product(module: nn.Module) -> bool:
    """Whether the layer multiplies weights with patches of its input, so that `patches` and `returns` apply."""
    return isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def patches(module: nn.Module, entered: Tensor) -> Tensor:
    """Input of a linear layer or convolution as (n, groups, places, inputs of one output)."""
    if isinstance(module, nn.Linear):
        return entered.reshape(len(entered), 1, -1, module.in_features)
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    windows = F.pad(entered, module._reversed_padding_repeated_twice, mode=mode)
    n, axes = len(entered), len(module.kernel_size)
    for axis in range(axes):
        step, gap = module.stride[axis], module.dilation[axis]
        windows = windows.unfold(2 + axis, gap * (module.kernel_size[axis] - 1) + 1, step)[..., ::gap]
    places = windows.shape[2 : 2 + axes]
    split = windows.reshape(n, module.groups, -1, math.prod(places), math.prod(module.kernel_size))
    return split.transpose(2, 3).reshape(n, module.groups, math.prod(places), -1)


def returns(module: nn.Module, slopes: Tensor) -> Tensor:
    """Output gradients (n, k, *output shape) of a linear layer or convolution as (n, k, groups, places, outputs)."""
    n, k = slopes.shape[:2]
    if isinstance(module, nn.Linear):
        return slopes.reshape(n, k, 1, -1, module.out_features)
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    outputs = module.out_channels // module.groups
    return slopes.reshape(n, k, module.groups, outputs, -1).transpose(3, 4)


def gradient(module: nn.Module, role: str, entered: Tensor, slopes: Tensor) -> Tensor:
    """Per-example, per-output gradient of one parameter of a known layer, shape (n, k, size of the parameter)."""
    n, k = slopes.shape[:2]
    if isinstance(module, nn.Embedding):
        return _lookup_gradient(module, entered, slopes)
    if is_product(module):
        g = returns(module, slopes)
        if role == "bias":
            return g.sum(3).reshape(n, k, -1)
        a = patches(module, entered).to(g.dtype)
        return torch.einsum("nkgto,ngtp->nkgop", g, a).reshape(n, k, -1)
    values = slopes if role == "bias" else slopes * normalised(module, entered).to(slopes.dtype).unsqueeze(1)
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return values.reshape(n, k, -1, math.prod(module.normalized_shape)).sum(2)
    return values.reshape(n, k, values.shape[2], -1).sum(3)


def normalised(module: nn.Module, entered: Tensor) -> Tensor:
    """What a normalisation multiplies with its weight."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(entered, module.normalized_shape, None, None, module.eps)
    if isinstance(module, nn.RMSNorm):
        return F.rms_norm(entered, module.normalized_shape, None, module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(entered, module.num_groups, None, None, module.eps)
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    return F.batch_norm(entered, module.running_mean, module.running_var, None, None, False, 0.0, module.eps)


def _lookup_gradient(module: nn.Embedding, index: Tensor, slopes: Tensor) -> Tensor:
    n, k = slopes.shape[:2]
    place = index.reshape(n, 1, -1, 1)
    g = slopes.reshape(n, k, -1, module.embedding_dim)
    if module.padding_idx is not None:
        g = g * (place != module.padding_idx)
    total = g.new_zeros(n, k, module.num_embeddings, module.embedding_dim)
    return total.scatter_add_(2, place.expand_as(g), g).reshape(n, k, -1)
