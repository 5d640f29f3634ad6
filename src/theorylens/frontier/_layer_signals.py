"""What one pass forward and back says about each weighted layer: sizes of signals, gradients and weights.

Whether two layers are joined by nothing but an elementwise activation is read off the values: the input of the second
must be the activation of the first's output, and the gradient at the first must be what comes back through the second
alone. So functional activations are found, and skips, normalisation and pooling cannot hide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from theorylens.numerics import Batch, LossSum, count, rows

from ._mean_field import ACTIVATIONS, Elementwise

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
SAME = 1e-4  # relative difference below which two float32 tensors are one


@dataclass(frozen=True, eq=False)
class LayerSignal:
    """One call of a linear layer or convolution.

    Attributes
    ----------
    q
        Mean square of its outputs (pre-activations) for each row.
    gradient
        Squared Euclidean norm of the gradient of the row's loss with respect to these outputs, for each row.
    step
        Name of the activation when nothing else stands between this layer and the next; None otherwise.
    slope
        Slope of a leaky ReLU.
    between
        Kinds of the modules called between this layer and the next, in words.
    taps
        Share of the next layer's kernel that lies inside its input, averaged over places by squared gradient; 1 without
        zero padding.
    """

    name: str
    module: Weighted
    q: NDArray[np.float64]
    gradient: NDArray[np.float64]
    step: str | None
    slope: float
    between: tuple[str, ...]
    taps: float

    @property
    def fan_in(self) -> int:
        return self.module.weight[0].numel()

    @property
    def sigma_w2(self) -> float:
        return float(self.module.weight.detach().double().var(correction=0)) * self.fan_in

    @property
    def sigma_b2(self) -> float:
        return 0.0 if self.module.bias is None else float(self.module.bias.detach().double().var(correction=0))

    @property
    def activation(self) -> Elementwise | None:
        """The function between this layer and the next, None when it is not a plain step."""
        if self.step == "leaky_relu":
            return partial(F.leaky_relu, negative_slope=self.slope)
        return None if self.step is None else ACTIVATIONS[self.step]


@dataclass(eq=False)
class _Call:
    name: str
    module: Weighted
    input: Tensor
    output: Tensor
    after: list[str] = field(default_factory=list)


def layer_signals(model: nn.Module, batch: Batch, loss: LossSum) -> list[LayerSignal]:
    """Signals of every linear layer and convolution of ``model`` on one batch, in the order of use.

    ``loss(model, batch)`` returns the sum of the losses of the rows and the sum of their weights; no row may depend on
    another. Layers that the loss does not reach are left out.
    """
    n = rows(batch)
    with torch.enable_grad(), _recorded(model) as calls:
        total = loss(model, batch)[0]
    calls = [call for call in calls if call.output.requires_grad]
    if not calls:
        return []
    slopes = torch.autograd.grad(total, [call.output for call in calls], retain_graph=True, allow_unused=True)
    count(gradients=n)
    reached = [(call, slope) for call, slope in zip(calls, slopes, strict=True) if slope is not None]
    followers = [*reached[1:], None]
    return [
        LayerSignal(
            call.name, call.module, _by_row(call.output, n, mean=True), _by_row(slope, n, mean=False),
            *_step(call, slope, following), tuple(call.after), 1.0 if following is None else _taps(*following),
        )
        for (call, slope), following in zip(reached, followers, strict=True)
    ]  # fmt: skip


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[_Call]]:
    calls: list[_Call] = []
    handles = [
        module.register_forward_hook(partial(_keep, calls, name))
        for name, module in model.named_modules()
        if isinstance(module, Weighted) or not any(True for _ in module.children())
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _keep(calls: list[_Call], name: str, module: nn.Module, args: Any, output: Any) -> Any:
    if isinstance(module, Weighted) and args and isinstance(output, Tensor):
        calls.append(_Call(name or type(module).__name__, module, args[0].detach().clone(), output))
        return output.clone()  # an in-place activation would overwrite what was recorded
    if calls and not isinstance(module, Weighted):
        calls[-1].after.append(type(module).__name__)
    return None


def _by_row(tensor: Tensor, n: int, *, mean: bool) -> NDArray[np.float64]:
    squares = tensor.detach().double().pow(2).reshape(n, -1)
    found: NDArray[np.float64] = (squares.mean(1) if mean else squares.sum(1)).cpu().numpy()
    return found


def _step(call: _Call, slope: Tensor, following: tuple[_Call, Tensor] | None) -> tuple[str | None, float]:
    """Name of the activation (and slope of a leaky one) when nothing else joins two calls."""
    if following is None or following[0].module is call.module:
        return None, 0.0
    after, back = following
    given, entered = call.output.detach(), after.input
    if given.numel() != entered.numel() or len(given) != len(entered):
        return None, 0.0
    name, leak = _recognised(given.reshape(len(given), -1), entered.reshape(len(entered), -1))
    if name is None:
        return None, 0.0
    (through,) = torch.autograd.grad(after.output, call.output, back, retain_graph=True, allow_unused=True)
    alone = through is not None and _same(through, slope)
    return (name, leak) if alone else (None, 0.0)


def _recognised(x: Tensor, y: Tensor) -> tuple[str | None, float]:
    for name, phi in ACTIVATIONS.items():
        if _same(phi(x), y):
            return name, 0.01 if name == "leaky_relu" else 0.0
    negative = x < 0
    if bool(negative.any()):
        leak = float((y[negative] / x[negative]).double().median())
        if math.isfinite(leak) and _same(F.leaky_relu(x, leak), y):
            return "leaky_relu", leak
    return None, 0.0


def _same(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= SAME * float(b.abs().max())


def _taps(call: _Call, slope: Tensor) -> float:
    """Share of kernel taps that fall on the input rather than on zero padding, where the gradient ``slope`` enters.

    Gradients gather in the middle of padded images, so places count by their squared gradient.
    """
    module = call.module
    if isinstance(module, nn.Linear) or module.padding_mode != "zeros":
        return 1.0
    ones = torch.ones(1, 1, *call.input.shape[2:], dtype=torch.float64)
    kernel = torch.ones(1, 1, *module.kernel_size, dtype=torch.float64)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(module.kernel_size) - 1]
    inside = convolve(ones, kernel, None, module.stride, module.padding, module.dilation)[0, 0] / kernel.numel()
    weight = slope.detach().double().pow(2).sum((0, 1)).cpu()
    return float((inside * weight).sum() / weight.sum()) if float(weight.sum()) > 0 else float(inside.mean())
