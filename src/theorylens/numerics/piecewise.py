"""Whether outputs are piecewise linear in each single parameter, read off the autograd graph of a forward pass.

Where they are, the outputs' own second derivatives have zeros on their diagonal, parameter tensor by parameter tensor,
and the trace of a Hessian is that of its Gauss-Newton half.

Method   every node that depends on a parameter must be known: linear, piecewise linear, or a product of factors that
         depend on different parameters. By induction its value is piecewise linear in each parameter tensor, the others
         held fixed: at most one factor of a product moves, and sums and pieces of linear functions stay such
Breaks   nothing silently: an operation that is not in the lists counts as bent
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

_LINEAR = """
    T Transpose Permute Movedim View UnsafeView ReshapeAlias Alias Unsqueeze Squeeze Expand Repeat Slice Select Index
    IndexSelect Gather Cat Stack Split SplitWithSizes UnsafeSplit Unbind Clone ToCopy Sum Mean Neg Add Sub Rsub Flip
    Roll Tril Triu Diagonal Unfold Im2Col Col2Im PixelShuffle PixelUnshuffle ConstantPadNd ReflectionPad1D
    ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D ReplicationPad3D AvgPool2D AvgPool3D
    AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D
    UpsampleLinear1D UpsampleBilinear2D UpsampleBicubic2D UpsampleTrilinear3D Cumsum MaskedFill MaskedSelect Where
    Relu LeakyRelu Hardtanh Threshold Abs Clamp ClampMin ClampMax Hardshrink Softshrink MaxPool2DWithIndices
    MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D Max Min Amax Amin Maximum Minimum Sort Topk Kthvalue
"""
LINEAR = frozenset(_LINEAR.split())  # linear, or piecewise linear in all that they are given together
PRODUCTS: dict[str, tuple[int, ...]] = {
    "Mul": (0, 1), "Mm": (0, 1), "Bmm": (0, 1), "Mv": (0, 1), "Dot": (0, 1), "Linear": (0, 1), "Convolution": (0, 1),
    "PreluKernel": (0, 1), "Addmm": (1, 2), "Addmv": (1, 2), "Baddbmm": (1, 2), "Addbmm": (1, 2), "Addcmul": (1, 2),
    "Trilinear": (0, 1, 2),
}  # which inputs are multiplied  # fmt: skip
QUOTIENTS = frozenset({"Div", "NativeLayerNorm", "NativeGroupNorm", "FusedRmsNorm"})  # linear in all but one input
BATCH_NORMS = frozenset({"NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"})
_NAME = re.compile(r"^(\w+)Backward\d+$")


def bent(outputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> str | None:
    """Name of an operation that may bend ``outputs`` as functions of one of ``parameters``; None where none does.

    >>> layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    >>> bent([layer(x).relu()], list(layer.parameters()))
    >>> bent([layer(x).tanh()], list(layer.parameters()))
    'Tanh'
    >>> bent([layer(layer(x))], list(layer.parameters()))
    'Addmm'
    """
    bits = {id(p): 1 << i for i, p in enumerate(parameters)}
    masks: dict[Any, int] = {}
    for output in outputs:
        if output.grad_fn is None:
            continue
        for node in _after_what_they_use(output.grad_fn, masks):
            inputs = [0 if following is None else masks[following] for following, _ in node.next_functions]
            leaf = getattr(node, "variable", None)
            masks[node] = bits.get(id(leaf), 0) if leaf is not None else _union(inputs)
            if masks[node] and leaf is None and not _stays_linear(node, inputs):
                return _name(node) or type(node).__name__
    return None


def _after_what_they_use(root: Any, done: dict[Any, int]) -> list[Any]:
    """Nodes behind ``root`` that are not done, each after those it uses."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
            continue
        if node in seen or node in done:
            continue
        seen.add(node)
        stack.append((node, True))
        stack.extend((following, False) for following, _ in node.next_functions if following is not None)
    return order


def _stays_linear(node: Any, inputs: list[int]) -> bool:
    name = _name(node)
    if name is None:
        return False
    if name in LINEAR:
        return True
    if name in BATCH_NORMS:  # with stored statistics it is a product of the input with the weight
        return not node._saved_training and not inputs[0] & inputs[1]
    if name in QUOTIENTS:
        fixed = inputs[1] if name == "Div" and len(inputs) > 1 else 0 if name == "Div" else inputs[0]
        return not fixed
    if name == "Embedding":
        return not node._saved_scale_grad_by_freq
    if name in PRODUCTS:
        factors = [inputs[i] for i in PRODUCTS[name] if i < len(inputs)]
        return not any(one & other for one, other in combinations(factors, 2))
    return False


def _name(node: Any) -> str | None:
    """The operation behind a node of torch's own; None for custom functions and for nodes without a number."""
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        return None
    match = _NAME.match(type(node).__name__)
    return match[1] if match else "ToCopy" if type(node).__name__ in ("CopyBackwards", "ToCopyBackward0") else None


def _union(inputs: list[int]) -> int:
    mask = 0
    for each in inputs:
        mask |= each
    return mask
