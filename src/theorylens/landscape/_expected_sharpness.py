"""How much the loss rises on average when the weights are moved at random.

Method   mean of (L(w + s z) + L(w - s z)) / 2 - L(w) over normal z, in pairs; Student's t over the pairs
Source   Neyshabur, Bhojanapalli, McAllester, Srebro (2017), Exploring generalization in deep learning, NeurIPS;
         Dinh et al. (2017), ICML (why the scale of the noise must follow the weights to mean anything)
Assumes  nothing of the loss; unbiased for E L(w + s z) - L(w) at any s
Breaks   in single precision a rise below about 1e-6 of the loss is rounding
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.results import Estimate, Exact, Message, Statistical, Unknown

from ._displaced import Displaced

Scale = Literal["absolute", "tensor", "weight"]
LEVEL = 0.95


def expected_sharpness(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    radius: float,
    scale: Scale = "absolute",
    draws: int = 64,
    seed: int = 0,
    batch_size: int = 256,
) -> Estimate:
    """E L(w + noise) - L(w) for normal noise, with a 95 % interval over the draws.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    radius
        Standard deviation of the noise of each weight, in units of ``scale``; positive.
    scale
        ``"absolute"``: the same for all weights; for small radii the answer is radius² tr(H) / 2.
        ``"tensor"``: times the root mean square of the weight's tensor: a network does not change when two of its
        tensors are rescaled against each other, and neither does the answer.
        ``"weight"``: times the weight's own size (adaptive sharpness).
    draws
        Evaluations of the loss, in pairs z and -z that cancel its slope; even, at least 4.

    In 20,000 simulated runs at the minimum of a quadratic the interval covered the mean in 93 to 95 % for nine
    outliers over a bulk (16 to 256 draws) and in 95 % for equal eigenvalues. It covers too little where one eigenvalue
    carries the trace (85 % at 16 draws, 91 % at 64, 94 % at 256), and then mostly because it lies too low.

    >>> rows = torch.tensor([[2.0, 0.0], [0.0, 20.0]]), torch.zeros(2, 1)  # Hessian diag(4, 400), at its minimum
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.zeros(1, 2)})
    >>> found = expected_sharpness(net, rows, "mse", radius=0.1, draws=512)
    >>> found.lower < 0.1**2 * 404 / 2 < found.upper
    True
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    generator = rng_for(seed, "landscape.expected_sharpness")
    return mean_rise(goal, radius=radius, scale=scale, draws=draws, generator=generator)


def mean_rise(goal: Objective, *, radius: float, scale: Scale, draws: int, generator: torch.Generator) -> Estimate:
    """`expected_sharpness` of an objective that is there already."""
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be a positive number, got {radius}")
    if draws < 4 or draws % 2:
        raise ValueError(f"draws must be even and at least 4 to give an interval, got {draws}")
    around = Displaced(goal)
    size = scales(around, scale) * radius
    values = []
    for _ in range(draws // 2):
        noise = size * torch.randn(around.size, generator=generator).to(size)
        values.append((around.loss(noise) + around.loss(-noise)) / 2 - around.base)
    return _student(np.array(values), radius)


def scales(around: Displaced, scale: Scale) -> Float[Tensor, "p"]:
    """By how much a unit of noise moves each weight."""
    match scale:
        case "absolute":
            return torch.ones_like(around.here)
        case "weight":
            return around.here.abs()
        case "tensor":
            parts = [p.square().mean().sqrt().expand(p.numel()) for p in around.split(around.here)]
            return torch.cat(parts)
    raise ValueError(f"scale must be 'absolute', 'tensor' or 'weight', got {scale!r}")


def _student(values: np.ndarray[Any, np.dtype[np.float64]], radius: float) -> Estimate:
    finite = np.isfinite(values)
    if not finite.all():
        text = "{bad} of {pairs} pairs of moved networks have a loss that is not finite; take a smaller radius"
        bad = Message("landscape.sharpness.infinite", text, bad=int((~finite).sum()), pairs=len(values))
        return Estimate(value=math.inf, uncertainty=Unknown(why=bad), trouble=bad)
    value = math.fsum(values) / len(values)
    if not float(np.ptp(values)):  # a loss that the noise does not touch
        return Estimate(value=value, uncertainty=Exact())
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    text = "Student's t over {pairs} pairs of normal draws of relative size {radius:.3g}"
    method = Message("landscape.sharpness.draws", text, pairs=len(values), radius=radius)
    return Estimate(
        value=value, uncertainty=Statistical(lower=value - half, upper=value + half, level=LEVEL, method=method)
    )
