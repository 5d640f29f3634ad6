"""Accelerated gradient descent that leaves saddles: momentum, noise where the gradient is small, and a way out of it.

Source   Jin, Netrapalli, Jordan (2018), Accelerated gradient descent escapes saddle points faster than gradient
         descent, COLT (perturbed accelerated gradient descent with negative curvature exploitation)
Assumes  gradient and Hessian Lipschitz; full-batch gradients: the loss at two points is compared
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ._closure_graph import put, trainable, unmoved_on_error
from ._event_log import Logged
from ._perturbed_gd import add_from_ball, evaluate, gradient_norm


@dataclass(frozen=True, kw_only=True)
class AcceleratedMove:
    """What happened besides an ordinary step: noise was added, or momentum was given up for negative curvature."""

    step: int
    kind: Literal["perturbation", "exploitation"]
    loss: float


def accelerated_noise(
    *, smoothness: float, lipschitz: float, epsilon: float, dimension: int, drop: float, delta: float = 0.1,
    c: float = 1.0,
) -> tuple[float, int]:  # fmt: skip
    """Radius and wait of the noise of `AcceleratedPerturbedGD` as the theorem has them.

    r = eta eps / (chi^5 c^8) and t = sqrt(kappa) chi c, with eta = 1 / 4l, kappa = l / sqrt(rho eps) and chi =
    max(log(d l drop / (rho eps delta)), 1). With probability 1 - delta an eps-second-order stationary point is then
    among the first O(sqrt(kappa) drop sqrt(rho / eps³) chi^6 c^7) iterates, for a constant c that is large enough; the
    theorem does not say how large, and practice takes 1.

    Parameters
    ----------
    smoothness, lipschitz
        Lipschitz constants of the gradient (l) and of the Hessian (rho).
    drop
        Bound on f(start) - min f.
    """
    given = {"smoothness": smoothness, "lipschitz": lipschitz, "epsilon": epsilon, "drop": drop}
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
    if not (dimension >= 1 and 0 < delta < 1 and math.isfinite(c) and c >= 1):
        raise ValueError(
            f"needed are dimension >= 1, 0 < delta < 1 and c >= 1, got dimension={dimension}, delta={delta}, c={c}"
        )
    chi = max(math.log(dimension * smoothness * drop / (lipschitz * epsilon * delta)), 1.0)
    kappa = smoothness / math.sqrt(lipschitz * epsilon)
    return epsilon / (4 * smoothness) / (chi**5 * c**8), math.ceil(math.sqrt(kappa) * chi * c)


class AcceleratedPerturbedGD(Logged):
    """Nesterov's steps y = x + (1 - theta) v, x <- y - lr g(y), v <- change of x, with two additions.

    Where |g(x)| <= ``gradient`` and no noise was added for ``wait`` steps, a draw from the ball of ``radius`` is added
    to x. Where the loss between x and y bends down by more than gamma, f(x) <= f(y) + g(y)'(x - y) - gamma |x - y|²/2,
    momentum would no longer lower energy: x stays (if |v| >= ``reach``) or moves by ``reach`` along +-v to the lower
    side, and v is 0.

    A closure as for LBFGS (zeroes gradients, backward, returns the loss) is called two to five times a step. It does
    not stop by itself; the method's promise is that an approximate second-order point is among those visited.

    Parameters
    ----------
    smoothness, lipschitz, epsilon
        Lipschitz constants l of the gradient and rho of the Hessian, and the accuracy asked for. They set lr = 1 / 4l,
        theta = 1 / (4 sqrt(kappa)) with kappa = l / sqrt(rho epsilon), gamma = theta² / lr, reach = gamma / 4 rho and
        ``gradient`` = epsilon.
    radius, wait
        Of the noise. None: those of the theorem, `accelerated_noise`, for which ``drop`` is needed: a tiny radius and a
        long wait. In practice a radius well below the distances that matter and a wait of a few sqrt(kappa).
    drop, delta
        Bound on f(start) - min f, and probability of failing: for the theorem's noise.

    Attributes
    ----------
    events
        An `AcceleratedMove` each time noise was added or momentum given up.
    steps, gradients
        Steps taken; times the closure was called.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # at the saddle of (x² - y²) / 2 + y⁴ / 4
    >>> rule = AcceleratedPerturbedGD([w], smoothness=4.0, lipschitz=6.0, epsilon=1e-2, radius=1e-3, wait=100)
    >>> def closure():
    ...     rule.zero_grad()
    ...     loss = (w[0] ** 2 - w[1] ** 2) / 2 + w[1] ** 4 / 4
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(400):
    ...     loss = rule.step(closure)
    >>> round(loss.item(), 3)
    -0.25
    """

    _event = AcceleratedMove
    _counters = ("steps", "gradients", "_last", "_velocity")

    def __init__(
        self,
        params: Iterable[Any],
        *,
        smoothness: float,
        lipschitz: float,
        epsilon: float,
        radius: float | None = None,
        wait: int | None = None,
        drop: float | None = None,
        delta: float = 0.1,
        seed: int = 0,
    ) -> None:
        given = {"smoothness": smoothness, "lipschitz": lipschitz, "epsilon": epsilon}
        for name, value in (given if radius is None else {**given, "radius": radius}).items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if wait is not None and wait < 1:
            raise ValueError(f"wait must be at least 1 step, got {wait}")
        kappa = smoothness / math.sqrt(lipschitz * epsilon)
        if kappa < 1:
            raise ValueError(
                f"smoothness {smoothness} is below sqrt(lipschitz epsilon) = {math.sqrt(lipschitz * epsilon):.3g}: no "
                "curvature could reach what is asked for; take a smaller epsilon"
            )
        lr, theta = 1 / (4 * smoothness), 1 / (4 * math.sqrt(kappa))
        super().__init__(params, {"lr": lr}, seed=seed, stream="landscape.accelerated_perturbed_gd")
        if len(self.param_groups) > 1:
            groups = len(self.param_groups)
            raise ValueError(f"one group of parameters is needed, since all share one step size, got {groups}")
        if radius is None or wait is None:
            if drop is None:
                raise ValueError("the theorem's radius and wait need drop, a bound on f(start) - min f; or give both")
            size = sum(p.numel() for p in trainable(self.param_groups))
            known = accelerated_noise(**given, dimension=size, drop=drop, delta=delta)
            radius, wait = radius or known[0], wait or known[1]
        self.theta, self.gamma = theta, theta**2 / lr
        self.reach = self.gamma / (4 * lipschitz)
        self.gradient, self.radius, self.wait = epsilon, radius, wait
        self.steps = self.gradients = 0
        self._last = -wait - 1
        self._velocity: list[Tensor] = []

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the loss before it."""
        if closure is None:
            raise ValueError("AcceleratedPerturbedGD.step needs a closure that returns the loss after backward()")
        leaves = trainable(self.param_groups)
        if not self._velocity:
            self._velocity = [torch.zeros_like(p) for p in leaves]
        first = loss = self._evaluate(closure)[0]
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if gradient_norm(leaves) <= self.gradient and self.steps - self._last > self.wait:
            add_from_ball(leaves, self.radius, self._generator)
            self._log("perturbation", value)
            self._last = self.steps
            value = self._evaluate(closure)[1]
        here = [p.detach().clone() for p in leaves]
        with unmoved_on_error(leaves, here):
            with torch.no_grad():
                for p, v in zip(leaves, self._velocity, strict=True):
                    p.add_(v, alpha=1 - self.theta)
            ahead = self._evaluate(closure)[1]
            gradient_norm(leaves)
            back = [x - p.detach() for x, p in zip(here, leaves, strict=True)]
            slopes = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in leaves]
            if self._bends_down(value, ahead, back, slopes):
                self._log("exploitation", value)
                self._exploit(closure, leaves, here)
            else:
                self._advance(leaves, here, slopes)
        self.steps += 1
        return first

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[Any, float]:
        self.gradients += 1
        return evaluate(closure, self.steps)

    def _bends_down(self, value: float, ahead: float, back: list[Tensor], slopes: list[Tensor]) -> bool:
        square = _inner(back, back)
        # Without momentum x and y are one point: nothing was looked at.
        return square > 0 and value <= ahead + _inner(slopes, back) - self.gamma / 2 * square

    @torch.no_grad()
    def _advance(self, leaves: list[Tensor], here: list[Tensor], slopes: list[Tensor]) -> None:
        lr = self.param_groups[0]["lr"]
        for p, g in zip(leaves, slopes, strict=True):
            p.add_(g, alpha=-lr)
        self._velocity = [p.detach() - x for p, x in zip(leaves, here, strict=True)]

    def _exploit(self, closure: Callable[[], Any], leaves: list[Tensor], here: list[Tensor]) -> None:
        """Stay where momentum was large, else take the lower of the two ends of it; momentum starts again from 0."""
        speed = math.sqrt(_inner(self._velocity, self._velocity))
        ends = [here]
        if 0 < speed < self.reach:
            far = self.reach / speed
            ends = [[x + sign * far * v for x, v in zip(here, self._velocity, strict=True)] for sign in (1, -1)]
        losses = []
        for end in ends if len(ends) > 1 else []:
            put(leaves, end)
            losses.append(self._evaluate(closure)[1])
        put(leaves, ends[losses.index(min(losses))] if losses else here)
        self._velocity = [torch.zeros_like(v) for v in self._velocity]

    def _log(self, kind: Literal["perturbation", "exploitation"], loss: float) -> None:
        self.events.append(AcceleratedMove(step=self.steps, kind=kind, loss=loss))


def _inner(a: list[Tensor], b: list[Tensor]) -> float:
    return math.fsum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))
