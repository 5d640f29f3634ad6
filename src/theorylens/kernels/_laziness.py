"""Lazy or rich: how far training went from the linearised network, by what it did to kernel, parameters and outputs.

Method   relative change of tangent kernel and parameters; distance of the trained outputs from the linearisation at
         the start, relative to how far they went
Source   Chizat, Oyallon, Bach (2019), NeurIPS; Geiger et al. (2020), J. Stat. Mech.; Fort et al. (2020), NeurIPS
Assumes  the start is that of this training
Breaks   lazy on these examples need not be lazy on others; there is no formula in width or learning rate alone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from theorylens.numerics import Batch

from ._empirical import ntk
from ._linearised import Linearised
from ._movement import FAR, STILL, Movement, kernel_movement

Regime = Literal["lazy", "between", "rich"]


@dataclass(frozen=True, kw_only=True)
class Laziness:
    """What training did.

    Attributes
    ----------
    kernel
        Movement of the trace kernel.
    parameters
        ||theta_T - theta_0|| / ||theta_0|| of the trainable parameters.
    outputs
        ||f_T - f_lin|| / ||f_T - f_0||, f_lin the linearisation at the start, taken at the trained parameters; NaN
        when the outputs did not change.
    """

    kernel: Movement
    parameters: float
    outputs: float

    @property
    def regime(self) -> Regime:
        """From the relative change of the kernel: lazy below 0.1, rich above 0.5."""
        if self.kernel.relative < STILL:
            return "lazy"
        return "rich" if self.kernel.relative > FAR else "between"


def laziness(model: nn.Module, start: Mapping[str, Tensor], x: Batch) -> Laziness:
    """Compare a trained network with its start on the inputs ``x`` (tens to hundreds of examples).

    Parameters
    ----------
    model
        The trained network in evaluation mode; outputs (n, C). It is left as it is.
    start
        State dict before training.

    Raises
    ------
    RefusedError, ValueError
        As `ntk` and `Linearised`.
    """
    trained = Linearised(model, start)
    before = trained.network
    after_kernel = ntk(model, x, output="trace")
    current = {name: p.detach().clone() for name, p in before.named_parameters()}
    with torch.no_grad():
        linear, now = trained(x), model(x)
        for name, p in before.named_parameters():
            p.copy_(start[name])
        first = before(x)
    kernel = kernel_movement(ntk(before, x, output="trace"), after_kernel)
    length = float((now - first).norm())
    return Laziness(
        kernel=kernel,
        parameters=_relative(current, trained.start()),
        outputs=float((now - linear).norm()) / length if length > 0 else float("nan"),
    )


def _relative(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    change = sum(float((after[k].double() - v.double()).square().sum()) for k, v in before.items())
    size = sum(float(v.double().square().sum()) for v in before.values())
    return float((change / size) ** 0.5) if size > 0 else float("nan")
