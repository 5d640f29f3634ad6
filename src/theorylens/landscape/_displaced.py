"""The loss elsewhere: at parameters moved away from the network's own. Works on a copy, so nothing has to be put back.

Moving and coming back in place is how peers change a network by a rounding error, or leave it moved after an
exception; here the network that was lent is never written to.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from theorylens.core import RefusedError
from theorylens.numerics.objective import Objective


class Displaced:
    """The loss of ``goal`` at its parameters plus a flat displacement.

    Attributes
    ----------
    here
        The parameters of ``goal`` as a flat vector of shape (p,), in their dtype.
    base
        The loss there; `loss` of a zero displacement is the same number.
    """

    def __init__(self, goal: Objective) -> None:
        if not math.isfinite(goal.value):
            raise RefusedError(f"the loss is {goal.value}, so there is no shape around it; load weights that fit")
        self._goal = goal
        self._model = copy.deepcopy(goal.model)
        moved = dict(self._model.named_parameters())
        self._leaves = [moved[name] for name in goal.parameters]
        self.here = torch.cat([p.detach().reshape(-1) for p in goal.parameters.values()]).clone()
        self.base = goal.value

    @property
    def size(self) -> int:
        return self._goal.size

    @property
    def dtype(self) -> torch.dtype:
        return self._goal.dtype

    @property
    def device(self) -> torch.device:
        return self._goal.device

    @property
    def shapes(self) -> list[torch.Size]:
        """Shapes of the parameters in the order of the flat vector."""
        return [p.shape for p in self._leaves]

    def loss(self, displacement: Float[Tensor, "p"]) -> float:
        """The loss over all data at ``here + displacement``, accumulated in float64; it may be infinite or NaN."""
        return self.objective(displacement).value

    def gradient(self, displacement: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
        """Gradient of the loss at ``here + displacement``."""
        return self.objective(displacement).gradient()

    def objective(self, displacement: Float[Tensor, "p"]) -> Objective:
        """The loss at ``here + displacement`` as an objective, valid until the next call."""
        if displacement.shape != (self.size,):
            raise ValueError(
                f"a displacement of shape {tuple(displacement.shape)} does not match {self.size} parameters; "
                "flatten it in the order of model.named_parameters()"
            )
        place = self.here + displacement.to(self.device, self.dtype)
        with torch.no_grad():
            for leaf, piece in zip(self._leaves, self.split(place), strict=True):
                leaf.copy_(piece)
        goal = self._goal
        moved = Objective(self._model, goal.batches, goal.loss, goal.mean, tuple(goal.parameters))
        moved.__dict__["denominator"] = goal.denominator  # of the data alone; saves a pass before each gradient
        return moved

    def split(self, vector: Float[Tensor, "p"]) -> Sequence[Tensor]:
        """Views of a flat vector in the shapes of the parameters."""
        return self._goal.unflatten(vector)
