"""Norms of trained networks that generalisation bounds are made of. Without the bounds' constants: measures, no bounds.

Source   path norm: Neyshabur, Tomioka, Srebro (2015), COLT; spectral complexity: Bartlett, Foster, Telgarsky (2017),
         NeurIPS, theorem 1.1; the norm of a convolution is that of the linear map it is, zero padding included
Assumes  for the spectral complexity a plain chain of layers, for the path norm any graph of the layers named; read off
         the forward pass, whichever way it is written
Breaks   rescaling two layers against each other changes single norms; products along the chain stay
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ._layer_chain import as_module, chain, is_layer, is_size, traced, unwrapped
from ._layer_norms import (
    ADAPTIVE,
    AVERAGE,
    CONV,
    LARGEST,
    NORM,
    PASS,
    STEPS,
    TRANSPOSED,
    affine,
    linear_part,
    lipschitz,
    operator_norm,
    sides,
    with_weight,
)

_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_", operator.sub, torch.sub, "sub"}
_MOVES = {torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze, "view", "reshape", "permute",
          "transpose", "squeeze", "unsqueeze", "contiguous", operator.getitem}  # fmt: skip


def squared_path_norm(model: nn.Module, shape: Sequence[int]) -> float:
    """Sum over all paths from inputs and biases to outputs of the product of squared weights.

    One forward pass of ones through the squared weights. Rescaling the layers of a ReLU network without changing its
    function changes nothing. Where paths meet (residual connections) their squares add up; of the paths into a maximum
    over a pooling window those with the largest sum count.

    Parameters
    ----------
    model
        Linear, convolution, batch-norm (evaluation mode), pooling and ReLU layers in a chain, with residual sums or
        with concatenations.
    shape
        Of one input, without the example axis.

    Raises
    ------
    ValueError
        Another kind of layer or operation, named.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 3.0]]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> squared_path_norm(net, (2,))
    38.0
    """
    x = torch.ones(1, *shape, dtype=torch.float64, device=_device(model))
    model = unwrapped(model)
    with torch.no_grad():
        found = _squared("", model, x) if is_layer(model) else _SquaredPaths(traced(model)).run(x)
    if not isinstance(found, Tensor):
        raise ValueError("the network returns several things; a path norm is of one output")
    return float(found.sum())


@dataclass(frozen=True, kw_only=True)
class SpectralComplexity:
    """Logarithms to base ten, because products over layers overflow.

    Attributes
    ----------
    spectral
        log10 of the product of the layers' norms and the Lipschitz constants of what lies between them: bounds how much
        the output moves when the input does.
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
        A chain of linear, (transposed) convolution, batch-norm (evaluation mode), pooling and activation layers, a
        layer used twice counting twice. Every A is the weight unrolled as the linear map it is on inputs of this shape.
    shape
        Of one input, without the example axis.
    reference
        M, a state dict fixed before the data were seen: zeros unless given; the initialisation is allowed.

    Raises
    ------
    ValueError
        Another kind of layer, a network that is no chain, a weight of zeros, or a reference that lacks a weight.

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
            if isinstance(layer, (nn.Linear, *CONV, *TRANSPOSED)):
                norm = operator_norm(layer, x)
                key = f"{name}.weight" if name else "weight"
                if not norm > 0:
                    raise ValueError(f"the weight {key} is zero, so ratios to its norm do not exist")
                start = _reference(reference, key, layer.weight)
                ratios += (_row_norms(layer, x, start) / norm) ** (2 / 3)
                norms[key], x = norm, linear_part(layer, x)
                product += math.log10(norm)
            else:
                factor = lipschitz(name, layer, x)
                product += math.log10(factor) if factor > 0 else -math.inf
                moves = isinstance(layer, (nn.Flatten, *AVERAGE, *ADAPTIVE, *LARGEST))
                x = layer(x) if moves else x
    if not norms:
        raise ValueError("the model has no linear or convolution layer, so there is no norm to take")
    complexity = product + 1.5 * math.log10(ratios) if ratios > 0 else -math.inf
    return SpectralComplexity(spectral=product, complexity=complexity, norms=norms)


