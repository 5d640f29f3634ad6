"""By how much can one layer stretch a difference: operator norms of linear layers, Lipschitz constants of the others.

Method   a convolution, its transpose and average pooling are linear maps of inputs of one shape: their largest singular
         value by Lanczos on A^T A, with stride, padding, dilation and groups as they are
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.core import rng_for
from theorylens.numerics import eigenvalues

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
LARGEST = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
PASS = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
STEPS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)  # piecewise linear through zero
SLOPES = {
    nn.Sigmoid: 0.25,
    nn.Tanh: 1.0,
    nn.Softplus: 1.0,
    nn.CELU: 1.0,
    nn.SELU: 1.7582,
    nn.ReLU6: 1.0,
    nn.Softsign: 1.0,
    nn.LogSigmoid: 1.0,
    nn.GELU: 1.13,
    nn.SiLU: 1.1,
    nn.Mish: 1.09,
    nn.Hardswish: 1.5,
    nn.Hardsigmoid: 1 / 6,
}  # fmt: skip - largest slopes, rounded up
TOLERANCE = 1e-4  # relative residual of the squared norm of a convolution; the error is of its square


def operator_norm(layer: nn.Module, x: Tensor) -> float:
    """Spectral norm of a layer as a linear map of inputs shaped like ``x`` (1, ...), without its bias.

    Parameters
    ----------
    layer
        Linear: the largest singular value of its weight. Convolution, transposed convolution, average pooling: that of
        the map it is, stride, padding, dilation and groups included.
    x
        Any values; float64.

    Raises
    ------
    ValueError
        Another kind of layer.
    """
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    if isinstance(layer, (*CONV, *TRANSPOSED)):
        if not bool((layer.weight != 0).any()):
            return 0.0
    elif isinstance(layer, (*AVERAGE, *ADAPTIVE)):
        x = x[:, :1]  # every channel has the same map
    else:
        raise ValueError(f"{type(layer).__name__} is no linear map with a known norm")
    operator = _Gram(lambda v: linear_part(layer, v), x.double())
    found = eigenvalues(
        operator, 1, tolerance=TOLERANCE, max_steps=min(operator.size, 500),
        generator=rng_for(0, "generalization.operator_norm"),
    )  # fmt: skip
    return math.sqrt(max(0.0, float(found.values[0])))


def linear_part(layer: nn.Module, x: Tensor, change: Callable[[Tensor], Tensor] = lambda w: w) -> Tensor:
    """What a layer does to float64 inputs without its bias, its weight replaced by ``change`` of it."""
    if isinstance(layer, (nn.Linear, *CONV, *TRANSPOSED)):
        return with_weight(layer, x, change(layer.weight.detach().double()), None)
    return layer(x)  # type: ignore[no-any-return]


def with_weight(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer or a convolution with another weight and bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, CONV):
        return layer._conv_forward(x, weight, bias)  # type: ignore[no-any-return]
    assert isinstance(layer, TRANSPOSED)
    call: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[TRANSPOSED.index(_kind(layer))]
    found: Tensor = call(
        x, weight, bias, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    )  # fmt: skip
    return found


def lipschitz(name: str, layer: nn.Module, x: Tensor) -> float:
    """Largest factor by which a layer without weight matrix can stretch a difference of inputs shaped like ``x``."""
    if type(layer) in SLOPES:
        return SLOPES[type(layer)]
    if isinstance(layer, (*PASS, nn.ReLU)):
        return 1.0
    if isinstance(layer, (nn.LeakyReLU, nn.ELU)):
        return max(1.0, abs(layer.negative_slope if isinstance(layer, nn.LeakyReLU) else layer.alpha))
    if isinstance(layer, nn.PReLU):
        return max(1.0, float(layer.weight.detach().abs().max()))
    if isinstance(layer, (*AVERAGE, *ADAPTIVE)):
        return operator_norm(layer, x)
    if isinstance(layer, LARGEST):
        return math.sqrt(_windows(layer, x.ndim - 2))
    if isinstance(layer, NORM) and layer.running_var is not None and layer.running_mean is not None:
        return float(affine(layer)[0].abs().max())
    raise ValueError(f"no Lipschitz constant is known for {type(layer).__name__} ({name or 'the model'})")


def affine(layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Scale and shift of batch normalisation in evaluation mode."""
    assert layer.running_var is not None
    assert layer.running_mean is not None
    inverse = (layer.running_var.double() + layer.eps).rsqrt()
    scale = inverse if layer.weight is None else layer.weight.detach().double() * inverse
    shift = -layer.running_mean.double() * scale
    return scale, shift if layer.bias is None else shift + layer.bias.detach().double()


def sides(size: Any, axes: int) -> tuple[int, ...]:
    """A kernel size, stride or dilation along every axis."""
    return tuple(int(s) for s in size) if isinstance(size, (tuple, list)) else (int(size),) * axes


def _windows(layer: nn.Module, axes: int) -> int:
    """In how many windows one input of a pooling layer can be the largest."""
    kernel, dilation = sides(layer.kernel_size, axes), sides(layer.dilation, axes)
    stride = sides(layer.stride if layer.stride is not None else layer.kernel_size, axes)
    return math.prod(-(-k // (s // math.gcd(s, d))) for k, s, d in zip(kernel, stride, dilation, strict=True))


def _kind(layer: nn.Module) -> type[nn.Module]:
    return next(kind for kind in TRANSPOSED if isinstance(layer, kind))


class _Gram:
    """A^T A of a linear map, as an operator on flat inputs."""

    def __init__(self, apply: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self._apply, self._shape = apply, x.shape
        self.size, self.dtype, self.device = x.numel(), torch.float64, x.device

    def matvec(self, vector: Tensor, /) -> Tensor:
        with torch.enable_grad():
            x = vector.reshape(self._shape).requires_grad_(True)
            y = self._apply(x)
            (found,) = torch.autograd.grad(y, x, y.detach())
        return found.reshape(-1)

    def __matmul__(self, vector: Tensor, /) -> Tensor:
        return self.matvec(vector)
