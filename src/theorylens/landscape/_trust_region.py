"""Trust-region Newton: each step is the best the quadratic model has within a ball, whose radius follows its success.

Method   the secular equation |(H + s I)^-1 g| = radius in the eigenbasis of a Krylov space of g and a random vector
Source   Conn, Gould, Toint (2000), Trust-Region Methods, algorithms 6.1.1 and 7.3.4; complexity with negative
         curvature: Curtis, Robinson, Samadi (2017), Math. Program. 162:1
Assumes  a loss that is twice differentiable, the same function each time the closure is called in a step
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from ._closure_graph import Closure, ClosureGraph, loss_of, move, put, trainable, unmoved_on_error
from ._cubic_step import SUBSPACE, krylov
from ._event_log import Logged

Floats = NDArray[np.float64]
GOOD, POOR = 0.75, 0.1  # shares of the promised decrease above which the radius doubles, below which it is quartered
TRIES = 40


@dataclass(frozen=True, kw_only=True)
class TrustEvent:
    """One step tried: the loss before it, |g|, the radius, |h|, the decrease promised and got, Hessian products."""

    loss: float
    gradient_norm: float
    radius: float
    step_norm: float
    promised: float
    decrease: float
    accepted: bool
    products: int


class TrustRegionNewton(Logged):
    """Newton's method within a ball: each step minimises g'h + h'Hh/2 over |h| <= radius and so leaves saddles.

    ``step(closure)`` takes a closure that computes and returns the loss *without* calling backward; it is called
    several times a step and must be the same function each time. Where the model is convex and its minimum lies inside
    the ball the step is Newton's.

    Parameters
    ----------
    radius
        At first; quartered until a step delivers a tenth of the decrease it promises, doubled after a good step that
        ended at the ball's surface.
    largest
        The radius does not grow beyond this.
    subspace
        Hessian products a step may take; with at least as many as there are parameters the step is exact.
    seed
        Of the random part of the subspace, without which a saddle with g = 0 could not be left.

    Attributes
    ----------
    events
        A `TrustEvent` for each step tried.
    products
        Hessian products in all.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # at the saddle of (x² - y²) / 2 + y⁴ / 4
    >>> rule = TrustRegionNewton([w])
    >>> for _ in range(20):
    ...     loss = rule.step(lambda: (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4)
    >>> round(loss.item(), 9)
    -0.25
    """

    _event = TrustEvent
    _counters = ("products", "radius")

    def __init__(
        self,
        params: Iterable[Any],
        *,
        radius: float = 1.0,
        largest: float = 100.0,
        subspace: int = SUBSPACE,
        seed: int = 0,
    ) -> None:
        if not (0 < radius <= largest and math.isfinite(largest)):
            raise ValueError(f"the radius must be positive and at most largest = {largest}, finite, got {radius}")
        if subspace < 1:
            raise ValueError(f"subspace must be at least 1, got {subspace}")
        super().__init__(params, {}, seed=seed, stream="landscape.trust_region_newton")
        self.radius = radius
        self.largest = largest
        self.subspace = subspace
        self.products = 0

    def step(self, closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """One accepted step, or none when no smaller radius helps; returns the loss before it."""
        if closure is None:
            raise ValueError("TrustRegionNewton.step needs a closure that returns the loss, without backward()")
        graph = ClosureGraph(closure, trainable(self.param_groups))
        leaves = graph.leaves
        if not bool(torch.isfinite(graph.gradient).all()):
            raise ValueError("the gradient is not finite, so there is no step; look for overflow in the loss")
        # The products come first: trying a step changes the parameters that the graph remembers.
        basis, images = (each.double() for each in krylov(graph, graph.gradient, self.subspace, self._generator))
        self.products += graph.products
        small = (basis @ images.T).cpu().numpy()
        matrix, inside = (small + small.T) / 2, (basis @ graph.gradient.double()).cpu().numpy()
        kept = self.radius
        for _ in range(TRIES):
            y, _ = within_ball(matrix, inside, self.radius)
            h = (torch.from_numpy(y).to(basis) @ basis).to(graph.dtype)
            before = [p.detach().clone() for p in leaves]
            with unmoved_on_error(leaves, before):
                move(leaves, h)
                after = loss_of(closure)
            promised, norm = -float(inside @ y + y @ matrix @ y / 2), float(np.linalg.norm(y))
            decrease = graph.loss - after
            # Below rounding of the loss nothing can be told: the step is a Newton step at its end, and taken.
            rounding = 10 * torch.finfo(graph.dtype).eps * abs(graph.loss)
            accepted = math.isfinite(after) and decrease >= POOR * promised - rounding
            self.events.append(
                TrustEvent(
                    loss=graph.loss, gradient_norm=float(torch.linalg.vector_norm(graph.gradient.double())),
                    radius=self.radius, step_norm=norm, promised=promised, decrease=decrease, accepted=accepted,
                    products=graph.products,
                )
            )  # fmt: skip
            if accepted:
                if decrease >= GOOD * promised and norm >= 0.99 * self.radius:
                    self.radius = min(self.largest, 2 * self.radius)
                break
            put(leaves, before)
            self.radius = min(self.radius, norm) / 4
        else:
            self.radius = kept  # nothing helps at a minimum of what the dtype can tell apart
        return torch.tensor(graph.loss, dtype=graph.dtype)


def within_ball(matrix: Floats, gradient: Floats, radius: float) -> tuple[Floats, bool]:
    """The global minimiser of g'h + h'Hh/2 over |h| <= ``radius``, H symmetric, and whether it is the hard case.

    h = -(H + s I)^-1 g with s >= 0, H + s I positive semidefinite and s = 0 unless |h| = radius. In the hard case no s
    reaches the radius, because g has no part along the lowest eigenvector: the rest goes along that.
    """
    values, axes = np.linalg.eigh(matrix)
    c = axes.T @ gradient
    scale = max(float(np.abs(values).max()), float(np.linalg.norm(c)) / radius)
    if scale == 0:
        return np.zeros_like(c), False
    tiny = 1e-14 * scale
    if values[0] > tiny and np.linalg.norm(c / values) <= radius:
        return axes @ (-c / values), False
    shift = max(0.0, -float(values[0]))
    gaps = values + shift  # at least 0

    def surplus(log_t: float) -> float:
        return math.log(float(np.linalg.norm(c / (gaps + math.exp(log_t)))) or 1e-300) - math.log(radius)

    if not np.any(c) or surplus(math.log(tiny)) <= 0:
        free = gaps > tiny
        h = np.where(free, -c / np.where(free, gaps, 1.0), 0.0)
        missing = radius**2 - float(h @ h)
        if shift > 0 and missing > 0:
            h[0] = -math.copysign(math.sqrt(missing), c[0])
            return axes @ h, True
        return axes @ h, False
    t = math.exp(brentq(surplus, math.log(tiny), math.log(2 * scale), xtol=1e-15, rtol=1e-15, maxiter=500))
    return axes @ (-c / (gaps + t)), False
