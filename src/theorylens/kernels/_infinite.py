"""Kernels of infinitely wide networks: the covariance of their outputs (NNGP) and their tangent kernel (NTK).

Method   S0 = s0^2 x.x' + b0^2, T0 its gradients; then S = sw^2 E[phi phi] + sb^2 and T = (gradients of this layer) +
         T * sw^2 E[phi' phi'], layer by layer, expectations over the Gaussian of the layer before
Source   Jacot, Gabriel, Hongler (2018), NeurIPS; Lee et al. (2018), ICLR; Lee et al. (2019), NeurIPS
Assumes  independent zero-mean weights, width to infinity one layer after the other, no normalisation, no skips
Breaks   at finite width the measured kernel fluctuates by about sqrt(depth / width) around it; in maximal-update
         (muP) or mean-field scaling features move at any width and no kernel describes the limit (`coordinate_check`)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._alignment import Array
from ._duals import Signals, dual

TILE = 256  # rows of a block that stays in the cache
CLOSE = 1e-3  # squared distances below this share of the norms are summed from differences: products lose them


@dataclass(frozen=True, kw_only=True)
class Affine:
    """One affine layer of a wide network.

    Attributes
    ----------
    weight_variance
        Variance of a weight times the fan-in; of the input layer: variance of a weight itself (s_0 squared), so that
        pre-activations have covariance ``weight_variance * x.x' + bias_variance``.
    bias_variance
        Variance of a bias.
    weight_gradient, bias_gradient
        Squared learning rates of weight and bias relative to gradient flow on the network as it is written: what the
        inner product of the layer's inputs (their mean product; of the input layer: x.x') is multiplied by in the
        tangent kernel. None: the tangent-kernel parametrisation, in which they are the variances. In the standard
        parametrisation (torch's) they are the fan-in (input layer: 1) and 1.
    """

    weight_variance: float
    bias_variance: float = 0.0
    weight_gradient: float | None = None
    bias_gradient: float | None = None

    def __post_init__(self) -> None:
        if not (self.weight_variance > 0 and self.weight_variance < float("inf")):
            raise ValueError(f"a weight variance must be positive and finite, got {self.weight_variance}")
        if not 0 <= self.bias_variance < float("inf"):
            raise ValueError(f"a bias variance must be zero or more and finite, got {self.bias_variance}")

    @property
    def gradients(self) -> tuple[float, float]:
        weight = self.weight_variance if self.weight_gradient is None else self.weight_gradient
        return weight, self.bias_variance if self.bias_gradient is None else self.bias_gradient


@dataclass(frozen=True, kw_only=True)
class WideNetwork:
    """A fully connected network of infinite width: ``len(activations)`` hidden layers, one affine layer more.

    Attributes
    ----------
    layers
        From the inputs to the outputs.
    activations
        ``"relu"``, ``"leaky_relu"``, ``"erf"``, ``"gelu"`` and ``"identity"`` in closed form; ``"tanh"``,
        ``"sigmoid"``, ``"silu"``, ``"softplus"`` and ``"gelu_tanh"`` by Hermite series.
    slopes
        Negative slope of each leaky ReLU, None elsewhere; empty when torch's.
    """

    layers: tuple[Affine, ...]
    activations: tuple[str, ...]
    slopes: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.activations:
            raise ValueError("the depth must be at least 1: a wide network needs a hidden layer")
        if len(self.layers) != len(self.activations) + 1:
            raise ValueError(f"{len(self.activations)} activations need one affine layer more, got {len(self.layers)}")
        if self.slopes and len(self.slopes) != len(self.activations):
            raise ValueError(f"{len(self.slopes)} slopes for {len(self.activations)} activations; give one each")
        for activation, slope in zip(self.activations, self.each_slope, strict=True):
            dual(activation, slope)

    @property
    def each_slope(self) -> tuple[float | None, ...]:
        return self.slopes or (None,) * len(self.activations)


@dataclass(frozen=True, kw_only=True, eq=False)
class WideKernels:
    """Covariance of the outputs (``nngp``) and tangent kernel (``ntk``) of one output, (n1, n2) in float64."""

    nngp: Tensor
    ntk: Tensor


def wide_network(
    depth: int,
    activation: str = "relu",
    *,
    weight_variance: float | Sequence[float] = 2.0,
    bias_variance: float | Sequence[float] = 0.0,
    input_scale: float = 1.0,
    input_bias_variance: float = 0.0,
) -> WideNetwork:
    """A wide network of ``depth`` hidden layers in the tangent-kernel parametrisation.

    Parameters
    ----------
    weight_variance, bias_variance
        Of the layer after each activation, sw^2 and sb^2; one for all, or ``depth`` of them.
    input_scale
        s0^2: pre-activations of the first layer have covariance ``input_scale * x.x' + input_bias_variance``. 1 for
        unit vectors; ``sw^2 / d`` when the input layer is like the others.

    Raises
    ------
    ValueError
        A depth below 1, an unknown activation, variances that are not positive or not one per layer.

    >>> unit = torch.eye(2)
    >>> [round(float(wide_kernels(wide_network(depth), unit).ntk[0, 0]), 9) for depth in (1, 2, 3)]
    [2.0, 3.0, 4.0]
    """
    if depth < 1:
        raise ValueError(f"the depth must be at least 1: a wide network needs a hidden layer, got {depth}")
    weights, biases = _each(weight_variance, depth, "weight"), _each(bias_variance, depth, "bias")
    first = Affine(weight_variance=input_scale, bias_variance=input_bias_variance)
    rest = (Affine(weight_variance=w, bias_variance=b) for w, b in zip(weights, biases, strict=True))
    return WideNetwork(layers=(first, *rest), activations=(activation,) * depth)


def wide_kernels(network: WideNetwork, x1: Array, x2: Array | None = None) -> WideKernels:
    """NNGP and tangent kernel of an infinitely wide network between the rows of ``x1`` and of ``x2``.

    Computed in float64 in blocks; without ``x2`` of ``x1`` with itself, of which only half is computed. Rows that are
    zero are allowed. Examples are flattened to vectors.

    Raises
    ------
    ValueError
        Inputs that are not finite or of different sizes, a variance at which an activation's series does not converge.
    """
    left = _vectors(x1)
    right = left if x2 is None else _vectors(x2)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"the inputs have {left.shape[1]} and {right.shape[1]} features; both need the same number")
    nngp, ntk = (left.new_empty(len(left), len(right)) for _ in range(2))
    for i in _tiles(len(left)):
        for j in _tiles(len(right)):
            if x2 is None and j.start < i.start:
                continue
            nngp[i, j], ntk[i, j] = _block(network, left[i], right[j], same=x2 is None and i == j)
            if x2 is None and j != i:
                nngp[j, i], ntk[j, i] = nngp[i, j].T, ntk[i, j].T
    return WideKernels(nngp=nngp, ntk=ntk)


def _block(network: WideNetwork, x1: Tensor, x2: Tensor, same: bool) -> tuple[Tensor, Tensor]:
    at = _inner(x1, x2, same)
    weight, bias = network.layers[0].gradients
    tangent = weight * at.c + bias
    at = at.scaled(network.layers[0].weight_variance, network.layers[0].bias_variance)
    for layer, activation, slope in zip(network.layers[1:], network.activations, network.each_slope, strict=True):
        at, slopes = dual(activation, slope)(at)
        weight, bias = layer.gradients
        tangent = tangent.mul_(slopes.mul_(layer.weight_variance)).add_(at.c, alpha=weight).add_(bias)
        at = at.scaled(layer.weight_variance, layer.bias_variance)
    if same:
        return (at.c + at.c.T) / 2, (tangent + tangent.T) / 2
    return at.c, tangent


def _inner(x1: Tensor, x2: Tensor, same: bool) -> Signals:
    """Inner products of the inputs, and their squared distances without cancellation."""
    q1, q2, c = x1.square().sum(1), x2.square().sum(1), x1 @ x2.T
    gap = q1[:, None] + q2 - 2 * c
    near = (gap <= CLOSE * (q1[:, None] + q2)).nonzero()
    for rows in torch.split(near, max(1, (1 << 22) // max(1, x1.shape[1]))):
        gap[rows[:, 0], rows[:, 1]] = (x1[rows[:, 0]] - x2[rows[:, 1]]).square().sum(1)
    if same:
        c.diagonal().copy_(q1)
    return Signals(q1, q2, c, gap)


def _vectors(x: Array) -> Tensor:
    found = torch.as_tensor(x).detach().double()
    if found.ndim < 2 or not found.numel():
        raise ValueError(f"inputs must have one row per example, shape (n, d), got {tuple(found.shape)}")
    if not bool(torch.isfinite(found).all()):
        raise ValueError("the inputs have entries that are not finite; remove those examples")
    return found.flatten(1)


def _tiles(n: int) -> list[slice]:
    return [slice(start, min(start + TILE, n)) for start in range(0, n, TILE)]


def _each(given: float | Sequence[float], depth: int, what: str) -> list[float]:
    found = [float(given)] * depth if isinstance(given, int | float) else [float(v) for v in given]
    if len(found) != depth:
        raise ValueError(f"{len(found)} {what} variances for {depth} hidden layers; give one, or one per layer")
    return found
