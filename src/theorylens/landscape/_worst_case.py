"""How much the loss can rise within a ball around the weights: found by ascent, so a lower estimate.

Method   conditional-gradient ascent with halving and several random starts; for a convex loss each full step ascends
Source   Keskar et al. (2017), ICLR (box); Foret, Kleiner, Mobahi, Neyshabur (2021), ICLR (ball); Kwon et al. (2021),
         ICML (adaptive); Andriushchenko et al. (2023), ICML (what it does and does not tell about generalisation)
Assumes  a differentiable loss
Breaks   the maximum of a non-convex loss over a ball cannot be certified: every value is what was found, at least
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.results import Enclosure, Estimate, Message

from ._displaced import Displaced
from ._expected_sharpness import Scale, scales

Ball = Literal["l2", "linf"]
HALVINGS = 12  # a step below 1/4096 of the way to the sphere is none


@dataclass(frozen=True, kw_only=True, eq=False)
class WorstCase:
    """The largest rise found within a ball.

    Attributes
    ----------
    estimate
        Largest L(w + v) - L(w) found; the true maximum is at least that.
    starts
        The rise that each start ended with, in order: the first goes along the gradient, the others at random.
        Starts that disagree say that the ball holds several local maxima.
    displacement
        The v that does it, shape (p,).
    gradients
        Full-data gradients taken.
    """

    estimate: Estimate
    starts: tuple[float, ...]
    displacement: Float[Tensor, "p"]
    gradients: int


def worst_case_sharpness(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    radius: float,
    scale: Scale = "absolute",
    ball: Ball = "l2",
    starts: int = 4,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 256,
) -> WorstCase:
    """Largest L(w + s v) - L(w) over |v| <= ``radius``, from below.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    radius, ball
        Of the Euclidean ball (``"l2"``; for small radii at a minimum the answer is radius² lambda_max / 2) or of the
        largest entry (``"linf"``).
    scale
        What a unit of v moves each weight by, as in `expected_sharpness`. ``"weight"`` is adaptive sharpness, which
        does not change when layers are rescaled against each other.
    starts, steps
        Ascents tried; gradients in each at most.

    >>> rows = torch.tensor([[2.0, 0.0], [0.0, 20.0]]), torch.zeros(2, 1)  # Hessian diag(4, 400), at its minimum
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.zeros(1, 2)})
    >>> round(worst_case_sharpness(net, rows, "mse", radius=0.1).estimate.value, 5)
    2.0
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    generator = rng_for(seed, "landscape.worst_case_sharpness")
    return largest_rise(
        goal, radius=radius, scale=scale, ball=ball, starts=starts, steps=steps, generator=generator
    )  # fmt: skip


def largest_rise(
    goal: Objective,
    *,
    radius: float,
    scale: Scale = "absolute",
    ball: Ball = "l2",
    starts: int,
    steps: int,
    generator: torch.Generator,
) -> WorstCase:
    """`worst_case_sharpness` of an objective that is there already."""
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be a positive number, got {radius}")
    if starts < 1 or steps < 1:
        raise ValueError(f"starts and steps must be at least 1, got {starts} and {steps}")
    if ball not in ("l2", "linf"):
        raise ValueError(f"ball must be 'l2' or 'linf', got {ball!r}")
    around = Displaced(goal)
    ascent = _Ascent(around, scales(around, scale), radius, ball, steps)
    ends = [ascent.run(None if i == 0 else generator) for i in range(starts)]
    best = max(ends, key=lambda end: end[0])
    why = Message(
        "landscape.worst_case",
        "the largest rise found by {starts} ascents; the largest there is may be larger",
        starts=starts,
    )
    bad = None
    if not math.isfinite(best[0]):
        bad = Message("landscape.worst_case.infinite", "the loss becomes infinite within the ball; take a smaller one")
    value = best[0]
    return WorstCase(
        estimate=Estimate(value=value, uncertainty=Enclosure(lower=value, upper=math.inf, why=why), trouble=bad),
        starts=tuple(end[0] for end in ends), displacement=best[1], gradients=ascent.gradients,
    )  # fmt: skip


