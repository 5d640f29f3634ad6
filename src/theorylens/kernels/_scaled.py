"""The scale of the outputs as the switch between lazy and rich training.

Source   Chizat, Oyallon, Bach (2019), NeurIPS: alpha (f - f_0) trained with learning rate lr / alpha^2
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Scaled(nn.Module):
    """``alpha * (f(x) - f_0(x))``: a network that starts at zero and whose outputs count ``alpha`` times.

    Trained with learning rate ``lr / alpha**2`` its outputs move at the start as those of alpha = 1 with ``lr``; its
    parameters and so its kernel move the less, the larger alpha.

    Parameters
    ----------
    model
        The network to train, used as it is; a frozen copy of it is kept and subtracted.

    Raises
    ------
    ValueError
        A scale that is not positive.
    """

    def __init__(self, model: nn.Module, alpha: float) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"the scale alpha must be positive, got {alpha}")
        self.network, self.alpha = model, float(alpha)
        self.start = copy.deepcopy(model).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Scaled:
        """The copy at the start stays in evaluation mode."""
        super().train(mode)
        self.start.eval()
        return self

    def forward(self, *args: Any) -> Tensor:
        with torch.no_grad():
            before = self.start(*args)
        difference: Tensor = self.alpha * (self.network(*args) - before)
        return difference
