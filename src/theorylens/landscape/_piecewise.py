"""When the trace and the diagonal of the Hessian are those of its Gauss-Newton half, exactly.

Method   the graph of every batch (`numerics.bent`), and once the products themselves: within one parameter tensor the
         Hessian and the Gauss-Newton matrix must then be the same block
Source   Schraudolph (2002), Neural Comput. 14:1723: H = G + the outputs' own curvature, whose diagonal is zero where
         the outputs are piecewise linear in each parameter
Assumes  that no activation lies exactly on a kink, where derivatives are torch's choice
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from theorylens.core import Task, rng_for
from theorylens.numerics.graph import nodes
from theorylens.numerics.memory import part
from theorylens.numerics.objective import Objective
from theorylens.numerics.piecewise import bent
from theorylens.numerics.second import second_derivatives

from ._gauss_newton import GaussNewton, settled

ROWS = 16  # of the first batch for the comparison of products
DRAWS = 8  # parameter tensors compared, spread over the network


@dataclass(frozen=True, kw_only=True)
class PiecewiseLinear:
    """Whether outputs are piecewise linear in every single parameter, and what stands in the way.

    Attributes
    ----------
    holds
        Then tr H = tr G and diag H = diag G, exactly.
    obstacle
        The operation that may bend, or what else stands in the way; empty when ``holds``.
    """

    holds: bool
    obstacle: str = ""


def piecewise_linear(
    model: nn.Module, data: Any, loss: Any, *, names: Sequence[str] | None = None, batch_size: int = 256
) -> PiecewiseLinear:
    """Whether a network's outputs are piecewise linear in every single parameter on these data.

    Affine layers, convolutions, ReLU and its piecewise linear relatives, pooling, batch normalisation with stored
    statistics, sums, concatenations and products of factors with different parameters are; a smooth activation, layer
    normalisation, attention, a parameter that meets itself in a product or stands in the loss are not.

    Errors are those of `gauss_newton_trace`.

    >>> x, y = torch.ones(2, 3), torch.tensor([0, 1])
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> piecewise_linear(net, (x, y), "cross_entropy").holds
    True
    >>> piecewise_linear(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), (x, y), "cross_entropy").obstacle
    'Gelu'
    """
    goal, task = settled(model, data, loss, batch_size, names)
    return linearity(goal, task)


def linearity(goal: Objective, task: Task) -> PiecewiseLinear:
    """`piecewise_linear` of an objective that is there already."""
    with second_derivatives(), torch.enable_grad():
        for batch in goal.on_device():
            found = obstacle(goal, task, *task.forward(goal.model, batch))
            if found is not None:
                return PiecewiseLinear(holds=False, obstacle=found)
    found = disagreement(goal, task)
    return PiecewiseLinear(holds=found is None, obstacle=found or "")


def obstacle(goal: Objective, task: Task, outputs: Any, targets: Any) -> str | None:
    """What in the graph of a batch stands in the way, None when nothing does."""
    if not isinstance(outputs, Tensor):
        return f"outputs of type {type(outputs).__name__}"
    if isinstance(targets, Tensor) and targets.requires_grad:
        return "targets that depend on the parameters"
    leaves = list(goal.parameters.values())
    free = outputs.detach().requires_grad_()
    values, weights = task.losses(free, targets)
    known = {id(p): name for name, p in goal.parameters.items()}
    for node in nodes([values, weights]):
        if (name := known.get(id(getattr(node, "variable", None)))) is not None:
            return f"{name} in the loss itself"
    return bent([outputs], leaves)


def disagreement(goal: Objective, task: Task) -> str | None:
    """A parameter tensor in which the blocks of H and G differ: then an operation is not what its name says.

    Stronger than draws of H - G over all parameters, which scatter around zero: within a tensor they must vanish.
    """
    few = replace(goal, batches=[part(next(iter(goal.on_device())), 0, ROWS)], mean=False)
    hessian, half = few.hessian(), GaussNewton(few, task)
    names = list(few.parameters)
    chosen = sorted({round(i * (len(names) - 1) / max(1, DRAWS - 1)) for i in range(DRAWS)})
    rng = rng_for(0, "landscape.piecewise_linear")
    eps = torch.finfo(goal.dtype).eps
    for place in chosen:
        pieces = [torch.zeros_like(p).reshape(-1) for p in few.parameters.values()]
        signs = torch.randint(0, 2, pieces[place].shape, generator=rng) * 2 - 1
        pieces[place] = signs.to(pieces[place])
        z = torch.cat(pieces)
        left, right = hessian @ z, half @ z
        scale = float(z.norm()) * max(float(left.norm()), float(right.norm()))
        if not abs(float(z.double() @ (left - right).double())) <= eps**0.5 * scale:
            return f"{names[place]}, whose own block of H is not that of G"
    return None
