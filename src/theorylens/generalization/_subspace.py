"""A network that training may move in few directions only: what is left to write down is short.

Method   every weight is tied to one of d numbers with a random sign: weight = start + sign * scale * z[number]
Source   Li, Farkhoor, Liu, Yosinski (2018), ICLR (intrinsic dimension of a task); Lotfi et al. (2022), NeurIPS
Assumes  start, signs and numbers do not depend on the data: they come from the initialisation and a seed
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from theorylens.core import key_seed


class Subspace(nn.Module):
    """``start`` plus a random direction for each of ``dimension`` coordinates; ``z`` is the only parameter.

    Parameters
    ----------
    start
        The network before training; a copy is kept. Its batch-norm statistics stay as they are: in evaluation mode.
    dimension
        Number of coordinates, at least 1.
    seed
        Of signs and numbers.

    Raises
    ------
    ValueError
        A dimension below 1, or a network without parameters that require a gradient.
    """

    def __init__(self, start: nn.Module, dimension: int, *, seed: int = 0) -> None:
        super().__init__()
        if dimension < 1:
            raise ValueError(f"a subspace has at least one dimension, got {dimension}")
        self.net = copy.deepcopy(start).eval()
        self.names = [name for name, p in self.net.named_parameters() if p.requires_grad]
        if not self.names:
            raise ValueError("the network has no parameter that requires a gradient; there is nothing to move")
        self.net.requires_grad_(False)
        rng = torch.Generator().manual_seed(key_seed("subspace", seed, dimension))
        known = dict(self.net.named_parameters())
        for place, name in enumerate(self.names):
            weight = known[name]
            number = torch.randint(dimension, weight.shape, generator=rng)
            sign = (2.0 * torch.randint(2, weight.shape, generator=rng) - 1).to(weight.dtype)
            fan_in = weight[0].numel() if weight.ndim > 1 else 1
            self.register_buffer(f"number_{place}", number.to(weight.device))
            self.register_buffer(f"direction_{place}", (sign / math.sqrt(fan_in)).to(weight.device))
        first = known[self.names[0]]
        self.z = nn.Parameter(torch.zeros(dimension, dtype=first.dtype, device=first.device))
        self.log_step = nn.Parameter(torch.zeros((), dtype=first.dtype, device=first.device))
        self.largest: int | None = None

    def train(self, mode: bool = True) -> Subspace:
        """Set the mode; the network inside stays in evaluation mode."""
        super().train(mode)
        self.net.eval()
        return self

    def quantise(self, largest: int) -> None:
        """From now on coordinates are step times a whole number between -largest and largest; the step is trained too.

        Gradients pass the rounding as if it were not there (Bengio, Leonard, Courville 2013; Esser et al. 2020).
        """
        if largest < 1:
            raise ValueError(f"a coordinate needs at least the values -1, 0, 1; got largest = {largest}")
        self.largest = largest
        with torch.no_grad():
            self.log_step.fill_(math.log(max(1e-6, 2 * float(self.z.abs().mean()) / math.sqrt(largest))))

    @property
    def step(self) -> Tensor:
        """The step as it is written down: in 16 bits."""
        exact = self.log_step.exp()
        return exact + (exact.half().to(exact.dtype) - exact).detach()

    def symbols(self) -> Tensor:
        """The whole numbers that the coordinates round to, shifted to start at 0, int64."""
        assert self.largest is not None
        rounded = (self.z.detach() / self.step.detach()).clamp(-self.largest, self.largest).round()
        return (rounded + self.largest).long()

    def coordinates(self) -> Tensor:
        """The coordinates in use: free, or rounded once `quantise` was called."""
        if self.largest is None:
            return self.z
        scaled = (self.z / self.step).clamp(-self.largest, self.largest)
        return self.step * (scaled + (scaled.round() - scaled).detach())

    def weights(self) -> dict[str, Tensor]:
        """The weights that the coordinates in use stand for."""
        at = self.coordinates()
        known = dict(self.net.named_parameters())
        return {
            name: known[name] + self.get_buffer(f"direction_{i}") * at[self.get_buffer(f"number_{i}")]
            for i, name in enumerate(self.names)
        }

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return functional_call(self.net, self.weights(), inputs, named)

    def written(self) -> nn.Module:
        """A plain network with the weights of the coordinates in use."""
        with torch.no_grad():
            made = copy.deepcopy(self.net)
            made.load_state_dict({**made.state_dict(), **self.weights()})
        return made
