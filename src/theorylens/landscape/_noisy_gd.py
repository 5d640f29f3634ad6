"""Gradient descent with a little noise at every step, which is how stochastic gradients leave saddles.

Source   Jin, Netrapalli, Ge, Kakade, Jordan (2021), On nonconvex optimization for machine learning: gradients,
         stochasticity, and saddle points, J. ACM 68:11 (perturbed gradient descent and its stochastic form)
Assumes  gradient and Hessian Lipschitz; a radius of the order of the gradient norm that is asked for
Breaks   it visits an approximate second-order point and does not stop there: near a minimum of curvature h it keeps
         jittering, with variance lr² s² / (1 - (1 - lr h)²) for noise of variance s² a coordinate. Where full
         gradients can be had now and then, `SSRGD` (variance-reduced) and `PerturbedGD` stop by themselves
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from ._closure_graph import split_like, trainable
from ._event_log import Logged
from ._perturbed_gd import gradient_norm


@dataclass(frozen=True, kw_only=True)
class _Nothing:
    """Every step is alike, so there is nothing to log."""


class NoisyGD(Logged):
    """w <- w - lr (g + xi) with xi normal of variance radius² / d a coordinate, so that |xi| is about ``radius``.

    Unlike `PerturbedGD` it never looks at the loss: gradients of the whole data (perturbed gradient descent) or of a
    batch (stochastic gradient descent with noise) both do. Called as any torch optimiser, closure optional.

    Parameters
    ----------
    lr
        Step size, per group as usual.
    radius
        Root mean square of the noise's length; at least 0.
    seed
        Of the noise.

    Attributes
    ----------
    steps
        Steps taken.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # at the saddle of (x² - y²) / 2 + y⁴ / 4
    >>> rule = NoisyGD([w], lr=0.1, radius=1e-4)
    >>> for _ in range(500):
    ...     rule.zero_grad()
    ...     loss = (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4
    ...     loss.backward()
    ...     _ = rule.step()
    >>> round(loss.item(), 6)
    -0.25
    """

    _event = _Nothing
    _counters = ("steps",)

    def __init__(self, params: Iterable[Any], *, lr: float, radius: float, seed: int = 0) -> None:
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr must be a positive number, got {lr}")
        if not (math.isfinite(radius) and radius >= 0):
            raise ValueError(f"radius must be at least 0, got {radius}")
        super().__init__(params, {"lr": lr}, seed=seed, stream="landscape.noisy_gd")
        self.radius = radius
        self.steps = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step with the gradients that are there, or that the closure leaves; returns what the closure did."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        leaves = trainable(self.param_groups)
        gradient_norm(leaves)  # refuses what is not finite
        rates = {p: group["lr"] for group in self.param_groups for p in group["params"]}
        size = sum(p.numel() for p in leaves)
        noise = torch.randn(size, generator=self._generator, dtype=torch.float64) * (self.radius / math.sqrt(size))
        with torch.no_grad():
            for p, piece in zip(leaves, split_like(noise, leaves), strict=True):
                slope = piece.to(p.device, p.dtype)
                p.add_(slope if p.grad is None else slope + p.grad, alpha=-rates[p])
        self.steps += 1
        return loss
