"""Curvature of a layer in units of its own weights: rescaling layers against each other leaves it alone.

Method   trace of R H R with R = (W W')^(1/2) acting on the outputs of the layer: exactly for small layers, with random
         signs for large ones
Source   Petzka, Kamp, Adilova, Sminchisescu, Boley (2021), Relative flatness and generalization, NeurIPS
Assumes  a layer with a weight matrix; a convolution's kernels are the rows of one
Breaks   it needs not be positive away from a minimum
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.numerics.operator import Derived, Operator
from theorylens.numerics.trace import hutchinson
from theorylens.results import Estimate, Exact

DRAWS = 256  # products; a layer of up to as many weights is done exactly


def relative_flatness(
    model: nn.Module, data: Any, loss: Any, *, layer: str | None = None, draws: int = DRAWS, seed: int = 0,
    batch_size: int = 256,
) -> Estimate:  # fmt: skip
    """The sum over pairs of rows s, t of a layer's matrix of (w_s . w_t) tr H_st, H_st being their Hessian block.

    Large is sharp. For a layer with one output it is |w|² tr H.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    layer
        Name of the module whose ``weight`` is meant (or of the parameter itself); the last one with at least two axes
        by default, as the source recommends a layer near the output.
    draws
        Hessian products. With at most as many weights in the layer the answer is exact, else it has a 95 % interval.

    Raises
    ------
    ValueError
        No such layer, or one whose weight has a single axis.

    >>> rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)  # H = 2 X'X / n = diag(1, 4)
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.tensor([[3.0, 0.0]])})
    >>> relative_flatness(net, rows, "mse").value
    45.0
    """
    whole = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    name = _name(whole, layer)
    goal = replace(whole, names=(name,))
    operator = _Weighted(goal.hessian(), goal.parameters[name].detach())
    if operator.size <= draws:
        units = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
        return Estimate(
            value=math.fsum(float(u.double() @ operator.matvec(u).double()) for u in units), uncertainty=Exact()
        )
    return hutchinson(operator, draws, generator=rng_for(seed, "landscape.relative_flatness"))


class _Weighted(Derived):
    """R H R for the Hessian H of one weight, R being the root of W W' on the first axis."""

    def __init__(self, hessian: Operator, weight: Tensor) -> None:
        super().__init__(hessian)
        self._shape = (len(weight), -1)
        rows = weight.reshape(self._shape).double()
        values, axes = torch.linalg.eigh(rows @ rows.T)
        self._root = ((axes * values.clamp_min(0).sqrt()) @ axes.T).to(hessian.dtype)

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._weigh(self._operator.matvec(self._weigh(vector)))

    def _weigh(self, vector: Tensor) -> Tensor:
        weighed: Tensor = self._root @ vector.reshape(self._shape)
        return weighed.reshape(-1)


def _name(goal: Objective, layer: str | None) -> str:
    matrices = [name for name, p in goal.parameters.items() if p.ndim >= 2]
    if layer is None:
        if not matrices:
            raise ValueError("no trainable parameter has two axes, so there is no layer to measure")
        return matrices[-1]
    found = next((name for name in matrices if name in (layer, f"{layer}.weight")), None)
    if found is None:
        known = ", ".join(name.removesuffix(".weight") for name in matrices)
        raise ValueError(f"there is no layer {layer!r} with a trainable weight matrix; there are {known}")
    return found
