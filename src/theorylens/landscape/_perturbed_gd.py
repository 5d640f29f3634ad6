"""Perturbed gradient descent: noise once where the gradient is small, then a wait, then a decision.

Source   Jin, Ge, Netrapalli, Kakade, Jordan (2017), How to escape saddle points efficiently, ICML, algorithms 1 and 2
Assumes  gradient and Hessian Lipschitz with constants that `perturbed_gd_thresholds` is given; full-batch gradients
Breaks   with noise at every step and no stop, which is another algorithm, the iterates never settle
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._closure_graph import KINK, put, split_like, trainable, unmoved_on_error
from ._event_log import Logged


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Parameters of the algorithm.

    Attributes
    ----------
    lr
        Step size eta.
    radius
        r of the ball from which a perturbation is drawn.
    gradient
        g_thres: a perturbation is considered where the gradient's norm is at most this.
    decrease
        f_thres: what the loss must have fallen by, ``wait`` steps after a perturbation, to go on.
    wait
        t_thres, steps.
    """

    lr: float
    radius: float
    gradient: float
    decrease: float
    wait: int

    def __post_init__(self) -> None:
        numbers = {"lr": self.lr, "radius": self.radius, "gradient": self.gradient, "decrease": self.decrease}
        for name, value in numbers.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if self.wait < 1:
            raise ValueError(f"wait must be at least 1 step, got {self.wait}")


def perturbed_gd_thresholds(
    *,
    smoothness: float,
    lipschitz: float,
    epsilon: float,
    dimension: int,
    drop: float,
    delta: float = 0.1,
    c: float = 0.25,
) -> Thresholds:
    """The thresholds of algorithm 1 (PGD): with probability 1 - delta it stops at an epsilon-second-order point.

    Parameters
    ----------
    smoothness, lipschitz
        Lipschitz constants of the gradient (l) and of the Hessian (rho).
    drop
        Bound on f(start) - min f.
    c
        The constant of the theorem, which is proved for small enough c; practice takes it large.

    chi = 3 max(log(d l drop / (c eps² delta)), 4); eta = c / l; r = sqrt(c) eps / (chi² l); g = sqrt(c) eps / chi²;
    f = c sqrt(eps³ / rho) / chi³; t = chi l / (c² sqrt(rho eps)).
    """
    given = {"smoothness": smoothness, "lipschitz": lipschitz, "epsilon": epsilon, "drop": drop, "c": c}
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
    if not (dimension >= 1 and 0 < delta < 1 and c <= 1):
        raise ValueError(
            f"needed are dimension >= 1, 0 < delta < 1 and c <= 1, got dimension={dimension}, delta={delta}, c={c}"
        )
    chi = 3 * max(math.log(dimension * smoothness * drop / (c * epsilon**2 * delta)), 4.0)
    gradient = math.sqrt(c) * epsilon / chi**2
    return Thresholds(
        lr=c / smoothness,
        radius=gradient / smoothness,
        gradient=gradient,
        decrease=c * math.sqrt(epsilon**3 / lipschitz) / chi**3,
        wait=math.ceil(chi * smoothness / (c**2 * math.sqrt(lipschitz * epsilon))),
    )


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """One entry of the log: where noise was added, and what came of it.

    ``outcome`` is None while waiting, else the loss minus that before the perturbation, ``wait`` steps later.
    """

    step: int
    gradient_norm: float
    loss: float
    outcome: float | None = None


