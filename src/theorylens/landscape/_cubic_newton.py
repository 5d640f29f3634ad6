"""Optimisers that use curvature and leave saddles: cubic-regularised Newton, and saddle-free Newton beside it.

Source   Nesterov, Polyak (2006), Math. Program. 108:177; Cartis, Gould, Toint (2011), Math. Program. 127:245 (adaptive
         M); Tripuraneni et al. (2018), NeurIPS (by products only); Dauphin et al. (2014), NeurIPS (saddle-free)
Assumes  a loss that is twice differentiable, the same function each time the closure is called in a step
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._closure_graph import Closure, ClosureGraph, loss_of, move, put, trainable, unmoved_on_error
from ._cubic_step import SUBSPACE, CubicModel, krylov
from ._event_log import Logged

GOOD, POOR = 0.9, 0.1  # shares of the promised decrease above which M is halved, below which the step is undone
SMALLEST = 1e-8  # M is not halved below this: a quadratic needs none
TRIES = 40  # doublings of M within one step: from 1 to 1e12


@dataclass(frozen=True, kw_only=True)
class NewtonEvent:
    """One step: the loss before it, |g|, M, |h|, the decrease promised and got, Hessian products taken."""

    loss: float
    gradient_norm: float
    regularisation: float
    step_norm: float
    promised: float
    decrease: float
    accepted: bool
    products: int


class CubicNewton(Logged):
    """Newton's method with cubic regularisation: each step minimises g'h + h'Hh/2 + (M/6)|h|³ and so leaves saddles.

    ``step(closure)`` takes a closure that computes and returns the loss *without* calling backward; it is called
    several times a step and must be the same function each time.

    Parameters
    ----------
    regularisation
        M, at first when ``adaptive``.
    adaptive
        Double M until the step delivers a tenth of the decrease it promises; halve it after a good step. False: take
        every step with the M given.
    subspace
        Hessian products a step may take; with at least as many as there are parameters the step is exact.
    seed
        Of the random part of the subspace.

    Attributes
    ----------
    events
        A `NewtonEvent` for each step tried.
    products
        Hessian products in all.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # at the saddle of (x² - y²) / 2 + y⁴ / 4
    >>> rule = CubicNewton([w])
    >>> for _ in range(20):
    ...     loss = rule.step(lambda: (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4)
    >>> round(loss.item(), 9)
    -0.25
    """

    _event = NewtonEvent
    _counters = ("products", "regularisation")

    def __init__(
        self,
        params: Iterable[Any],
        *,
        regularisation: float = 1.0,
        adaptive: bool = True,
        subspace: int = SUBSPACE,
        seed: int = 0,
    ) -> None:
        if not (math.isfinite(regularisation) and regularisation > 0):
            raise ValueError(f"the regularisation M must be a positive number, got {regularisation}")
        if subspace < 1:
            raise ValueError(f"subspace must be at least 1, got {subspace}")
        super().__init__(params, {}, seed=seed, stream="landscape.cubic_newton")
        self.regularisation = regularisation
        self.adaptive = adaptive
        self.subspace = subspace
        self.products = 0

    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """One accepted step, or none when no M up to 1e12 times the present one helps; returns the loss before it."""
        if closure is None:
            raise ValueError("CubicNewton.step needs a closure that returns the loss, without backward()")
        graph = ClosureGraph(closure, trainable(self.param_groups))
        leaves = graph.leaves
        hessian = _dense(graph) if graph.size <= self.subspace else graph
        # The products come first: trying a step changes the parameters that the graph remembers.
        model = CubicModel(graph.gradient, hessian, subspace=self.subspace, generator=self._generator)
        self.products += graph.products
        kept = self.regularisation
        for _ in range(TRIES):
            found = model.step(self.regularisation)
            before = [p.detach().clone() for p in leaves]
            with unmoved_on_error(leaves, before):
                move(leaves, found.step)
                after = loss_of(closure)
            decrease, promised = graph.loss - after, -found.model
            # Below rounding of the loss nothing can be told: the step is a Newton step at its end, and taken.
            rounding = 10 * torch.finfo(graph.dtype).eps * abs(graph.loss)
            accepted = not self.adaptive or (math.isfinite(after) and decrease >= POOR * promised - rounding)
            self._log(graph, found.norm, promised, decrease, accepted)
            if accepted:
                if self.adaptive and decrease >= GOOD * promised:
                    self.regularisation = max(SMALLEST, self.regularisation / 2)
                break
            put(leaves, before)
            self.regularisation *= 2
        else:
            self.regularisation = kept  # nothing helps at a minimum of what the dtype can tell apart
        return torch.tensor(graph.loss, dtype=graph.dtype)

    def _log(self, graph: ClosureGraph, norm: float, promised: float, decrease: float, accepted: bool) -> None:
        event = NewtonEvent(
            loss=graph.loss, gradient_norm=float(torch.linalg.vector_norm(graph.gradient.double())),
            regularisation=self.regularisation, step_norm=norm, promised=promised, decrease=decrease,
            accepted=accepted, products=graph.products,
        )  # fmt: skip
        self.events.append(event)


class SaddleFreeNewton(Logged):
    """Steps -lr (|H| + damping I)^-1 g within a Krylov space of the gradient: |H| has the eigenvalues' sizes.

    It is repelled by saddles where Newton's method is drawn to them, but stays where g = 0: at a saddle itself only
    noise or `CubicNewton` helps. It is not cubic regularisation, with which it is sometimes confused.

    The closure is as for `CubicNewton`. ``events`` has one entry a step; its ``promised`` is g'h to first order;
    ``products`` counts Hessian products in all.

    >>> w = torch.tensor([1.0, 0.01], dtype=torch.float64, requires_grad=True)
    >>> rule = SaddleFreeNewton([w], lr=1.0, damping=1e-3)
    >>> for _ in range(30):
    ...     loss = rule.step(lambda: (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4)
    >>> round(loss.item(), 6)
    -0.25
    """

    _event = NewtonEvent
    _counters = ("products",)

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 0.1,
        damping: float = 1e-2,
        subspace: int = SUBSPACE,
        seed: int = 0,
    ) -> None:
        for name, value in {"lr": lr, "damping": damping}.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if subspace < 1:
            raise ValueError(f"subspace must be at least 1, got {subspace}")
        super().__init__(params, {"lr": lr, "damping": damping}, seed=seed, stream="landscape.saddle_free_newton")
        self.subspace = subspace
        self.products = 0

    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """One step; returns the loss before it."""
        if closure is None:
            raise ValueError("SaddleFreeNewton.step needs a closure that returns the loss, without backward()")
        if len({(group["lr"], group["damping"]) for group in self.param_groups}) > 1:
            raise ValueError("SaddleFreeNewton takes one lr and damping for all parameters, got several")
        graph = ClosureGraph(closure, trainable(self.param_groups))
        lr, damping = self.param_groups[0]["lr"], self.param_groups[0]["damping"]
        # All of it from the gradient: a random part would move what the gradient does not ask to move.
        basis, images = krylov(graph, graph.gradient, self.subspace, self._generator, second=False)
        self.products += graph.products
        small = basis.double() @ images.double().T
        values, axes = torch.linalg.eigh((small + small.T) / 2)
        inside = basis.double() @ graph.gradient.double()
        y = axes @ ((axes.T @ inside) / (values.abs() + damping))
        h = (-lr * y @ basis.double()).to(graph.dtype)
        move(graph.leaves, h)
        promised = -float(graph.gradient.double() @ h.double())
        self.events.append(
            NewtonEvent(
                loss=graph.loss, gradient_norm=float(torch.linalg.vector_norm(graph.gradient.double())),
                regularisation=damping, step_norm=float(torch.linalg.vector_norm(h.double())), promised=promised,
                decrease=graph.loss - loss_of(closure), accepted=True, products=graph.products,
            )
        )  # fmt: skip
        return torch.tensor(graph.loss, dtype=graph.dtype)


def _dense(graph: ClosureGraph) -> Tensor:
    """The Hessian itself, for few parameters."""
    rows = torch.stack([graph.matvec(unit) for unit in torch.eye(graph.size, dtype=graph.dtype, device=graph.device)])
    return (rows + rows.T) / 2
