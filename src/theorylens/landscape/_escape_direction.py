"""Where to go from a saddle: the direction that bends downwards most, with the sign that does not go uphill.

Method   Lanczos on exact Hessian-vector products for the smallest eigenvalue; its Rayleigh quotient is what counts
Source   Carmon, Duchi, Hinder, Sidford (2018), SIAM J. Optim. 28:1751 (step 2 |curvature| / rho);
         Ge et al. (2015), COLT
Assumes  a loss that is twice differentiable at the parameters
Breaks   no direction found is no proof that there is none: a random start may miss a vanishing share of them
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics import lanczos
from theorylens.numerics.objective import Objective
from theorylens.numerics.operator import Operator

from ._curvature import NEGLIGIBLE, Reflected


@dataclass(frozen=True, kw_only=True, eq=False)
class EscapeDirection:
    """A unit vector along which the loss bends downwards and does not rise to first order.

    Attributes
    ----------
    vector
        Shape (p,), unit length, in the order of ``model.named_parameters()``.
    curvature
        v'Hv, negative: the second derivative of the loss along it.
    residual
        |Hv - curvature v|: an eigenvalue lies within this distance of ``curvature``.
    slope
        g'v, at most 0.
    products
        Hessian-vector products taken.
    """

    vector: Float[Tensor, "p"]
    curvature: float
    residual: float
    slope: float
    products: int

    def step_length(self, lipschitz: float) -> float:
        """2 |curvature| / rho: the length that is safe when the Hessian is ``lipschitz``-continuous.

        It lowers the loss by at least 2 |curvature|³ / (3 rho²).
        """
        if not (math.isfinite(lipschitz) and lipschitz > 0):
            raise ValueError(f"the Lipschitz constant of the Hessian must be a positive number, got {lipschitz}")
        return 2 * abs(self.curvature) / lipschitz

    def by_parameter(self, model: nn.Module) -> dict[str, Tensor]:
        """The vector cut into the trainable parameters of ``model``, by name."""
        found = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if sum(p.numel() for p in found.values()) != len(self.vector):
            raise ValueError(f"the model's trainable parameters are not the {len(self.vector)} of this direction")
        pieces = torch.split(self.vector, [p.numel() for p in found.values()])
        return {name: piece.view_as(p) for (name, p), piece in zip(found.items(), pieces, strict=True)}


def escape_direction(
    model: nn.Module, data: Any, loss: Any, *, tolerance: float = 1e-2, seed: int = 0, batch_size: int = 256
) -> EscapeDirection | None:
    """The direction of most negative curvature of a loss at a network's parameters; None where there is none.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    tolerance
        Error of the smallest eigenvalue relative to the whole spread of the spectrum.

    None means that no curvature below -1e-4 of the largest was found: at a minimum there is nothing to escape from,
    and a random vector would be an answer to another question. Errors are those of `eigenvalues`.

    >>> rows = torch.eye(2), torch.zeros(2, 1)
    >>> escape_direction(nn.Linear(2, 1, bias=False), rows, "mse") is None  # a bowl
    True
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    return goal_direction(goal, tolerance=tolerance, generator=rng_for(seed, "landscape.escape_direction"))


def goal_direction(goal: Objective, *, tolerance: float, generator: torch.Generator) -> EscapeDirection | None:
    """`escape_direction` of an objective that is there already."""
    return downward_direction(goal.hessian(), goal.gradient(), tolerance=tolerance, generator=generator)


def downward_direction(
    hessian: Operator, gradient: Float[Tensor, "p"], *, tolerance: float = 1e-2, generator: torch.Generator
) -> EscapeDirection | None:
    """The same for any symmetric operator, matrix-free, and a gradient.

    >>> from theorylens.numerics.operator import DenseOperator
    >>> bowl = DenseOperator(torch.tensor([2.0, 1.0, -0.5, -1.5]).diag())
    >>> found = downward_direction(bowl, torch.zeros(4), generator=torch.Generator().manual_seed(0))
    >>> found.vector.round(decimals=4).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    if gradient.shape != (hessian.size,):
        raise ValueError(f"a gradient of shape {tuple(gradient.shape)} does not match an operator of {hessian.size}")
    if not bool(torch.isfinite(gradient).all()):
        raise ValueError("the gradient is not finite, so no direction is safe; look for overflow in the loss")
    top = lanczos.eigenvalues(hessian, 1, tolerance=tolerance, generator=generator)
    # A Ritz value is never above the largest eigenvalue; with its residual it is not below it either.
    ceiling = float(top.values[0] + top.residuals[0])
    # Well above it: where all eigenvalues are alike, ceiling - H would be nothing but rounding.
    above = ceiling + abs(ceiling)
    found = lanczos.eigenvalues(
        Reflected(hessian, above), 1, tolerance=tolerance / 2, vectors=True, generator=generator
    )  # fmt: skip
    curvature = above - float(found.values[0])
    if curvature >= -NEGLIGIBLE * max(abs(ceiling), abs(curvature)):
        return None
    assert found.vectors is not None
    vector = found.vectors[0]
    slope = float(gradient.double() @ vector.double())
    # At a critical point both signs are as good; the same one each time is easier to repeat.
    flip = slope > 0 or (slope == 0 and float(vector[vector.abs().argmax()]) < 0)
    return EscapeDirection(
        vector=-vector if flip else vector,
        curvature=curvature,
        residual=float(found.residuals[0]),
        slope=-abs(slope),
        products=top.products + found.products,
    )


@dataclass(frozen=True, kw_only=True)
class StrictSaddle:
    """Whether a network is at a strict saddle, and the evidence.

    Attributes
    ----------
    holds
        |g| <= ``epsilon`` and a direction with curvature at most -``gamma`` exists.
    gradient_norm, smallest, residual
        Of the whole loss; the smallest eigenvalue found and its residual.
    direction
        The direction found, None when nothing bends downwards.
    """

    holds: bool
    gradient_norm: float
    smallest: float
    residual: float
    gamma: float
    epsilon: float
    direction: EscapeDirection | None


def strict_saddle(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    gamma: float = 1e-3,
    epsilon: float = 1e-3,
    tolerance: float = 1e-2,
    seed: int = 0,
    batch_size: int = 256,
) -> StrictSaddle:
    """Whether a network is at a ``gamma``-strict saddle: |g| <= ``epsilon`` and smallest eigenvalue <= -``gamma``.

    Both are in the units of the loss, as in the theorems; the gradient is checked because eigenvalues on a slope say
    nothing. "Yes" rests on a vector that is returned and can be checked; "no" on a Lanczos search.

    >>> rows = torch.eye(2), torch.zeros(2, 1)
    >>> strict_saddle(nn.Linear(2, 1, bias=False), rows, "mse").holds
    False
    """
    if not (gamma > 0 and epsilon > 0):
        raise ValueError(f"gamma and epsilon must be positive, got {gamma} and {epsilon}")
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    gradient, generator = goal.gradient(), rng_for(seed, "landscape.strict_saddle")
    found = downward_direction(goal.hessian(), gradient, tolerance=tolerance, generator=generator)
    norm = float(torch.linalg.vector_norm(gradient.double()))
    return StrictSaddle(
        holds=found is not None and found.curvature <= -gamma and norm <= epsilon,
        gradient_norm=norm,
        smallest=0.0 if found is None else found.curvature,
        residual=0.0 if found is None else found.residual,
        gamma=gamma, epsilon=epsilon, direction=found,
    )  # fmt: skip
