"""Norms of trained weights that generalisation bounds are made of. Without the bounds' constants: measures, no bounds.

Source   stable rank: Rudelson, Vershynin (2007), J. ACM 54:21; path norm: Neyshabur, Tomioka, Srebro (2015), COLT;
         spectral complexity: Bartlett, Foster, Telgarsky (2017), NeurIPS, theorem 1.1; the norm of a convolution is
         that of the linear map it is, zero padding included
Assumes  for path norm and spectral complexity a chain of layers (nested `nn.Sequential`)
Breaks   rescaling two layers against each other changes single norms; products along the chain and stable ranks stay
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from theorylens.core import rng_for
from theorylens.numerics import eigenvalues

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
LARGEST = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
PASS = (nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
SLOPES = {nn.Sigmoid: 0.25, nn.Tanh: 1.0, nn.ELU: 1.0, nn.Softplus: 1.0, nn.GELU: 1.13, nn.SiLU: 1.1}  # bounds
TOLERANCE = 1e-4  # relative residual of the squared norm of a convolution; the error is of its square


def stable_rank(matrix: Tensor) -> float:
    """Squared Frobenius norm over squared spectral norm: between 1 and the rank, and blind to small singular values.

    >>> stable_rank(torch.diag(torch.tensor([3.0, 4.0])))
    1.5625
    """
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"a matrix is needed, got shape {tuple(matrix.shape)}; use weight.flatten(1)")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("the matrix has entries that are not finite")
    levels = torch.linalg.svdvals(matrix.detach().double())
    if not float(levels[0]) > 0:
        raise ValueError("a matrix of zeros has no stable rank")
    return float((levels / levels[0]).square().sum())


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Weights with two or more axes as matrices, the first axis against the rest, by name."""
    found = {n: p.detach().flatten(1) for n, p in model.named_parameters() if p.ndim >= 2}
    return {n: m for n, m in found.items() if m.numel()}


def squared_path_norm(model: nn.Module, shape: Sequence[int]) -> float:
    """Sum over all paths from inputs and biases to outputs of the product of squared weights.

    One forward pass of ones through the squared weights. Rescaling the layers of a ReLU network without changing its
    function changes nothing.

    Parameters
    ----------
    model
        A chain of linear, convolution, batch-norm (evaluation mode), average-pooling and ReLU layers.
    shape
        Of one input, without the example axis.

    Raises
    ------
    ValueError
        Another kind of layer or container, named.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 3.0]]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> squared_path_norm(net, (2,))
    38.0
    """
    x = torch.ones(1, *shape, dtype=torch.float64, device=_device(model))
    with torch.no_grad():
        for name, layer in chain(model):
            x = _squared(name, layer, x)
    return float(x.sum())


@dataclass(frozen=True, kw_only=True)
class SpectralComplexity:
    """Logarithms to base ten, because products over layers overflow.

    Attributes
    ----------
    spectral
        log10 of the product of the layers' norms and their activations' Lipschitz constants: bounds how much the
        output moves when the input does.
    complexity
        log10 of that product times (sum (‖A^T - M^T‖_{2,1} / ‖A‖)^(2/3))^(3/2); minus infinity when every A is its M.
    norms
        Spectral norm of each layer with weights, by name, as the linear map it is.
    """

    spectral: float
    complexity: float
    norms: dict[str, float]


def spectral_complexity(
    model: nn.Module, shape: Sequence[int], reference: Mapping[str, Tensor] | None = None
) -> SpectralComplexity:
    """The spectral complexity of Bartlett, Foster and Telgarsky, without the constants of their bound.

    Parameters
    ----------
    model
        A chain of linear, convolution, batch-norm (evaluation mode), pooling and 1-Lipschitz activation layers. Every
        A has its weight unrolled as the linear map it is on inputs of this shape.
    shape
        Of one input, without the example axis.
    reference
        M, a state dict fixed before the data were seen: zeros unless given; the initialisation is allowed.

    Raises
    ------
    ValueError
        Another kind of layer or container, a weight of zeros, or a reference that lacks a weight.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> _ = net[0].weight.data.copy_(torch.diag(torch.tensor([3.0, 4.0])))
    >>> found = spectral_complexity(net, (2,))
    >>> round(10**found.spectral, 5), round(10**found.complexity, 5)
    (4.0, 7.0)
    """
    x = torch.zeros(1, *shape, dtype=torch.float64, device=_device(model))
    norms: dict[str, float] = {}
    product, ratios = 0.0, 0.0
    with torch.no_grad():
        for name, layer in chain(model):
            if isinstance(layer, (nn.Linear, *CONV)):
                norm = operator_norm(layer, x)
                key = f"{name}.weight" if name else "weight"
                if not norm > 0:
                    raise ValueError(f"the weight {key} is zero, so ratios to its norm do not exist")
                moved = layer.weight.double() - _reference(reference, key, layer.weight)
                out = _through(layer, x)
                # Every output unit has one row of the unrolled matrix: a filter's norm at each place (less at borders).
                places = out[0].numel() // layer.weight.shape[0]
                ratios += (places * float(moved.flatten(1).norm(dim=1).sum()) / norm) ** (2 / 3)
                norms[key], x = norm, out
                product += math.log10(norm)
            else:
                product += math.log10(_lipschitz(name, layer))
                x = _through(layer, x)
    if not norms:
        raise ValueError("the model has no linear or convolution layer, so there is no norm to take")
    complexity = product + 1.5 * math.log10(ratios) if ratios > 0 else -math.inf
    return SpectralComplexity(spectral=product, complexity=complexity, norms=norms)