class PerturbedGD(Logged):
    """Gradient descent that adds one draw from a ball where the gradient is small, and stops where that did not help.

    A step is ``step(closure)`` with a closure as for LBFGS: it zeroes the gradients, computes the loss, calls backward
    and returns the loss, always on the same data. When ``finished`` is true the parameters are those before the last
    perturbation, an approximate second-order stationary point, and further steps do nothing.

    Parameters
    ----------
    thresholds
        `Thresholds`, by hand or from `perturbed_gd_thresholds`.
    seed
        Of the perturbations.

    Attributes
    ----------
    events
        One `Perturbation` for each draw.
    steps, gradients
        Steps taken; times the closure was called.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # at the saddle of (x² - y²) / 2 + y⁴ / 4
    >>> how = Thresholds(lr=0.1, radius=0.01, gradient=1e-3, decrease=1e-4, wait=100)
    >>> rule = PerturbedGD([w], how)
    >>> def closure():
    ...     rule.zero_grad()
    ...     loss = (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(1000):
    ...     if not rule.finished:
    ...         _ = rule.step(closure)
    >>> rule.finished, round(closure().item(), 6)
    (True, -0.25)
    """

    _event = Perturbation
    _counters = ("steps", "gradients", "finished", "_last", "_before")

    def __init__(self, params: Iterable[Any], thresholds: Thresholds, *, seed: int = 0) -> None:
        super().__init__(params, {"lr": thresholds.lr}, seed=seed, stream="landscape.perturbed_gd")
        self.thresholds = thresholds
        self.finished = False
        self.steps = self.gradients = 0
        self._last = -thresholds.wait - 1  # step of the last perturbation
        self._before: list[Tensor] = []

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the loss before it."""
        if closure is None:
            raise ValueError("PerturbedGD.step needs a closure that returns the loss after backward()")
        loss, value = self._evaluate(closure)
        if self.finished:
            return loss
        leaves, limits = trainable(self.param_groups), self.thresholds
        norm = gradient_norm(leaves)
        if norm <= limits.gradient and self.steps - self._last > limits.wait:
            self._before = [p.detach().clone() for p in leaves]
            noted = Perturbation(step=self.steps, gradient_norm=norm, loss=value)
            with unmoved_on_error(leaves, self._before):
                add_from_ball(leaves, limits.radius, self._generator)
                loss, value = self._evaluate(closure)
                gradient_norm(leaves)
            self.events.append(noted)
            self._last = self.steps
        if self.steps - self._last == limits.wait and self.events:
            change = value - self.events[-1].loss
            known = self.events[-1]
            self.events[-1] = Perturbation(
                step=known.step, gradient_norm=known.gradient_norm, loss=known.loss, outcome=change
            )
            if change > -limits.decrease:
                put(leaves, self._before)
                self.finished = True
                return loss
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.add_(p.grad, alpha=-group["lr"])
        self.steps += 1
        return loss

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[Any, float]:
        """What the closure returned, and the same as a number."""
        loss, value = evaluate(closure, self.steps)
        self.gradients += 1
        return loss, value


def evaluate(closure: Callable[[], Any], steps: int) -> tuple[Any, float]:
    """What a closure with ``backward()`` returned, and the same as a finite number."""
    with torch.enable_grad():
        loss = closure()
    value = float(loss.detach() if isinstance(loss, Tensor) else loss)
    if not math.isfinite(value):
        raise ValueError(f"the loss is {value} after {steps} steps; lower lr")
    return loss, value


@torch.no_grad()
def add_from_ball(leaves: list[Tensor], radius: float, generator: torch.Generator) -> None:
    """Add a uniform draw from the ball of ``radius`` in the space of all leaves together."""
    size = sum(p.numel() for p in leaves)
    drawn = torch.randn(size, generator=generator, dtype=torch.float64)
    share = float(torch.rand(1, generator=generator, dtype=torch.float64)) ** (1 / size)
    drawn *= radius * share / float(torch.linalg.vector_norm(drawn))
    for p, piece in zip(leaves, split_like(drawn, leaves), strict=True):
        p.add_(piece.to(p.device, p.dtype))


def gradient_norm(leaves: list[Tensor]) -> float:
    """|g| over all leaves; refuses a gradient that is not finite before it is added to anything."""
    squares = [float(p.grad.detach().double().square().sum()) for p in leaves if p.grad is not None]
    if not all(map(math.isfinite, squares)):
        raise ValueError(f"the gradient is not finite; {KINK}")
    return math.sqrt(math.fsum(squares))
