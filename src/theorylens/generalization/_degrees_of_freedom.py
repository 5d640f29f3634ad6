"""Degrees of freedom of any fitting procedure: how far its fitted values follow the targets.

Method   sum of d yhat_i / d y_i by refitting to targets with small random signs added and subtracted
Source   Ye (1998), JASA 93:120; the symmetric random-sign estimate: Ramani, Blu, Unser (2008), IEEE Trans. Image
         Process. 17:1540
Assumes  real targets; refitting that depends on nothing but the targets (fix its seed)
Breaks   where the fit jumps between solutions the derivative is that of a smoothed fit, at the scale of the signs
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from theorylens.results import Estimate, Message, Statistical

Refit = Callable[[Tensor], Tensor]
"""``refit(targets) -> fitted values`` at the same rows, the same shape."""


def degrees_of_freedom(
    refit: Refit, targets: Float[Tensor, "..."], *, scale: float, draws: int, generator: torch.Generator
) -> Estimate:
    """Ye's generalised degrees of freedom, with a 95 % interval of Student's t over draws.

    For least squares with p independent features it is p, for ridge regression the trace of the hat matrix, for
    memorising it is the number of targets; two refits a draw.

    Parameters
    ----------
    refit
        The whole procedure: model choice and early stopping belong to it.
    targets
        Any shape; every entry is one target.
    scale
        Size of the random signs, in units of the targets. For a smooth fit small; for one that jumps about the noise
        of the targets.
    draws
        At least 2.

    Raises
    ------
    ValueError
        A scale that is not positive or below the rounding of the fitted values, fewer than 2 draws, no targets, fitted
        values of another shape or not finite.

    >>> x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> refit = lambda y: x @ torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    >>> found = degrees_of_freedom(refit, x[:, 0], scale=0.1, draws=200, generator=torch.Generator().manual_seed(1))
    >>> found.lower < 4 < found.upper
    True
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"the scale must be positive, got {scale}")
    if draws < 2:
        raise ValueError(f"draws must be at least 2 to give an interval, got {draws}")
    y = targets.double()
    if not y.numel():
        raise ValueError("no targets were given; every target is one chance to follow it")
    found = [_draw(refit, y, scale, generator) for _ in range(draws)]
    mean = math.fsum(found) / draws
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in found) / (draws - 1))
    half = float(stats.t.ppf(0.975, draws - 1)) * spread / math.sqrt(draws)
    method = Message("generalization.degrees", "Student's t over {draws} pairs of refits", draws=draws)
    interval = Statistical(lower=mean - half, upper=mean + half, level=0.95, method=method)
    return Estimate(value=mean, uncertainty=interval)


def _draw(refit: Refit, y: Tensor, scale: float, generator: torch.Generator) -> float:
    bits = torch.randint(0, 2, tuple(y.shape), generator=generator, device=generator.device, dtype=torch.int8)
    signs = bits.to(y.device, y.dtype) * 2 - 1
    up, down = (refit(y + s * scale * signs) for s in (1, -1))
    for fitted in (up, down):
        if fitted.shape != y.shape:
            raise ValueError(f"refit returned shape {tuple(fitted.shape)} for targets of shape {tuple(y.shape)}")
        if not bool(torch.isfinite(fitted).all()):
            raise ValueError("refit returned values that are not finite; lower the learning rate or the scale")
        rounding = torch.finfo(fitted.dtype).eps * float(fitted.abs().max()) if fitted.is_floating_point() else 0.0
        if scale < 100 * rounding:
            raise ValueError(
                f"a scale of {scale:g} is lost in the rounding of the fitted values ({rounding:.1g}, {fitted.dtype}); "
                "raise it, or fit in float64"
            )
    return float((signs * (up.double() - down.double())).sum()) / (2 * scale)
