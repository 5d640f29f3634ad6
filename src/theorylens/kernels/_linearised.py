"""The linearised network: outputs at the start plus the tangent of the change of the parameters.

Method   f_lin(x; theta) = f(x; theta0) + J(x; theta0)(theta - theta0), the product by double backward, so that every
         module that trains can be linearised
Source   Lee et al. (2019), NeurIPS; Chizat, Oyallon, Bach (2019), NeurIPS
Assumes  evaluation mode: normalisation by the running statistics, no dropout
Breaks   where the network is not differentiable (a ReLU at exactly zero) it takes torch's subgradient
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from theorylens.core import RefusedError, modules_in_training
from theorylens.numerics import second_derivatives


class Linearised(nn.Module):
    """A network replaced by its first-order expansion in the parameters; trains like any module.

    Its parameters are a copy of the network's (``network.*``), its expansion point is in buffers. At the expansion
    point both give the same outputs and gradients.

    Parameters
    ----------
    model
        Any module in evaluation mode; copied. Its current parameters are where the linearised network stands.
    start
        Expansion point theta0, a state dict of ``model``; its current parameters when None.

    Raises
    ------
    RefusedError
        Dropout or batch normalisation in training mode, no trainable parameter.
    ValueError
        ``start`` lacks a parameter, or one has another shape.

    >>> net = nn.Linear(2, 1)
    >>> x = torch.ones(1, 2)
    >>> bool(Linearised(net)(x) == net(x))
    True
    """

    def __init__(self, model: nn.Module, start: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        if noisy := modules_in_training(model):
            raise RefusedError(f"{', '.join(noisy)} is in training mode; a linearised network needs model.eval()")
        self.network = copy.deepcopy(model)
        own = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        if not own:
            raise RefusedError(
                "the model has no parameter that requires a gradient; set requires_grad on those to vary"
            )
        point = dict(own) if start is None else _matched(dict(self.network.named_parameters()), start)
        self.names = tuple(own)
        for i, name in enumerate(self.names):
            self.register_buffer(f"start{i}", point[name].detach().clone().to(own[name]))
        if start is not None:  # the rest of the expansion point: frozen parameters and running statistics
            fixed = {k: v for k, v in start.items() if k not in own}
            self.network.load_state_dict(fixed, strict=False)

    def train(self, mode: bool = True) -> Linearised:
        """Stays in evaluation mode: the expansion is one of a fixed function."""
        super().train(False)
        return self

    def start(self) -> dict[str, Tensor]:
        """The expansion point, by parameter name."""
        return {name: getattr(self, f"start{i}") for i, name in enumerate(self.names)}

    def forward(self, *args: object, **named: object) -> Tensor:
        """Outputs of the expansion, differentiable in the parameters."""
        current = dict(self.network.named_parameters())
        change = {name: current[name] - value for name, value in self.start().items()}
        return tangent_outputs(self.network, self.start(), change, args, named)


def tangent_outputs(
    model: nn.Module, start: Mapping[str, Tensor], change: Mapping[str, Tensor], args: tuple[object, ...],
    named: Mapping[str, object],
) -> Tensor:  # fmt: skip
    """f(x; start) + J(x; start) change, differentiable in ``change`` only; outputs are one tensor."""
    with torch.enable_grad(), second_derivatives():
        point = {name: value.detach().requires_grad_() for name, value in start.items()}
        outputs = functional_call(model, point, args, dict(named))
        if not isinstance(outputs, Tensor):
            raise RefusedError(f"a linearised network needs outputs that are one tensor, got {type(outputs).__name__}")
        weight = torch.zeros_like(outputs, requires_grad=True)  # J^T weight is linear in weight; its slope is J
        back = torch.autograd.grad(
            outputs, list(point.values()), weight, create_graph=True, allow_unused=True, materialize_grads=True
        )
        used = [(b, change[name]) for b, name in zip(back, point, strict=True) if b.requires_grad]
        if not used:
            return outputs.detach()
        (moved,) = torch.autograd.grad([b for b, _ in used], weight, [c for _, c in used], create_graph=True)
    return outputs.detach() + (moved if torch.is_grad_enabled() else moved.detach())


def _matched(own: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if missing := [name for name in own if name not in start]:
        raise ValueError(f"the expansion point lacks {len(missing)} parameters of the model: {', '.join(missing[:3])}")
    for name, p in own.items():
        if start[name].shape != p.shape:
            raise ValueError(
                f"{name} has shape {tuple(start[name].shape)} at the expansion point, the model has {tuple(p.shape)}; "
                "give a state dict of the same network"
            )
    return {name: start[name] for name in own}
