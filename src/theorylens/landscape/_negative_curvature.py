"""Gradient descent that, where the gradient is small, walks along the most negative curvature instead.

Source   Carmon, Duchi, Hinder, Sidford (2018), SIAM J. Optim. 28:1751; Allen-Zhu, Li (2018), NEON2, NeurIPS
Assumes  a loss that is twice differentiable, the same function each time the closure is called in a step
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._closure_graph import Closure, ClosureGraph, loss_of, move, split_like, trainable
from ._escape_direction import downward_direction
from ._event_log import Logged


@dataclass(frozen=True, kw_only=True)
class CurvatureMove:
    """One step along negative curvature: the loss before it, |g|, the curvature, the length, products taken."""

    step: int
    loss: float
    gradient_norm: float
    curvature: float
    length: float
    products: int


class NegativeCurvature(Logged):
    """Steps -lr g while |g| > ``epsilon``; else 2 |curvature| / rho along the escape direction, downhill.

    ``finished`` turns true where the gradient is small and no curvature below -sqrt(rho epsilon) is found: an
    epsilon-second-order stationary point, as far as Lanczos sees; further steps do nothing.

    ``step(closure)`` takes a closure that computes and returns the loss *without* calling backward.

    Parameters
    ----------
    lr, epsilon
        Step size; gradient norm up to which curvature is asked.
    lipschitz
        rho, the Lipschitz constant of the Hessian: how far a direction's curvature can be trusted.
    tolerance
        Error of the smallest eigenvalue relative to the spread of the spectrum.

    Attributes
    ----------
    events
        One `CurvatureMove` for each step along curvature.
    steps, products
        Steps taken; Hessian products in all, those of the last search, which found nothing, included.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # at the saddle of (x² - y²) / 2 + y⁴ / 4
    >>> rule = NegativeCurvature([w], lr=0.2, epsilon=1e-6, lipschitz=6.0)
    >>> while not rule.finished:
    ...     loss = rule.step(lambda: (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4)
    >>> round(loss.item(), 9), len(rule.events)
    (-0.25, 1)
    """

    _event = CurvatureMove
    _counters = ("steps", "products", "finished")

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        lipschitz: float,
        epsilon: float = 1e-3,
        tolerance: float = 1e-2,
        seed: int = 0,
    ) -> None:
        for name, value in {"lr": lr, "lipschitz": lipschitz, "epsilon": epsilon, "tolerance": tolerance}.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        super().__init__(params, {"lr": lr}, seed=seed, stream="landscape.negative_curvature")
        self.lipschitz, self.epsilon, self.tolerance = lipschitz, epsilon, tolerance
        self.finished = False
        self.steps = self.products = 0

    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """One step; returns the loss before it."""
        if closure is None:
            raise ValueError("NegativeCurvature.step needs a closure that returns the loss, without backward()")
        leaves = trainable(self.param_groups)
        if self.finished:
            return torch.tensor(loss_of(closure), dtype=leaves[0].dtype)
        graph = ClosureGraph(closure, leaves)
        norm = float(torch.linalg.vector_norm(graph.gradient.double()))
        if norm > self.epsilon:
            self._descend(graph)
        else:
            self._along_curvature(graph, norm)
        self.steps += 1
        return torch.tensor(graph.loss, dtype=graph.dtype)

    def _descend(self, graph: ClosureGraph) -> None:
        rates = {p: group["lr"] for group in self.param_groups for p in group["params"]}
        for p, slope in zip(graph.leaves, split_like(graph.gradient, graph.leaves), strict=True):
            move([p], slope.reshape(-1), -rates[p])

    def _along_curvature(self, graph: ClosureGraph, norm: float) -> None:
        found = downward_direction(graph, graph.gradient, tolerance=self.tolerance, generator=self._generator)
        self.products += graph.products
        if found is None or found.curvature >= -math.sqrt(self.lipschitz * self.epsilon):
            self.finished = True
            return
        length = found.step_length(self.lipschitz)
        move(graph.leaves, found.vector, length)
        event = CurvatureMove(
            step=self.steps, loss=graph.loss, gradient_norm=norm, curvature=found.curvature, length=length,
            products=found.products,
        )  # fmt: skip
        self.events.append(event)
