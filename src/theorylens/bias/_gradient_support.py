"""The receptive field a second time, from gradients: which input pixels can move the centre unit of a layer at all.

Method   all weights positive, normalisation taken out, maxima replaced by means: no two paths can cancel, so the
         gradient of the centre unit is nonzero exactly on the pixels some path reaches
Source   Luo, Li, Urtasun, Zemel (2016). Understanding the effective receptive field. NeurIPS
Assumes  activations with a positive slope at positive inputs
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ._windows import pooling_window

Reach = tuple[tuple[int, int], ...]
NORMS = frozenset({"batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm"})


def gradient_support(model: nn.Module, input_shape: Sequence[int], layer: str) -> tuple[tuple[int, ...], Reach]:
    """Centre unit of module ``layer`` and, per axis, the first and last input pixel it depends on.

    ``model`` is copied, the copy gets positive weights in double precision. ``input_shape`` is one input without the
    batch axis. The reach is cut at the borders of the input.
    """
    twin = _positive(model)
    images = torch.ones(1, *input_shape, dtype=torch.float64, requires_grad=True)
    kept: list[Tensor] = []
    modules = dict(twin.named_modules())
    if layer not in modules:
        raise ValueError(f"the model has no layer {layer!r}; it has {', '.join(n for n in modules if n)}")
    handle = modules[layer].register_forward_hook(lambda m, a, o: kept.append(o))
    try:
        with torch.enable_grad(), _WithoutMaxima():
            twin(images)
    finally:
        handle.remove()
    centre = tuple(n // 2 for n in kept[-1].shape[2:])
    unit = kept[-1].flatten(2)[0, :, _flat(centre, kept[-1].shape[2:])].sum()
    (slope,) = torch.autograd.grad(unit, images)
    touched = slope[0].abs().sum(0) > 0
    return centre, tuple(_ends(touched, axis) for axis in range(touched.ndim))


def _flat(place: Sequence[int], shape: Sequence[int]) -> int:
    flat = 0
    for at, length in zip(place, shape, strict=True):
        flat = flat * length + at
    return flat


def _ends(touched: Tensor, axis: int) -> tuple[int, int]:
    others = tuple(a for a in range(touched.ndim) if a != axis)
    line = touched.any(dim=others) if others else touched
    found = torch.nonzero(line)
    return int(found[0]), int(found[-1])


def _positive(model: nn.Module) -> nn.Module:
    """A double precision copy in which every weight averages and every bias is zero."""
    twin = copy.deepcopy(model).cpu().double().eval()
    with torch.no_grad():
        for name, p in twin.named_parameters():
            fan = p[0].numel() if p.ndim > 1 else 1
            p.fill_(0.0 if name.endswith("bias") else 1.0 / fan)
    return twin


class _WithoutMaxima(TorchFunctionMode):
    """Max pooling as a mean over the same window; normalisation as the identity."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        if name in NORMS:
            return args[0]
        if name.startswith("max_pool"):
            return _mean_pool(args[0], name, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _mean_pool(images: Tensor, name: str, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """The mean over the windows of a max pooling, dilation and ceil mode included, as a depthwise convolution."""
    axes = images.ndim - 2
    kernel, stride, padding, dilation, ceil = pooling_window(name, axes, args, kwargs)
    channels = images.shape[1]
    lengths = [
        _pooled(length, k, s, p, d, ceil)
        for length, k, s, p, d in zip(images.shape[2:], kernel, stride, padding, dilation, strict=True)
    ]
    if ceil:  # a last, partial window: zeros after the end keep its reach
        images = torch.nn.functional.pad(images, [0, max(stride)] * axes)
    weight = torch.ones(channels, 1, *kernel, dtype=images.dtype) / torch.ones(kernel).numel()
    convolve = (torch.conv1d, torch.conv2d, torch.conv3d)[axes - 1]
    pooled: Tensor = convolve(images, weight, None, stride, padding, dilation, channels)
    return pooled[(slice(None), slice(None), *(slice(length) for length in lengths))]


def _pooled(length: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """Number of windows torch makes: with ceil mode a partial last one, if it starts before the right padding."""
    room = length + 2 * padding - dilation * (kernel - 1) - 1
    windows = -(-room // stride) + 1 if ceil else room // stride + 1
    return windows - 1 if ceil and (windows - 1) * stride >= length + padding else windows
