"""Counting: what a convolution saves over a dense map between the same shapes, and by which of its two assumptions.

Method   shapes taken from one real forward pass; parameters, connections and multiplications counted
Source   Goodfellow, Bengio, Courville (2016). Deep Learning, chapter 9 (sparse connections, shared weights)
Assumes  the dense map of comparison joins every input to every output of the same shapes, with a bias if there is one
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.results import Message, Table

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class ConvolutionCount:
    """One convolution beside the dense map between the same shapes.

    Attributes
    ----------
    name, shape_in, shape_out
        The module; (channels, spatial axes ...) before and after.
    parameters, dense
        Numbers to learn: of the convolution, of the dense map.
    connections
        Share of the input *places* that one output place is joined to: window places over all places. Channels are
        not space: a convolution joins all of them (divided by ``groups``).
    sharing
        How often each weight is used per input: the number of output places.
    macs
        Multiply-accumulate operations for one input.
    """

    name: str
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    parameters: int
    dense: int
    connections: float
    sharing: int
    macs: int


def convolution_counts(model: nn.Module, input_shape: Sequence[int]) -> tuple[ConvolutionCount, ...]:
    """Every convolution module that one forward pass of ``model`` on zeros of ``input_shape`` uses, in that order.

    Parameters
    ----------
    model
        In evaluation mode; used as it is.
    input_shape
        Shape of one input without the batch axis: (channels, spatial axes ...).

    Raises
    ------
    ValueError
        When no convolution is used: then there is nothing local or shared to count.

    >>> (row,) = convolution_counts(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1)), (3, 32, 32))
    >>> row.parameters, row.dense, row.sharing
    (448, 50348032, 1024)
    """
    found: list[ConvolutionCount] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, CONVOLUTIONS):

            def keep(m: nn.Module, args: tuple[Any, ...], output: Tensor, name: str = name) -> None:
                found.append(_count(name, m, tuple(args[0].shape), tuple(output.shape)))

            handles.append(module.register_forward_hook(keep))
    first = next(model.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            model(torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError(
            "the model uses no convolution module, so nothing is local or shared; give a convolutional network"
        )
    return tuple(found)


def _count(name: str, module: Any, before: tuple[int, ...], after: tuple[int, ...]) -> ConvolutionCount:
    axes = module.weight.ndim - 2
    shape_in, shape_out = before[-axes - 1 :], after[-axes - 1 :]
    places_in, places_out = math.prod(shape_in[1:]), math.prod(shape_out[1:])
    bias = module.bias is not None
    window = [min(k, n) for k, n in zip(module.kernel_size, shape_in[1:], strict=True)]
    return ConvolutionCount(
        name=name,
        shape_in=shape_in,
        shape_out=shape_out,
        parameters=sum(p.numel() for p in module.parameters(recurse=False)),
        dense=math.prod(shape_in) * math.prod(shape_out) + bias * math.prod(shape_out),
        connections=math.prod(window) / places_in,
        sharing=places_out,
        macs=module.weight.numel() * places_out,
    )


def convolution_table(counts: Sequence[ConvolutionCount]) -> Table:
    """The counts as a table to look at."""
    return Table(
        label=Message("convolution.table", "What each convolution saves over a dense map between the same shapes"),
        columns=(
            Message("convolution.layer", "layer"),
            Message("convolution.parameters", "parameters"),
            Message("convolution.dense", "parameters of the dense map"),
            Message("convolution.connections", "places joined, share"),
            Message("convolution.sharing", "uses of each weight"),
        ),
        rows=tuple((c.name, c.parameters, c.dense, c.connections, c.sharing) for c in counts),
    )