def _row_norms(layer: nn.Module, x: Tensor, start: Tensor) -> float:
    """Sum over output units of the length of their row of the unrolled difference to ``start``; shorter at borders."""
    squares = linear_part(layer, torch.ones_like(x), lambda w: (w - start).square())
    return float(squares.clamp(min=0).sqrt().sum())


class _SquaredPaths(fx.Interpreter):
    """Runs a graph on sums of squared paths instead of values."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # errors say what is wrong, not where in the graph
        self.graph_module, self.sizes = graph, set[fx.Node]()

    def run_node(self, n: fx.Node) -> Any:
        if n.op in ("placeholder", "output"):
            return super().run_node(n)
        if is_size(n, self.sizes):
            self.sizes.add(n)
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op == "call_module" and isinstance(args[0], Tensor) and len(args) == 1:
            return _squared(str(n.target), self.graph_module.get_submodule(str(n.target)), args[0])
        if n.target in _SUMS and len(args) == 2 and all(isinstance(a, Tensor) for a in args) and not kwargs:
            return args[0] + args[1]
        if n.target is torch.cat or n.target in _MOVES:
            return super().run_node(n)
        if n.target in (torch.mean, "mean"):  # of k numbers: the square of 1/k for each
            found = super().run_node(n)
            return found * found.numel() / args[0].numel()
        if n.op == "get_attr":
            raise ValueError(f"{n.target} is used outside of a layer, so the paths through it are not known")
        return _squared(n.name, as_module(n, self.graph_module, self.sizes), args[0])


def _squared(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, (nn.Linear, *CONV, *TRANSPOSED)) and getattr(layer, "padding_mode", "zeros") == "zeros":
        bias = None if layer.bias is None else layer.bias.detach().double().square()
        return with_weight(layer, x, layer.weight.detach().double().square(), bias)
    if isinstance(layer, NORM) and layer.running_var is not None and layer.running_mean is not None:
        scale, shift = affine(layer)
        along = (1, -1, *[1] * (x.ndim - 2))
        return x * scale.square().view(along) + shift.square().view(along)
    if isinstance(layer, AVERAGE) and _plain_average(layer):
        return layer(x) / math.prod(sides(layer.kernel_size, x.ndim - 2))  # type: ignore[no-any-return]
    if isinstance(layer, ADAPTIVE):
        found: Tensor = layer(x)
        return found / _window_sizes(x.shape[2:], found.shape[2:]).to(found)
    steep = isinstance(layer, nn.LeakyReLU) and abs(layer.negative_slope) > 1
    steep = steep or (isinstance(layer, nn.PReLU) and bool((layer.weight.abs() > 1).any()))
    if isinstance(layer, (*PASS, *STEPS, *LARGEST)) and not steep:
        return layer(x) if isinstance(layer, (nn.Flatten, *LARGEST)) else x
    raise ValueError(f"no sum over paths is known through {type(layer).__name__} ({name or 'the model'})")


def _window_sizes(given: Sequence[int], made: Sequence[int]) -> Tensor:
    """How many inputs each output of adaptive average pooling is the mean of."""
    found = torch.ones(())
    for i, o in zip(given, made, strict=True):
        along = torch.tensor([-(-(k + 1) * i // o) - k * i // o for k in range(o)])
        found = found[..., None] * along
    return found


def _plain_average(layer: nn.Module) -> bool:
    return bool(layer.count_include_pad) and getattr(layer, "divisor_override", None) is None and not layer.ceil_mode


def _reference(reference: Mapping[str, Tensor] | None, key: str, weight: Tensor) -> Tensor:
    if reference is None:
        return torch.zeros_like(weight, dtype=torch.float64)
    found = reference.get(key, reference.get(f"_orig_mod.{key}"))
    if found is None or found.shape != weight.shape:
        raise ValueError(f"the reference has no weight {key} of shape {tuple(weight.shape)}")
    return found.to(weight.device, torch.float64)


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
