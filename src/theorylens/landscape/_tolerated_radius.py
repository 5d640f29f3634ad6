"""How much noise the weights bear before the loss has risen by a given amount: the sharpness of PAC-Bayes bounds.

Method   the standard deviation at which the mean rise over pairs of normal draws reaches the target, by Brent's
         method in its logarithm with the same draws throughout; the interval: where Student's t at a radius covers it
Source   Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), ICLR (1 / sigma², plain and magnitude-aware); Neyshabur,
         Bhojanapalli, McAllester, Srebro (2017), NeurIPS (why: the bound pays |w - w0|² / 2 sigma² for that noise)
Assumes  a mean rise that grows with the noise; a first crossing near the usual size of weights otherwise
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from theorylens.core import RefusedError, Task, objective, rng_for
from theorylens.numerics.root_search import level_crossing
from theorylens.results import Estimate, Message, Statistical

from ._displaced import Displaced
from ._expected_sharpness import Scale, scales

LEVEL = 0.95
START = 0.1  # of the typical weight: where trained networks begin to mind noise


def tolerated_radius(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    rise: float,
    scale: Scale = "absolute",
    draws: int = 32,
    seed: int = 0,
    batch_size: int = 256,
) -> Estimate:
    """The largest standard deviation of normal noise on the weights under which the mean loss rises by ``rise``.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`.
    rise
        The rise that is tolerated, in units of the loss; positive.
    scale
        What the noise is measured in, as in `expected_sharpness`: the same for all weights, or each ``"tensor"``'s
        or ``"weight"``'s size (magnitude-aware), which rescaling of layers leaves alone.
    draws
        Evaluations of the loss at each radius tried, in pairs z and -z; even, at least 4. Ten to twenty are tried.

    Raises
    ------
    ValueError
        A rise that is not positive, draws that are odd or too few.
    RefusedError
        The rise is met by no noise, or by any.

    >>> rows = torch.tensor([[2.0, 0.0], [0.0, 20.0]]), torch.zeros(2, 1)  # Hessian diag(4, 400), at its minimum
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.zeros(1, 2)})
    >>> found = tolerated_radius(net, rows, "mse", rise=2.02, draws=64)  # radius² 404 / 2 = 2.02
    >>> found.lower < 0.1 < found.upper
    True
    """
    if not (math.isfinite(rise) and rise > 0):
        raise ValueError(f"rise must be a positive number, got {rise}")
    if draws < 4 or draws % 2:
        raise ValueError(f"draws must be even and at least 4 to give an interval, got {draws}")
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    rises = _Rises(Displaced(goal), scale, draws // 2, rng_for(seed, "landscape.tolerated_radius"))
    start = START * (rises.typical if scale == "absolute" else 1.0)
    middle = level_crossing(lambda s: rises.mean(s)[0], rise, start)
    if middle is None or middle == 0:
        what = "by noise of any size that was tried" if middle is None else "by noise too small to measure"
        raise RefusedError(
            f"the loss {'does not rise' if middle is None else 'rises'} by {rise} {what}; choose a rise that fits the "
            f"loss of {rises.base:.3g}"
        )
    low = level_crossing(lambda s: sum(rises.mean(s)), rise, middle)
    high = level_crossing(lambda s: rises.mean(s)[0] - rises.mean(s)[1], rise, middle)
    text = "Student's t over {pairs} pairs of normal draws, solved for the radius"
    limits = Statistical(
        lower=min(low or 0.0, middle), upper=math.inf if high is None else max(high, middle), level=LEVEL,
        method=Message("landscape.tolerated_radius", text, pairs=draws // 2),
    )  # fmt: skip
    return Estimate(value=middle, uncertainty=limits)


def pac_bayes_sharpness(
    model: nn.Module, data: Any, loss: Any, *, rise: float = 0.1, scale: Scale = "absolute", draws: int = 32,
    seed: int = 0, batch_size: int = 256,
) -> Estimate:  # fmt: skip
    """1 / sigma², sigma being the `tolerated_radius`: large where little noise is borne. Arguments are its own.

    A PAC-Bayes bound around w0 pays about sqrt(|w - w0|² / (4 sigma² n)) for a posterior with this noise.
    """
    sigma = tolerated_radius(
        model, data, loss, rise=rise, scale=scale, draws=draws, seed=seed, batch_size=batch_size
    )  # fmt: skip
    limits = sigma.uncertainty
    assert isinstance(limits, Statistical)
    inverse = Statistical(
        lower=1 / limits.upper**2, upper=1 / limits.lower**2 if limits.lower > 0 else math.inf, level=limits.level,
        method=limits.method,
    )  # fmt: skip
    return Estimate(value=1 / sigma.value**2, uncertainty=inverse)


class _Rises:
    """Mean rise and half width of its interval by radius, with the same draws each time; remembers what it tried."""

    def __init__(self, around: Displaced, scale: Scale, pairs: int, generator: torch.Generator) -> None:
        self._around, self._pairs, self._generator = around, pairs, generator
        self._unit = scales(around, scale)
        self._state = generator.get_state()
        self._known: dict[float, tuple[float, float]] = {}
        self.base = around.base
        self.typical = float(around.here.double().square().mean().sqrt()) or 1.0

    def mean(self, radius: float) -> tuple[float, float]:
        if radius not in self._known:
            # Drawn anew from the same state instead of kept: noise for all weights, many times over, fills memories.
            self._generator.set_state(self._state)
            values = np.array([self._pair(radius) for _ in range(self._pairs)])
            if np.isfinite(values).all():
                t = float(stats.t.ppf((1 + LEVEL) / 2, self._pairs - 1))
                half = t * float(values.std(ddof=1)) / math.sqrt(self._pairs)
                self._known[radius] = math.fsum(values) / self._pairs, half
            else:
                self._known[radius] = math.inf, 0.0
        return self._known[radius]

    def _pair(self, radius: float) -> float:
        size = self._around.size
        noise = radius * self._unit * torch.randn(size, generator=self._generator).to(self._unit)
        return (self._around.loss(noise) + self._around.loss(-noise)) / 2 - self._around.base
