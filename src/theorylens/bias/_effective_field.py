"""Effective receptive field: where in its window does a unit really look?

Method   mean squared gradient of the centre unit, summed over its channels, with respect to the input
Source   Luo, Li, Urtasun, Zemel (2016). Understanding the effective receptive field. NeurIPS
Assumes  a network differentiable almost everywhere
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from theorylens.numerics.counting import count


@dataclass(frozen=True, kw_only=True)
class EffectiveField:
    """How the sensitivity of the centre unit is spread over the input.

    Attributes
    ----------
    energy
        Mean squared gradient per pixel, summing to 1: shape (height, width).
    widths
        Per axis, four standard deviations of that spread: what a Gaussian would have 95 % of its mass in.
    """

    energy: Float[Tensor, "h w"]
    widths: tuple[float, float]

    @property
    def width(self) -> float:
        return math.sqrt(self.widths[0] * self.widths[1])


def effective_field(
    model: nn.Module,
    images: Tensor,
    layer: str,
    generator: torch.Generator,
    *,
    run: Callable[[Tensor], Tensor] | None = None,
) -> EffectiveField:
    """Effective receptive field of the centre unit of module ``layer`` over ``images`` (n, channels, height, width).

    The channels of the unit are weighted with random signs, fresh for each image, so that the expected squared
    gradient is the sum of the squared gradients of the channels; one backward pass per image.

    Raises
    ------
    ValueError
        When no gradient reaches the input: the unit is dead on all images.
    """
    kept: list[Tensor] = []
    handle = dict(model.named_modules())[layer].register_forward_hook(lambda m, a, o: kept.append(o))
    try:
        with torch.enable_grad():
            x = images.detach().clone().requires_grad_()
            (run or model)(x)
            maps = kept[-1]
            unit = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
            signs = torch.randint(0, 2, unit.shape, generator=generator).to(unit) * 2 - 1
            (slope,) = torch.autograd.grad((unit * signs).sum(), x)
    finally:
        handle.remove()
    count(gradients=len(images))
    energy = slope.double().square().sum((0, 1)).cpu()
    if float(energy.sum()) == 0:
        raise ValueError(f"no gradient of layer {layer!r} reaches the input; its centre unit is dead on these images")
    energy = energy / energy.sum()
    return EffectiveField(energy=energy, widths=(_width(energy.sum(1)), _width(energy.sum(0))))


def _width(mass: Tensor) -> float:
    places = torch.arange(len(mass), dtype=torch.float64)
    centre = float((mass * places).sum())
    return 4 * math.sqrt(float((mass * (places - centre) ** 2).sum()) + 1 / 12)  # a pixel is itself 1 wide
