"""What an optimiser's steps make of the Hessian: Adam's rescaling of it, and the limit of stable steps for that.

Source   Cohen et al. (2022), Adaptive gradient methods at the edge of stability, arXiv:2207.14484
Assumes  full-batch steps, and second moments that change slowly
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from theorylens.numerics.operator import Derived, Operator, Rescaled

from ._stability import adam_stability_limit, stability_limit


def preconditioned(operator: Operator, diagonal: Float[Tensor, " p"]) -> Rescaled:
    """D^-1/2 A D^-1/2 for an operator A and a positive diagonal D, whose eigenvalues are those of D^-1 A."""
    return Rescaled(operator, diagonal.rsqrt())


def limit_of(optimizer: Optimizer) -> tuple[float, float]:
    """Learning rate of torch's SGD or Adam, and the eigenvalue up to which its steps are stable.

    For SGD it is that of the Hessian of the loss: weight decay takes its part of the limit, and dampening d makes steps
    1 - d as long. For Adam it is that of the Hessian preconditioned by `preconditioner`, to which decay in the gradient
    belongs (`decay_in_gradient`); decoupled decay w, as of AdamW, shrinks weights by 1 - lr w before each step, which
    leaves (1 - lr w / 2) of the limit.

    Raises
    ------
    ValueError
        Another optimiser, groups with different settings, or one that maximises.
    """
    if not isinstance(optimizer, SGD | Adam | AdamW):  # of torch before 2.7 AdamW is no Adam
        raise ValueError(
            f"no stability limit is known for {type(optimizer).__name__}; give SGD, Adam or AdamW, or no optimizer"
        )
    names = (
        "lr", "momentum", "nesterov", "dampening", "weight_decay", "betas", "eps", "decoupled_weight_decay", "maximize",
    )  # fmt: skip
    kinds = {tuple(str(group.get(name)) for name in names) for group in optimizer.param_groups}
    if len(kinds) > 1:
        raise ValueError(f"the optimiser has {len(kinds)} kinds of groups, so no single limit; track them one by one")
    group = optimizer.param_groups[0]
    if group["maximize"]:
        raise ValueError("the optimiser maximises, and the limit is that of going down; give the loss with its sign")
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    if isinstance(optimizer, Adam | AdamW):
        limit = adam_stability_limit(lr, group["betas"][0])
        return lr, limit * (1 - lr * decay / 2) if _decoupled(optimizer) else limit
    limit = stability_limit(lr * (1 - group["dampening"]), group["momentum"], nesterov=group["nesterov"])
    return lr, limit - decay


def decay_in_gradient(optimizer: Optimizer) -> float:
    """The weight decay that Adam adds to the gradient before it divides: what the Hessian gains on its diagonal."""
    adam = isinstance(optimizer, Adam | AdamW) and not _decoupled(optimizer)
    return float(optimizer.param_groups[0]["weight_decay"]) if adam else 0.0


def _decoupled(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, AdamW) or bool(optimizer.param_groups[0].get("decoupled_weight_decay", False))


class Decayed(Derived):
    """``H + decay`` times the identity: the Hessian of a loss with decay / 2 times the squared norm of the weights."""

    def __init__(self, operator: Operator, decay: float) -> None:
        super().__init__(operator)
        self._decay = decay

    def matvec(self, vector: Float[Tensor, "p"], /) -> Float[Tensor, "p"]:
        return self._operator.matvec(vector) + self._decay * vector


def preconditioner(optimizer: Optimizer, parameters: Iterable[Tensor]) -> Float[Tensor, " p"] | None:
    """What Adam's steps divide the gradient's average by, per weight; ones for SGD, None before Adam's first step.

    (1 - beta1^t) (sqrt(v / (1 - beta2^t)) + eps), v being the running second moment: the first factor is the bias
    correction of the average, which near the start makes steps longer.
    """
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    pieces = []
    for p in parameters:
        if not isinstance(optimizer, Adam | AdamW):
            pieces.append(torch.ones_like(p).reshape(-1))
            continue
        if p not in groups:
            raise ValueError("a parameter that requires a gradient is not among the optimiser's; freeze it")
        state, group = optimizer.state.get(p, {}), groups[p]
        if "exp_avg_sq" not in state:
            return None
        t, (beta1, beta2) = float(state["step"]), group["betas"]
        second = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
        root = (second.double() / (1 - beta2**t)).sqrt() + group["eps"]
        pieces.append(((1 - beta1**t) * root).reshape(-1))
    return torch.cat(pieces).detach()
