"""Sharpness-aware minimisation around any optimiser: the gradient is taken where the loss is about highest nearby.

Source   Foret, Kleiner, Mobahi, Neyshabur (2021), ICLR (SAM); Kwon, Kim, Park, Choi (2021), ICML (adaptive: ASAM)
Assumes  two gradients of the same batch per step
Breaks   it lowers sharpness in one parametrisation; that this helps generalisation is seen often and not always
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.optim import Optimizer

from ._sharpness_aware import SharpnessAware


class SAM(SharpnessAware):
    """w <- base step at w with the gradient taken at w + rho g / |g|.

    Two ways to use it. With a closure that zeroes the gradients, computes the loss, calls backward and returns the
    loss: ``rule.step(closure)``. Or in two steps, with gradient accumulation, AMP or several losses in between::

        loss_on(batch).backward(); rule.first_step()
        loss_on(batch).backward(); rule.second_step()

    ``first_step`` moves to the neighbour and zeroes the gradients; ``second_step`` moves back, bit for bit, and lets
    the base optimiser step. With AMP both losses are scaled and ``second_step(scaler)`` takes the scaler's step; the
    direction does not depend on the scale of the gradient, so ``first_step`` needs no unscaling. To clip, call
    ``first_step(scaler)``, and ``scaler.unscale_(rule)`` after the second backward. With the two-step
    interface give schedulers ``base``, whose step they see.

    Parameters
    ----------
    base
        Any optimiser over the parameters; its groups, state and learning rate are shared, so that schedulers work on
        either.
    rho
        Radius of the neighbourhood, at least 0; 0 is the base optimiser. Per group: ``group["rho"]``. The neighbour is
        on the other side in groups that the base maximises.
    model
        Given, its batch normalisation does not count the batch a second time: the running statistics see the weights
        of the run, not their neighbours.

    A gradient of exactly zero moves nothing in the first step, and one that is not finite neither (``skipped`` counts
    them): what then happens is the base optimiser's, or the AMP scaler's, business.

    >>> import torch
    >>> w = torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)
    >>> rule = SAM(torch.optim.SGD([w], lr=0.01), rho=0.05)
    >>> def closure():
    ...     rule.zero_grad()
    ...     loss = w[0] ** 2 + 100 * w[1] ** 2
    ...     loss.backward()
    ...     return loss
    >>> _ = rule.step(closure)
    >>> [round(v, 9) for v in w.tolist()]
    [0.979980004, -0.599980006]
    """

    def __init__(self, base: Optimizer, *, rho: float = 0.05, model: nn.Module | None = None) -> None:
        super().__init__(base, rho, model)

    def _metric(self, p: Tensor, scale: float) -> float:
        del p, scale
        return 1.0


class ASAM(SharpnessAware):
    """SAM in a neighbourhood that follows the size of the weights: |T_w^-1 (w' - w)| <= rho with T_w = |w| + eta.

    w' = w + rho T_w² g / |T_w g|: rescaling two layers against each other (for eta = 0) moves the neighbourhood along,
    so that the step does not change what it means.

    Parameters
    ----------
    base, rho, model
        As in `SAM`; sensible radii are about ten times larger.
    eta
        Added to |w| so that weights at zero can move; at least 0.
    """

    def __init__(self, base: Optimizer, *, rho: float = 0.5, eta: float = 0.01, model: nn.Module | None = None) -> None:
        if not (math.isfinite(eta) and eta >= 0):
            raise ValueError(f"eta must be at least 0, got {eta}")
        self.eta = eta
        super().__init__(base, rho, model)

    def _metric(self, p: Tensor, scale: float) -> Tensor:
        del scale
        return (p.detach().abs() + self.eta).square()
