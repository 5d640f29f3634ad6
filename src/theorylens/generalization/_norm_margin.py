"""A margin bound for a trained network from the norms that training found, with every constant in it.

Method   the network divided by the product of its layers' Frobenius norms, or by its path norm, lies in a class fixed
         in advance, whose Rademacher complexity is known; the margin bound is uniform in the margin, so nothing is paid
         for the norms
Source   Golowich, Rakhlin, Shamir (2018), COLT, theorem 1, and for the path norm the argument of their theorem 2;
         Neyshabur, Tomioka, Srebro (2015), COLT; Koltchinskii, Panchenko (2002); Mohri, Rostamizadeh, Talwalkar (2018),
         theorems 5.9 and 9.2
Assumes  architecture fixed before the examples; fully connected layers, ReLU or leaky ReLU
Breaks   nothing; it is vacuous for most networks of more than one layer, and says so
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from theorylens.core import modules_in_training
from theorylens.numerics.label_margins import margins

from ._asked import probability, whole
from ._layer_chain import chain
from ._margin_bound import margin_bound

_LARGEST = 1.0  # of the margins divided by the norms; fixed here, before any data are seen
_TRIED = 200  # margins tried; the bound holds for all at once
_PLAIN = (nn.Flatten, nn.Dropout, nn.Identity)


@dataclass(frozen=True, kw_only=True)
class NormMarginBound:
    """Upper bound on the expected 0-1 error, and what went into it.

    ``product``: of the layers' norms, or the path norm; ``complexity``: of the class of networks for which that is 1,
    on these examples; ``margin``: the best one, in units of the outputs divided by ``product``.
    """

    bound: float
    empirical: float
    gap: float
    margin: float
    product: float
    complexity: float
    depth: int
    vacuous: bool


def golowich(depth: int, points: Tensor) -> float:
    """Bound on the empirical Rademacher complexity of bias-free ReLU networks with Frobenius norms of product 1.

    (sqrt(2 ln 2 depth) + 1) sqrt(sum |x_i|^2) / m for ``depth`` layers of weights, the last with one output; for a
    single layer the ball's own sqrt(sum |x_i|^2) / m.
    """
    depth = _checked(depth, points)
    factor = 1.0 if depth == 1 else math.sqrt(2 * math.log(2) * depth) + 1
    return factor * float(points.double().norm()) / len(points)


def path_complexity(depth: int, points: Tensor) -> float:
    """Bound on the empirical Rademacher complexity of bias-free ReLU networks whose path norm is 1.

    The path norm sums |product of the weights| over all paths. sqrt(2 (depth ln 2 + ln d) max_j sum_i x_ij^2) / m for
    ``depth`` layers of weights and d inputs. Such a network can be rescaled so that the weights into every unit have
    absolute values that sum to 1 at most: then exp(c sup |sum of signs times outputs|) at most doubles, in the mean,
    from each layer to the next, and at the inputs it is below 2 d exp(c^2 max_j sum_i x_ij^2 / 2).

    >>> round(path_complexity(1, torch.eye(4)), 6)
    0.509833
    """
    depth = _checked(depth, points)
    longest = float(points.double().square().sum(0).max())
    return math.sqrt(2 * (depth * math.log(2) + math.log(points.shape[1])) * longest) / len(points)


def _checked(depth: int, points: Tensor) -> int:
    depth = whole("depth", depth)
    if points.ndim != 2 or not points.numel() or not bool(torch.isfinite(points).all()):
        raise ValueError(f"points must be a matrix of finite numbers with a row each, got shape {tuple(points.shape)}")
    return depth


def norm_margin_bound(
    model: nn.Module, inputs: Tensor, targets: Tensor, delta: float, *, norm: str = "frobenius"
) -> NormMarginBound:  # fmt: skip
    """Bound on the expected error of a fully connected classifier from its training examples.

    Parameters
    ----------
    model
        A chain of linear layers with ReLU or leaky ReLU between them. A bias is a weight of a constant input 1, which
        each hidden layer passes on: its norm is the root of |W|^2 + |b|^2 + 1 (of |W|^2 where no layer has a bias). Of
        the last layer the longest row counts.
    inputs, targets
        The training examples (m, ...), flattened; class numbers, or with one output 0 and 1.
    norm
        ``"frobenius"``, the product over layers with `golowich`, or ``"path"``, the largest sum over the paths to one
        output of |product of the weights| with `path_complexity`; biases begin paths at the constant. Taking the
        smaller of the two bounds costs a union: give each half of delta.

    Raises
    ------
    ValueError
        Another kind of layer, no linear layer, a network that answers 0 always, shapes that do not fit, or an unknown
        norm.
    """
    probability("delta", delta)
    if noisy := modules_in_training(model):
        raise ValueError(f"{', '.join(noisy)} is in training mode, so the answers are not settled; call model.eval()")
    if norm not in ("frobenius", "path"):
        raise ValueError(f"norm must be 'frobenius' or 'path', got {norm!r}")
    linear = _linear(model)
    product, depth = (_path_norm if norm == "path" else _product)(linear), len(linear)
    if not 0 < product < math.inf:
        raise ValueError(f"the product of the layers' norms is {product}; the bound needs it positive and finite")
    points = inputs.detach().flatten(1).double()
    if any(layer.bias is not None for layer in linear):
        points = torch.cat([points, points.new_ones(len(points), 1)], 1)
    complexity = (path_complexity if norm == "path" else golowich)(depth, points)
    with torch.no_grad():
        outputs = model(inputs)
    normed = (margins(outputs, targets) / product).cpu().numpy()
    classes = 2 if outputs.numel() == targets.numel() else int(outputs.shape[1])
    positive = normed[normed > 0]
    top = min(_LARGEST, float(positive.max())) if len(positive) else _LARGEST
    tried = np.geomspace(top * 1e-3, top, _TRIED)
    # With two scores the margin is one function, a difference of two of the class.
    used = 2 * complexity if outputs.numel() != targets.numel() and classes == 2 else complexity
    found = min(
        (margin_bound(normed, float(r), used, delta, largest=_LARGEST, empirical=True, classes=classes) for r in tried),
        key=lambda b: b.bound,
    )
    return NormMarginBound(
        bound=found.bound, empirical=found.empirical, gap=found.gap, margin=found.margin, product=product,
        complexity=complexity, depth=depth, vacuous=found.vacuous,
    )  # fmt: skip


def _linear(model: nn.Module) -> list[nn.Linear]:
    """The layers with weights, input side first; refuses what the theorems are not about."""
    layers = chain(model)
    for name, layer in layers:
        leaky = isinstance(layer, nn.LeakyReLU) and 0 <= layer.negative_slope <= 1
        if not (isinstance(layer, (nn.Linear, nn.ReLU, *_PLAIN)) or leaky):
            raise ValueError(
                f"{type(layer).__name__} (at {name}) is not a linear layer, ReLU or leaky ReLU, "
                "and the theorem is about those only"
            )
    linear = [layer for _, layer in layers if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError("the model has no linear layer, so there is no norm to take")
    return linear


def _product(linear: list[nn.Linear]) -> float:
    """Product of the Frobenius norms of the layers in the network without biases."""
    product, passed = 1.0, 1.0 if any(layer.bias is not None for layer in linear) else 0.0
    for layer in linear[:-1]:
        product *= math.sqrt(_square(layer.weight) + (_square(layer.bias) if layer.bias is not None else 0.0) + passed)
    last = linear[-1].weight.detach().double().square().sum(1)
    if linear[-1].bias is not None:
        last = last + linear[-1].bias.detach().double().square()
    return product * math.sqrt(float(last.max()))


def _path_norm(linear: list[nn.Linear]) -> float:
    """Largest path norm of an output: absolute weights applied to ones, the constant passed on beside them."""
    first = linear[0].weight
    paths = torch.ones(first.shape[1], dtype=torch.float64, device=first.device)
    for layer in linear:
        paths = layer.weight.detach().double().abs() @ paths
        if layer.bias is not None:
            paths = paths + layer.bias.detach().double().abs()
    return float(paths.max())


def _square(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().sum())
