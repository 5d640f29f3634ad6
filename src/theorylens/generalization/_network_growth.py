"""In how many ways can this very architecture label m points? A bound read off the network, and the VC dimension left.

Method   sign patterns of polynomials, layer by layer: at a stage with N sign tests per example of degree D in W weights
         the regions of weight space multiply by at most min(2^(m N), 2 (2 e m N D / W)^W), for D = 1 by the cells of
         m N hyperplanes
Source   Bartlett, Harvey, Liaw, Mehrabian (2019), JMLR 20(63), theorem 7 and its proof; Warren (1968) in the form of
         Anthony, Bartlett (1999), theorem 8.3
Assumes  architecture fixed before the examples; piecewise polynomial operations only (others are named and refused)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.results import Message

from ._asked import whole
from ._growth import log_sauer_shelah
from ._piecewise import Reading, Stage, Value, first_example
from ._vc_dimension import VcDimension, largest_shattered

_INPUT_PLANE = Message("theorem.feature_rank", "examples with independent last-layer features, shattered by that layer")
_ONE = Message("theorem.none_seen", "no features were given")


@dataclass(frozen=True, kw_only=True)
class NetworkGrowth:
    """A bound on the growth function of a network's answers, ready to be evaluated at any m.

    Attributes
    ----------
    stages
        The sign tests, in order; the last compares the outputs.
    weights, depth, units
        W, the number of stages of weights (degree of the output), U: activation and pooling units.
    outputs
        Scores per example; the answer is their largest, or with one the sign.
    """

    stages: tuple[Stage, ...]
    weights: int
    depth: int
    units: int
    outputs: int

    def __call__(self, m: int) -> float:
        """Bound on the logarithm of the number of ways in which ``m`` points are answered."""
        m = whole("m", m)
        return math.fsum(log_cells(m * s.tests, s.degree, s.weights) for s in self.stages)


def log_cells(polynomials: int, degree: int, variables: int) -> float:
    """Bound on the logarithm of the number of ways in which N polynomials of degree D in W variables are > 0 or not.

    Never over 2^N; 2 (2 e N D / W)^W for N >= W (Warren); for degree 1 the cells of N hyperplanes, the sum of C(N, k)
    over k <= W, after moving each by so little that what is not > 0 becomes < 0.

    >>> round(math.exp(log_cells(3, 1, 10)))
    8
    """
    trivial = polynomials * math.log(2)
    if degree == 0 or variables == 0:
        return 0.0
    if polynomials < variables:
        return trivial
    if degree == 1:
        return log_sauer_shelah(polynomials, variables)
    warren = math.log(2) + variables * math.log(2 * math.e * polynomials * degree / variables)
    return min(trivial, warren)


def network_growth(model: nn.Module, *inputs: Any) -> NetworkGrowth:
    """Growth bound of ``model``, traced on the first row of ``inputs``.

    Known are linear, convolution, embedding and batch norm layers, piecewise linear activations, pooling, sums,
    products, reshapes, however they are wired; batch norm counts two weights per channel.

    Raises
    ------
    UnsuitableError
        An operation that is not piecewise polynomial in the weights, control flow, or several outputs.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> growth = network_growth(net, torch.zeros(1, 4))
    >>> growth.weights, growth.depth, growth.units, round(growth(10) / math.log(2))
    (49, 2, 8, 89)
    """
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        reading = Reading(model, first_example(inputs))
    finally:
        for module, mode in training.items():
            module.training = mode
    value, outputs = reading.output
    return _with_answer(reading.stages, value, outputs)


def piecewise_linear_growth(widths: tuple[int, ...], *, breakpoints: int = 1, bias: bool = True) -> NetworkGrowth:
    """The same from numbers: a fully connected network of ``widths`` inputs, hidden layers, outputs.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> piecewise_linear_growth((4, 8, 1))(100) == network_growth(net, torch.zeros(1, 4))(100)
    True
    """
    if len(widths) < 2:
        raise ValueError(f"a network has inputs and outputs, got widths {widths}")
    sizes = [whole("widths", w) for w in widths]
    stages, weights = [], 0
    for depth, (a, b) in enumerate(itertools.pairwise(sizes), start=1):
        weights += (a + bias) * b
        if depth < len(sizes) - 1:
            stages.append(Stage(f"layer {depth}", b * whole("breakpoints", breakpoints), depth, weights, b))
    return _with_answer(stages, Value(len(sizes) - 1, {"all": weights}), sizes[-1])


def _with_answer(stages: list[Stage], value: Value, outputs: int) -> NetworkGrowth:
    comparisons = outputs * (outputs - 1) // 2 if outputs > 1 else 1
    answer = Stage("answer", comparisons, value.degree, value.size, outputs)
    return NetworkGrowth(
        stages=(*stages, answer), weights=value.size, depth=value.degree, units=sum(s.units for s in stages),
        outputs=outputs,
    )  # fmt: skip


def vc_dimension(model: nn.Module, *inputs: Any, features: Tensor | None = None, bias: bool = True) -> VcDimension:
    """VC dimension of the answers of ``model``; with several classes that of "right or wrong" (graph dimension).

    Upper: the largest number of points that `network_growth` does not exclude from being answered in all ways. Lower,
    with ``features``: activations (n, units) that the last layer, a linear one, sees on some examples; as many examples
    as are linearly independent, with a constant when that layer has a ``bias``, get every labelling from it alone.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> vc_dimension(net, torch.zeros(1, 4)).upper
    695
    """
    growth = network_growth(model, *inputs)
    lower = 0 if features is None else feature_rank(features, bias=bias)
    text = Message("theorem.network_growth", "sign patterns layer by layer (Bartlett, Harvey, Liaw, Mehrabian)")
    return VcDimension(
        lower=lower, upper=largest_shattered(growth), upper_theorem=text,
        lower_theorem=_ONE if features is None else _INPUT_PLANE,
    )  # fmt: skip


def feature_rank(features: Tensor, *, bias: bool = True) -> int:
    """Number of examples, among those given, whose features (with a constant if the layer has a bias) are independent.

    Singular values below 1e-6 of the largest count as zero: what a layer in single precision cannot use is not counted.
    """
    if features.ndim != 2 or not bool(torch.isfinite(features).all()):
        raise ValueError(f"features must be finite, shape (n, units), got shape {tuple(features.shape)}")
    table = features.double()
    if bias:
        table = torch.cat([table, torch.ones(len(table), 1, dtype=torch.float64, device=table.device)], 1)
    values = torch.linalg.svdvals(table)
    return int((values > 1e-6 * values[0]).sum())