def keskar_sharpness(
    model: nn.Module, data: Any, loss: Any, *, radius: float = 1e-3, starts: int = 4, steps: int = 20, seed: int = 0,
    batch_size: int = 256,
) -> Estimate:  # fmt: skip
    """Keskar's sharpness: 100 (max L - L) / (1 + L) over the box |v_i| <= radius (|w_i| + 1), from below.

    It is not invariant under rescaling of layers, because of the 1 in the box.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be a positive number, got {radius}")
    around = Displaced(goal)
    ascent = _Ascent(around, around.here.abs() + 1, radius, "linf", steps)
    generator = rng_for(seed, "landscape.keskar_sharpness")
    best = max(ascent.run(None if i == 0 else generator)[0] for i in range(max(1, starts)))
    value = 100 * best / (1 + around.base)
    text = "the largest rise found by {starts} ascents; the largest there is may be larger"
    why = Message("landscape.worst_case", text, starts=max(1, starts))
    return Estimate(value=value, uncertainty=Enclosure(lower=value, upper=math.inf, why=why))


class _Ascent:
    """Ascents in coordinates u with v = scale * u, each from its own start, all on one copy of the network."""

    def __init__(self, around: Displaced, scale: Tensor, radius: float, ball: Ball, steps: int) -> None:
        self._around, self._scale, self._radius, self._ball, self._steps = around, scale, radius, ball, steps
        self._rounding = 100 * torch.finfo(around.dtype).eps
        self.gradients = 0

    def run(self, generator: torch.Generator | None) -> tuple[float, Tensor]:
        """The rise and the displacement of one ascent; from the gradient, or from a random point of the sphere."""
        start = self._slope(torch.zeros_like(self._scale)) if generator is None else self._draw(generator)
        if not bool(start.any()):  # exactly at a critical point the gradient points nowhere
            start = torch.ones_like(self._scale)
        place = self._farthest(start)
        rise = self._rise(place)
        for _ in range(self._steps):
            slope = self._slope(place)
            towards = self._farthest(slope) - place
            gap = float(slope.double() @ towards.double())  # first-order gain still to be had
            if not gap > self._rounding * max(abs(rise), self._rounding * abs(self._around.base)):
                break
            found = self._ascend(place, towards, rise)
            if found is None:
                break
            place, rise = found
        return max(rise, 0.0), self._scale * place if rise > 0 else torch.zeros_like(place)

    def _ascend(self, place: Tensor, towards: Tensor, rise: float) -> tuple[Tensor, float] | None:
        """The first higher point on the way, halving it each time: on the sphere if there, else inside the ball."""
        share = 1.0
        for _ in range(HALVINGS):
            inside = place + share * towards
            for point in (self._onto_sphere(inside), inside) if share < 1 else (inside,):
                tried = self._rise(point)
                if tried > rise:
                    return point, tried
            share /= 2
        return None

    def _rise(self, u: Tensor) -> float:
        value = self._around.loss(self._scale * u) - self._around.base
        return math.inf if math.isnan(value) else value

    def _slope(self, u: Tensor) -> Tensor:
        self.gradients += 1
        return self._scale * self._around.gradient(self._scale * u)

    def _farthest(self, u: Tensor) -> Tensor:
        """The point of the ball farthest along ``u``."""
        return self._radius * u.sign() if self._ball == "linf" else self._onto_sphere(u)

    def _onto_sphere(self, u: Tensor) -> Tensor:
        length = float(u.abs().max() if self._ball == "linf" else torch.linalg.vector_norm(u.double()))
        return u * (self._radius / length) if length else u

    def _draw(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self._around.size, generator=generator).to(self._scale)
