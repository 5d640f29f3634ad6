"""Adaptive optimisers: in which geometry do Adam, AdamW and RMSprop move, read from the state they keep.

Method   the step is the momentum times P⁻¹ = 1 / (√v̂ + ε), both with the bias of their start corrected; curvature as
         the optimiser sees it is that of P^(-1/2) H P^(-1/2)
Source   Kingma, Ba (2015), ICLR; Cohen et al. (2022), Adaptive gradient methods at the edge of stability,
         arXiv:2207.14484; Xie, Li (2024), Implicit bias of AdamW: l∞ norm constrained optimization, ICML
Assumes  a state that changes slowly against the weights; the limits are those of full-batch steps
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.landscape import adam_stability_limit
from theorylens.numerics.objective import Objective, flatten
from theorylens.numerics.operator import Rescaled
from theorylens.results import Estimate

from ._rescaled import largest_eigenvalue

AT_THE_WALL = 0.99  # share of the radius from which a weight counts as at it


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptiveState:
    """State of an adaptive optimiser for some parameters, flat, float64.

    Attributes
    ----------
    preconditioner
        1 / (√v̂ + ε), the learning rate of each weight in units of ``lr``; v̂ corrected for its start at 0.
    momentum
        m̂, corrected likewise; None for RMSprop without momentum.
    lr, beta1, weight_decay
        Of the parameter group; ``beta1`` is 0 without momentum.
    decoupled
        Whether the weight decay acts on the weights directly, as in AdamW.
    step
        Steps taken.
    """

    preconditioner: Float[Tensor, "p"]
    momentum: Float[Tensor, "p"] | None
    lr: float
    beta1: float
    weight_decay: float
    decoupled: bool
    step: int

    @property
    def relative(self) -> Float[Tensor, "p"]:
        """The preconditioner over its mean: how unevenly the weights move."""
        return self.preconditioner / self.preconditioner.mean()

    @property
    def direction(self) -> Float[Tensor, "p"] | None:
        """The next step over -lr, before weight decay, if the gradient were that of the momentum."""
        return None if self.momentum is None else self.preconditioner * self.momentum

    @property
    def sign_alignment(self) -> float | None:
        """Cosine between the step and its signs: 1 when all weights move equally far, as in sign descent."""
        if self.direction is None or not bool(self.direction.any()):
            return None
        u = self.direction
        return float(u.abs().sum() / (u.norm() * math.sqrt(int((u != 0).sum()))))

    @property
    def limit(self) -> float:
        """Largest stable preconditioned sharpness: (2 + 2 β₁) / ((1 - β₁) lr), the factor for averaged momentum."""
        return adam_stability_limit(self.lr, self.beta1)


def adaptive_state(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter] | None = None
) -> AdaptiveState:
    """Read Adam, AdamW (also with amsgrad) or RMSprop.

    Parameters
    ----------
    parameters
        Those to read, by name, in this order; by default all that require a gradient, in the optimiser's order.

    Raises
    ------
    ValueError
        Another optimiser; no step taken yet; parameters that it does not hold or that are in groups with different
        settings.
    """
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW | torch.optim.RMSprop):
        raise ValueError(
            f"a {type(optimizer).__name__} keeps no second moment that is read here; give Adam, AdamW or RMSprop"
        )
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    if parameters is None:
        every = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        parameters = {f"number {i}": p for i, p in enumerate(every)}
    if foreign := [name for name, p in parameters.items() if id(p) not in group_of]:
        raise ValueError(f"the optimizer does not hold the parameters {foreign[:3]}; give the one that trained them")
    if bare := [name for name, p in parameters.items() if not optimizer.state.get(p)]:
        raise ValueError(f"the optimizer has no state for {bare[:3]}: it is empty before the first step; take one")
    groups = [group_of[id(p)] for p in parameters.values()]
    same = ("lr", "betas", "alpha", "eps", "weight_decay", "momentum")
    if any(group.get(k) != groups[0].get(k) for group in groups for k in same):
        raise ValueError("the parameters are in groups with different settings; read them one group at a time")
    first, read = groups[0], _read_rmsprop if isinstance(optimizer, torch.optim.RMSprop) else _read_adam
    scales, momenta = zip(*(read(optimizer.state[p], first) for p in parameters.values()), strict=True)
    averaged = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    return AdaptiveState(
        preconditioner=flatten(scales),
        momentum=flatten(momenta) if averaged else None,
        lr=float(first["lr"]),
        beta1=float(first["betas"][0]) if averaged else 0.0,
        weight_decay=float(first["weight_decay"]),
        decoupled=isinstance(optimizer, torch.optim.AdamW) or bool(first.get("decoupled_weight_decay")),
        step=int(optimizer.state[next(iter(parameters.values()))]["step"]),
    )


def _read_adam(state: dict[str, Any], group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    beta1, beta2 = (float(b) for b in group["betas"])
    step = int(state["step"])
    second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"].double()
    scale = 1 / ((second / (1 - beta2**step)).sqrt() + group["eps"])
    return scale, state["exp_avg"].double() / (1 - beta1**step)


def _read_rmsprop(state: dict[str, Any], group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    if group["momentum"]:
        raise ValueError("RMSprop with momentum averages steps, not gradients, and is not read here; use Adam")
    second = state["square_avg"].double()
    if group["centered"]:
        second = second - state["grad_avg"].double().square()
    scale = 1 / (second.sqrt() + group["eps"])
    return scale, torch.zeros_like(scale)


@dataclass(frozen=True, kw_only=True)
class NormBox:
    """Where decoupled weight decay λ holds the weights: full-batch AdamW can converge only to KKT points of the loss
    under |w|∞ <= 1 / λ.

    Attributes
    ----------
    largest, radius
        |w|∞ and 1 / λ.
    at_the_wall
        Share of the weights within 1 % of the radius.
    gap
        |∇L|₁ + λ <∇L, w> over |∇L|₁: 0 at a KKT point where the constraint binds, about 1 when it does not.
    """

    largest: float
    radius: float
    at_the_wall: float
    gap: float


def norm_box(weights: Tensor, gradient: Tensor, weight_decay: float) -> NormBox:
    """The box of decoupled ``weight_decay`` and where flat ``weights`` with loss ``gradient`` stand in it."""
    if not (weight_decay > 0 and math.isfinite(weight_decay)):
        raise ValueError(f"weight_decay must be positive, got {weight_decay}: without it there is no box")
    if weights.shape != gradient.shape:
        raise ValueError(f"weights and gradient must have one shape, got {weights.shape} and {gradient.shape}")
    w, g = weights.detach().double().flatten(), gradient.detach().double().flatten()
    length = float(g.abs().sum())
    gap = 1 + weight_decay * float(g @ w) / length if length > 0 else 0.0
    near = float((w.abs() >= AT_THE_WALL / weight_decay).double().mean())
    return NormBox(largest=float(w.abs().max()), radius=1 / weight_decay, at_the_wall=near, gap=gap)


@dataclass(frozen=True, kw_only=True)
class AdaptiveBias:
    """What an adaptive optimiser makes of a model's loss.

    Attributes
    ----------
    sharpness, preconditioned
        λmax of H and of P^(-1/2) H P^(-1/2).
    limit
        Beyond which the preconditioned one makes full-batch steps grow.
    sign_alignment
        As in `AdaptiveState`.
    spread
        Largest over smallest rate of a weight.
    box
        For decoupled weight decay, else None.
    """

    sharpness: Estimate
    preconditioned: Estimate
    limit: float
    sign_alignment: float | None
    spread: float
    box: NormBox | None

    @property
    def share(self) -> float:
        """Preconditioned sharpness over its limit: about 1 at the edge of stability."""
        return self.preconditioned.value / self.limit


def adaptive_optimizer_bias(
    model: nn.Module, data: Any, loss: Any, optimizer: torch.optim.Optimizer, *, seed: int = 0, batch_size: int = 256
) -> AdaptiveBias:
    """Sharpness with and without the preconditioner of ``optimizer``, sign alignment, and the box of AdamW.

    Parameters
    ----------
    model, data, loss
        A network in evaluation mode; anything `Split` takes; anything `Task` takes as its loss, or a `Task`.
    optimizer
        The one that trained ``model``, with its state. L2 decay (not decoupled) adds its constant to H: give a loss
        that has it.

    Errors are those of `adaptive_state` and `landscape.eigenvalues`.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    state = adaptive_state(optimizer, goal.parameters)
    raw, seen = _sharpness(goal, state, seed)
    weights = flatten(goal.parameters.values())
    box = None
    if state.decoupled and state.weight_decay > 0:
        box = norm_box(weights, goal.gradient(), state.weight_decay)
    return AdaptiveBias(
        sharpness=raw,
        preconditioned=seen,
        limit=state.limit,
        sign_alignment=state.sign_alignment,
        spread=float(state.preconditioner.max() / state.preconditioner.min()),
        box=box,
    )


def _sharpness(goal: Objective, state: AdaptiveState, seed: int) -> tuple[Estimate, Estimate]:
    hessian = goal.hessian()
    scaled = Rescaled(hessian, state.preconditioner.sqrt())
    key = "bias.adaptive"
    return largest_eigenvalue(hessian, rng_for(seed, key)), largest_eigenvalue(scaled, rng_for(seed, key))
