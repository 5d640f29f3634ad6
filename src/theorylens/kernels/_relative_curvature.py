"""Chizat's kappa: how much the tangent of a network turns on the way to fitting its data; small means lazy.

Method   kappa = ||f0 - y|| ||D^2 f|| / ||D f||^2, operator norms over parameters; ||D f|| from the tangent kernel,
         ||D^2 f|| by alternating maximisation over two directions and an output
Source   Chizat, Oyallon, Bach (2019), NeurIPS, section 1.2
Assumes  a network that can be differentiated three times
Breaks   the maximisation finds a local maximum: the number is a lower bound of kappa
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from theorylens.core import RefusedError, modules_in_training
from theorylens.numerics import second_derivatives
from theorylens.results import Enclosure, Estimate, Message

from ._empirical import ntk

ROUNDS = 100
SETTLED = 1e-3  # relative growth in a round below which the maximisation stands still


def relative_curvature(
    model: nn.Module, x: Tensor, targets: Tensor, *, rng: torch.Generator, restarts: int = 3
) -> Estimate:
    """Chizat's kappa of a network at its parameters, a lower bound.

    Multiplying the outputs by alpha (so that f0 = 0) divides it by alpha. It does not depend on the number of rows
    being summed or averaged.

    Parameters
    ----------
    model
        In evaluation mode, outputs (n, C); usually untrained.
    targets
        Of the shape of the outputs.

    Raises
    ------
    RefusedError
        Training mode; outputs that do not depend on the parameters.
    ValueError
        Targets of another shape.
    """
    if noisy := modules_in_training(model):
        raise RefusedError(f"{', '.join(noisy)} is in training mode; call model.eval()")
    with torch.no_grad():
        outputs = model(x)
    if targets.shape != outputs.shape:
        raise ValueError(f"targets of shape {tuple(targets.shape)} for outputs of {tuple(outputs.shape)}")
    kernel = ntk(model, x).double()
    size = kernel.shape[0] * kernel.shape[2]
    slope = float(torch.linalg.eigvalsh(kernel.permute(0, 2, 1, 3).reshape(size, size))[-1])  # ||Df||^2
    if not slope > 0:
        raise RefusedError("the outputs do not change with the parameters: the tangent kernel is zero")
    found = [_bend(model, x, rng) for _ in range(restarts)]
    distance = float((outputs - targets).double().norm())
    value = distance * max(bend for bend, _ in found) / slope
    why = Message("kernels.kappa_below", "a local maximum over directions of {draws:d} starts", draws=restarts)
    trouble = None
    if not all(settled for _, settled in found):
        text = "the maximisation still grew after {rounds:d} rounds; raise restarts or use fewer parameters"
        trouble = Message("kernels.kappa_trouble", text, rounds=ROUNDS)
    uncertainty = Enclosure(lower=value, upper=float("inf"), why=why)
    return Estimate(value=value, uncertainty=uncertainty, trouble=trouble)


def _bend(model: nn.Module, x: Tensor, rng: torch.Generator) -> tuple[float, bool]:
    """A local maximum of ||D^2 f[a, b]|| over unit directions a, b, and whether it stands still."""
    point = {n: p.detach().requires_grad_() for n, p in model.named_parameters() if p.requires_grad}
    leaves = list(point.values())
    with torch.enable_grad(), second_derivatives():
        outputs = functional_call(model, point, (x,))
        a = _unit([torch.randn(p.shape, generator=rng, dtype=p.dtype).to(p.device) for p in leaves])
        u = torch.randn(outputs.shape, generator=rng, dtype=outputs.dtype).to(outputs.device)
        u, last = u / u.norm(), 0.0
        for _ in range(ROUNDS):
            back = _grads(outputs, leaves, u)
            b = _unit(_grads(back, leaves, a))
            a = _unit(_grads(back, leaves, b))
            second = _second(outputs, leaves, a, b)
            value = float(second.detach().norm())
            if value <= last * (1 + SETTLED):
                return max(value, last), True
            u, last = (second / value).detach(), value
    return last, False


def _second(outputs: Tensor, leaves: list[Tensor], a: list[Tensor], b: list[Tensor]) -> Tensor:
    """D^2 f[a, b], of the shape of the outputs, by double backward twice."""
    once = _forward(outputs, leaves, a)
    return _forward(once, leaves, b)


def _forward(outputs: Tensor, leaves: list[Tensor], direction: list[Tensor]) -> Tensor:
    weight = torch.zeros_like(outputs, requires_grad=True)
    back = _grads(outputs, leaves, weight)
    used = [(g, d) for g, d in zip(back, direction, strict=True) if g.requires_grad]
    if not used:
        return torch.zeros_like(outputs)
    (moved,) = torch.autograd.grad(
        [g for g, _ in used], weight, [d for _, d in used], create_graph=True, allow_unused=True, materialize_grads=True
    )
    return moved


def _grads(of: Tensor | list[Tensor], leaves: list[Tensor], along: Tensor | list[Tensor]) -> list[Tensor]:
    """Gradients of the inner product of ``of`` with ``along``, differentiable, zero where nothing depends."""
    many, by = (of, along) if isinstance(of, list) else ([of], [along])
    pairs = [(o, w) for o, w in zip(many, by, strict=True) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(p) for p in leaves]
    return list(
        torch.autograd.grad(
            [o for o, _ in pairs], leaves, [w for _, w in pairs], create_graph=True, allow_unused=True,
            materialize_grads=True,
        )
    )  # fmt: skip


def _unit(direction: list[Tensor]) -> list[Tensor]:
    flat = [d.detach() for d in direction]
    size = float(sum(float(d.double().square().sum()) for d in flat)) ** 0.5
    return [d / size for d in flat] if size > 0 else flat
