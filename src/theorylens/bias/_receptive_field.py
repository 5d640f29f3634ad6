"""Receptive field: how much of the input one unit of a convolutional layer can see, by architecture alone.

Method   recursion over what the forward pass really computes: r += (k - 1) j, j *= s, the widest branch wins
Source   Araujo, Norris, Sim (2019). Computing receptive fields of convolutional neural networks. Distill
Assumes  convolution, pooling, padding, slicing, element-wise maps, sums and concatenations of those
Breaks   at attention, resizing, transposed convolution and reshaping: layers after them are not listed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ._windows import Extent, merged, moved


@dataclass(frozen=True, kw_only=True)
class FieldLayer:
    """One convolution or pooling. Along axis a, unit i sees input pixels first[a] + stride[a] * i ... + size[a] - 1."""

    name: str
    kind: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    first: tuple[int, ...]
    shape: tuple[int, ...]

    def seen(self, axis: int, unit: int, length: int) -> tuple[int, int]:
        """First and last input pixel that unit ``unit`` sees along ``axis`` of an input of ``length`` pixels."""
        start = self.first[axis] + self.stride[axis] * unit
        return max(0, start), min(length - 1, start + self.size[axis] - 1)


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """Size and stride of the last convolution or pooling, in input pixels per axis, and the table of all of them."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    layers: tuple[FieldLayer, ...]

    @property
    def last_convolution(self) -> FieldLayer:
        return [layer for layer in self.layers if layer.kind == "convolution"][-1]


def receptive_field(model: nn.Module, input_shape: Sequence[int]) -> ReceptiveField:
    """Theoretical receptive field of every convolution and pooling of ``model``.

    Follows one forward pass on zeros, so residual and parallel branches, dilation, padding and functional calls are
    seen as they are computed; where branches meet, the widest counts. Statistics of normalisation layers reach the
    whole input and are not counted. Pooling down to one unit is not listed: it sees everything.

    Parameters
    ----------
    model
        In evaluation mode; used as it is.
    input_shape
        Shape of one input without the batch axis: (channels, height, width), or (channels, length), or 3-d.

    Raises
    ------
    ValueError
        When the shape has no spatial axis, or no convolution is applied to the input.
    """
    if not 2 <= len(input_shape) <= 4:
        raise ValueError(f"input_shape must be (channels, spatial axes ...), got {tuple(input_shape)}")
    first = next(model.parameters(), torch.zeros(()))
    x = torch.zeros(1, *input_shape, dtype=first.dtype if first.is_floating_point() else None, device=first.device)
    layers = follow(x, lambda: model(x), model)
    if not any(layer.kind == "convolution" for layer in layers):
        raise ValueError(
            "no convolution is applied to the input, so there is no receptive field; give a convolutional network"
        )
    return ReceptiveField(size=layers[-1].size, stride=layers[-1].stride, layers=layers)


def follow(images: Tensor, run: Callable[[], Any], model: nn.Module) -> tuple[FieldLayer, ...]:
    """The windows of ``model`` over ``images`` while ``run`` calls it on them; empty without any."""
    names: list[str] = []
    handles = []

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        names.pop()

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, a, name=name: names.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    mode = _Following(images, names)
    try:
        with torch.no_grad(), mode:
            run()
    finally:
        for handle in handles:
            handle.remove()
    return tuple(mode.layers)


class _Following(TorchFunctionMode):
    """Carries the extent of each tensor that depends on the images through every torch function."""

    def __init__(self, images: Tensor, names: list[str]) -> None:
        super().__init__()
        self.extents: dict[int, Extent | None] = {id(images): Extent.of(images.ndim - 2)}
        self.alive: list[Tensor] = [images]  # an id is only good while its tensor lives
        self.names = names
        self.layers: list[FieldLayer] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        made = _tensors(output)
        sources = [x for x in _tensors((args, tuple((kwargs or {}).values()))) if id(x) in self.extents]
        if not made or not sources:
            return output
        known = merged([self.extents[id(x)] for x in sources])
        name = getattr(func, "__name__", "")
        extent, kind = moved(name, known, sources[0], made[0], args, kwargs or {})
        for image in made:
            self.extents[id(image)] = extent
            self.alive.append(image)
        if extent is not None and kind:
            self._note(kind, extent, made[0])
        return output

    def _note(self, kind: str, extent: Extent, image: Tensor) -> None:
        self.layers.append(
            FieldLayer(
                name=self.names[-1] if self.names else "",
                kind=kind,
                size=extent.size,
                stride=extent.stride,
                first=extent.first,
                shape=tuple(image.shape[2:]),
            )
        )


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [x for item in value for x in _tensors(item)]
    return []
