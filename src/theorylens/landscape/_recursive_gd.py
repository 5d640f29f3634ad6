"""Stochastic gradient descent with a recursive gradient that leaves saddles: batches in between, full gradients rarely.

Source   Li (2019), SSRGD: simple stochastic recursive gradient descent for escaping saddle points, NeurIPS (algorithm
         for finite sums); Nguyen, Liu, Scheinberg, Takac (2017), SARAH, ICML (the recursion)
Assumes  gradient and Hessian Lipschitz; a finite sum: now and then the gradient of all of it can be had
Breaks   batch normalisation and dropout: the two gradients of a batch must be of one function
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ._closure_graph import put, trainable, unmoved_on_error
from ._event_log import Logged
from ._perturbed_gd import Perturbation, Thresholds, add_from_ball, evaluate, gradient_norm

STEP = (math.sqrt(5) - 1) / 2  # times 1 / smoothness: the largest step of the theorem where batch size = epoch length


def ssrgd_thresholds(
    *, smoothness: float, lipschitz: float, epsilon: float, curvature: float, dimension: int
) -> Thresholds:
    """Thresholds of `SSRGD` for a point with |g| <= ``epsilon`` and no eigenvalue below -``curvature``.

    lr = (sqrt 5 - 1) / (2 l), r = min(c³ / (rho² eps), c^1.5 / (rho sqrt l)) / log, g = eps, f = c³ / rho² / log³,
    t = log / (lr c), with c = ``curvature`` and log = log(d c / (rho r)), at least 1. The orders are those of the
    theorem, which leaves logarithmic factors open: a place to begin, and no guarantee.

    Parameters
    ----------
    smoothness, lipschitz
        Lipschitz constants of the gradient (l) and of the Hessian (rho).
    """
    given = {"smoothness": smoothness, "lipschitz": lipschitz, "epsilon": epsilon, "curvature": curvature}
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension}")
    lr = STEP / smoothness
    radius = min(curvature**3 / (lipschitz**2 * epsilon), curvature**1.5 / (lipschitz * math.sqrt(smoothness)))
    log = max(1.0, math.log(dimension * curvature / (lipschitz * radius)))
    return Thresholds(
        lr=lr,
        radius=radius / log,
        gradient=epsilon,
        decrease=curvature**3 / lipschitz**2 / log**3,
        wait=math.ceil(log / (lr * curvature)),
    )


class SSRGD(Logged):
    """w <- w - lr v with v <- v + g_batch(w) - g_batch(w before), begun anew from the gradient of all data.

    An epoch begins with a full gradient and has at most ``epoch`` steps (it ends at random, each length being as
    likely). Where the full gradient is small, a draw from a ball is added and a super-epoch begins, in which epochs are
    whole: it ends when the loss has fallen by ``decrease``, and then the search goes on, or after ``wait`` steps. Had
    the loss not fallen by then, the place before the draw was an approximate second-order stationary point with high
    probability: the parameters are put back there and ``finished`` is true. (The paper looks at the loss at each step,
    here it is at the beginning of an epoch, where it costs nothing more.)

    ``step(closure, full)`` takes two closures as for LBFGS (zero the gradients, compute the loss, call backward, return
    it): one on a batch, the same both times it is called in a step, and one on all data.

    Parameters
    ----------
    thresholds
        `Thresholds`, by hand or from `ssrgd_thresholds`.
    epoch
        Most steps from one full gradient to the next. The theorem takes batches and epochs of sqrt n.
    seed
        Of the draws and of the lengths of epochs.

    Attributes
    ----------
    events
        One `Perturbation` for each draw.
    steps, gradients, batches
        Steps taken; times the closure on all data, and that on a batch, was called.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # at the saddle of (x² - y²) / 2 + y⁴ / 4
    >>> tilt = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)  # two examples, tilted against each other
    >>> how = Thresholds(lr=0.1, radius=0.01, gradient=1e-3, decrease=1e-4, wait=100)
    >>> rule = SSRGD([w], how, epoch=5)
    >>> def closure(rows):
    ...     rule.zero_grad()
    ...     loss = (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4 + (tilt[rows] @ w).mean()
    ...     loss.backward()
    ...     return loss
    >>> for t in range(2000):
    ...     _ = rule.step(lambda: closure([t % 2]), lambda: closure([0, 1]))
    >>> rule.finished, round(closure([0, 1]).item(), 6)
    (True, -0.25)
    """

    _event = Perturbation
    _counters = ("steps", "gradients", "batches", "finished", "_left", "_began", "_value", "_estimate", "_before")

    def __init__(self, params: Iterable[Any], thresholds: Thresholds, *, epoch: int, seed: int = 0) -> None:
        if epoch < 1:
            raise ValueError(f"epoch must be at least 1 step, got {epoch}")
        super().__init__(params, {"lr": thresholds.lr}, seed=seed, stream="landscape.ssrgd")
        self.thresholds, self.epoch = thresholds, epoch
        self.finished = False
        self.steps = self.gradients = self.batches = 0
        self._left = 0  # steps of this epoch still to take
        self._began: int | None = None  # step at which the super-epoch began
        self._value = math.nan  # the loss over all data where it was looked at last
        self._estimate: list[Tensor] = []
        self._before: list[Tensor] = []

    def step(  # type: ignore[override]
        self, closure: Callable[[], Any] | None = None, full: Callable[[], Any] | None = None
    ) -> float:
        """One step; returns the loss over all data at the beginning of its epoch."""
        if closure is None or full is None:
            raise ValueError(
                "SSRGD.step needs two closures that return the loss after backward(): one on a batch, one on all data"
            )
        if self.finished:
            return self._value
        leaves = trainable(self.param_groups)
        if self._left == 0 and self._ends(full, leaves):
            return self._value
        here = [p.detach().clone() for p in leaves]
        with unmoved_on_error(leaves, here):
            self._move(leaves)
            if self._left > 1:
                self._correct(closure, leaves, here)
        self._left -= 1
        self.steps += 1
        return self._value

    def _ends(self, full: Callable[[], Any], leaves: list[Tensor]) -> bool:
        """Begin an epoch by looking at all data: is this the end, does a super-epoch end or begin, how long is it?"""
        self._value, norm = self._look(full, leaves)
        limits = self.thresholds
        if self._began is not None:
            change = self._value - self.events[-1].loss
            if change <= -limits.decrease or self.steps - self._began >= limits.wait:
                self.events[-1] = Perturbation(**{**vars(self.events[-1]), "outcome": change})
                self._began = None
                if change > -limits.decrease:
                    put(leaves, self._before)
                    self._value, self.finished = self.events[-1].loss, True
                    return True
        if self._began is None and norm <= limits.gradient:
            noted = Perturbation(step=self.steps, gradient_norm=norm, loss=self._value)
            self._before = [p.detach().clone() for p in leaves]
            with unmoved_on_error(leaves, self._before):
                add_from_ball(leaves, limits.radius, self._generator)
                self._value, _ = self._look(full, leaves)
            self.events.append(noted)
            self._began = self.steps
        self._estimate = _slopes(leaves)
        self._left = self.epoch if self._began is not None else self._length()
        return False

    def _look(self, full: Callable[[], Any], leaves: list[Tensor]) -> tuple[float, float]:
        self.gradients += 1
        value = evaluate(full, self.steps)[1]
        return value, gradient_norm(leaves)

    def _length(self) -> int:
        """Of an epoch that ends after step k with probability 1 / (epoch - k + 1): any length is as likely."""
        return 1 + int(torch.randint(self.epoch, (1,), generator=self._generator))

    @torch.no_grad()
    def _move(self, leaves: list[Tensor]) -> None:
        rates = {p: group["lr"] for group in self.param_groups for p in group["params"]}
        for p, v in zip(leaves, self._estimate, strict=True):
            p.add_(v, alpha=-rates[p])

    def _correct(self, closure: Callable[[], Any], leaves: list[Tensor], before: list[Tensor]) -> None:
        """Add to the estimate what the step changed in the gradient of the batch."""
        now = [p.detach().clone() for p in leaves]
        slopes = []
        for place in (before, now):
            put(leaves, place)
            self.batches += 1
            evaluate(closure, self.steps)
            gradient_norm(leaves)
            slopes.append(_slopes(leaves))
        self._estimate = [v + b - a for v, a, b in zip(self._estimate, *slopes, strict=True)]


def _slopes(leaves: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.detach().to_dense().clone() for p in leaves]