def operator_norm(layer: nn.Module, x: Tensor) -> float:
    """Spectral norm of a linear or convolution layer as a map of inputs shaped like ``x`` (1, ...), float64.

    Linear: the largest singular value. Convolution: by Lanczos on A^T A, stride, padding and groups included.
    """
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
    operator = _Gram(layer, x)
    if not bool((layer.weight != 0).any()):  # type: ignore[union-attr]
        return 0.0
    found = eigenvalues(
        operator, 1, tolerance=TOLERANCE, max_steps=min(operator.size, 500),
        generator=rng_for(0, "generalization.operator_norm"),
    )  # fmt: skip
    return math.sqrt(max(0.0, float(found.values[0])))


class _Gram:
    """A^T A of a convolution without its bias, as an operator on flat inputs."""

    def __init__(self, layer: nn.Module, x: Tensor) -> None:
        self._layer, self._shape = layer, x.shape
        self.size, self.dtype, self.device = x.numel(), torch.float64, x.device

    def matvec(self, vector: Tensor, /) -> Tensor:
        with torch.enable_grad():
            x = vector.reshape(self._shape).requires_grad_(True)
            y = _convolved(self._layer, x)
            (found,) = torch.autograd.grad(y, x, y.detach())
        return found.reshape(-1)

    def __matmul__(self, vector: Tensor, /) -> Tensor:
        return self.matvec(vector)


def chain(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of nested `nn.Sequential` in order, by name; refuses a module whose forward pass is not known."""
    if not any(True for _ in model.children()):
        return [("", model)]
    if type(model) is not nn.Sequential:
        name = type(model).__name__
        raise ValueError(f"{name} is no nn.Sequential, so the order and the use of its layers are not known")
    found: list[tuple[str, nn.Module]] = []
    for name, child in model.named_children():
        found += [(f"{name}.{inner}" if inner else name, layer) for inner, layer in chain(child)]
    return found


def _squared(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, *_squares(layer))
    if isinstance(layer, CONV) and layer.padding_mode == "zeros":
        weight, bias = _squares(layer)
        return layer._conv_forward(x, weight, bias)  # type: ignore[no-any-return]
    if isinstance(layer, NORM) and layer.running_var is not None and layer.running_mean is not None:
        scale, shift = _affine(layer)
        sides = (1, -1, *[1] * (x.ndim - 2))
        return x * scale.square().view(sides) + shift.square().view(sides)
    if isinstance(layer, AVERAGE) and _plain_average(layer):
        return layer(x) / _window(layer, x.ndim - 2)  # type: ignore[no-any-return]
    if isinstance(layer, PASS):
        return layer(x) if isinstance(layer, nn.Flatten) else x
    raise ValueError(f"no sum over paths is known through {type(layer).__name__} ({name or 'the model'})")


def _lipschitz(name: str, layer: nn.Module) -> float:
    """Largest factor by which a layer without weight matrix can stretch a difference."""
    if type(layer) in SLOPES:
        return SLOPES[type(layer)]
    if isinstance(layer, PASS) and not (isinstance(layer, nn.LeakyReLU) and layer.negative_slope > 1):
        return 1.0
    if isinstance(layer, AVERAGE) and _plain_average(layer):
        return 1.0
    apart = isinstance(layer, LARGEST) and layer.stride == layer.kernel_size and layer.dilation in (1, (1,), (1, 1))
    if apart:  # windows share no input
        return 1.0
    if isinstance(layer, NORM) and layer.running_var is not None and layer.running_mean is not None:
        return float(_affine(layer)[0].abs().max())
    raise ValueError(f"no Lipschitz constant is known for {type(layer).__name__} ({name or 'the model'})")


def _through(layer: nn.Module, x: Tensor) -> Tensor:
    """The shape behind the layer; values do not matter."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, layer.weight.double())
    if isinstance(layer, CONV):
        return _convolved(layer, x)
    return layer(x) if isinstance(layer, (nn.Flatten, *AVERAGE, *LARGEST)) else x


def _convolved(layer: nn.Module, x: Tensor) -> Tensor:
    return layer._conv_forward(x, layer.weight.detach().double(), None)  # type: ignore[operator, no-any-return]


def _squares(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    return weight.detach().double().square(), None if bias is None else bias.detach().double().square()  # type: ignore[operator]


def _affine(layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Scale and shift of batch normalisation in evaluation mode."""
    assert layer.running_var is not None
    assert layer.running_mean is not None
    inverse = (layer.running_var.double() + layer.eps).rsqrt()
    scale = inverse if layer.weight is None else layer.weight.detach().double() * inverse
    shift = -layer.running_mean.double() * scale
    return scale, shift if layer.bias is None else shift + layer.bias.detach().double()


def _plain_average(layer: nn.Module) -> bool:
    return bool(layer.count_include_pad) and getattr(layer, "divisor_override", None) is None and not layer.ceil_mode


def _window(layer: nn.Module, axes: int) -> int:
    size = layer.kernel_size
    return math.prod(size) if isinstance(size, tuple) else int(size) ** axes  # type: ignore[arg-type]


def _reference(reference: Mapping[str, Tensor] | None, key: str, weight: Tensor) -> Tensor:
    if reference is None:
        return torch.zeros_like(weight, dtype=torch.float64)
    if key not in reference or reference[key].shape != weight.shape:
        raise ValueError(f"the reference has no weight {key} of shape {tuple(weight.shape)}")
    return reference[key].to(weight.device, torch.float64)


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
