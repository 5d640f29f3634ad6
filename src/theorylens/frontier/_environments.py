"""Penalties for training on several environments: what should hold in each of them, not only on average.

Source   Arjovsky, Bottou, Gulrajani, Lopez-Paz (2019), arXiv:1907.02893 (IRMv1); Krueger et al. (2021), ICML (V-REx);
         Sagawa, Koh, Hashimoto, Liang (2020), ICLR (group DRO)
Breaks   Gulrajani, Lopez-Paz (2021), ICLR: with honest model selection none of them beats plain training in general;
         Rosenfeld, Ravikumar, Risteski (2021), ICLR: IRM fails when environments are few or the model is not linear
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def irm_penalty(outputs: Tensor, targets: Tensor, loss: Loss = F.mse_loss) -> Float[Tensor, ""]:
    """IRMv1 penalty of one environment: squared slope of its risk in a scale on the outputs, at scale 1.

    It is zero when the classifier on top is optimal, along that scale, for this environment. Add it over the
    environments, times a weight, to their mean risk; gradients flow through it.

    Parameters
    ----------
    outputs, targets
        Of the rows of one environment. ``outputs`` may carry a graph.
    loss
        Mean loss of ``(outputs, targets)``, for instance ``F.cross_entropy``.

    Raises
    ------
    ValueError
        No rows, or a loss that is no single number.

    >>> float(irm_penalty(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])))
    4.0
    """
    if len(outputs) == 0:
        raise ValueError("an environment without rows has no risk; leave it out")
    with torch.enable_grad():
        scale = torch.ones((), dtype=outputs.dtype, device=outputs.device, requires_grad=True)
        risk = loss(outputs * scale, targets)
        if risk.ndim:
            raise ValueError(f"the loss must be a single number, the mean over rows; got shape {tuple(risk.shape)}")
        (slope,) = torch.autograd.grad(risk, scale, create_graph=outputs.requires_grad)
    return slope.square()


def vrex_penalty(risks: Float[Tensor, " e"]) -> Float[Tensor, ""]:
    """V-REx: variance of the risks over environments, with divisor e.

    >>> round(float(vrex_penalty(torch.tensor([0.2, 0.6], dtype=torch.float64))), 12)
    0.04
    """
    _risks(risks)
    return risks.var(correction=0)


def group_dro_risk(risks: Float[Tensor, " e"]) -> Float[Tensor, ""]:
    """The risk of the worst environment, which group DRO minimises.

    >>> float(group_dro_risk(torch.tensor([0.25, 0.75])))
    0.75
    """
    _risks(risks)
    return risks.max()


def group_dro_weights(
    weights: Float[Tensor, " e"], risks: Float[Tensor, " e"], *, step: float = 0.01
) -> Float[Tensor, " e"]:
    """Next weights of the environments in online group DRO: w exp(step risk), normalised.

    Train on ``(weights * risks).sum()`` between updates: in turn this approaches the worst risk without its jumps.

    Raises
    ------
    ValueError
        Weights that are no distribution over the environments, a step that is not positive.
    """
    _risks(risks)
    if weights.shape != risks.shape or bool((weights < 0).any()) or abs(float(weights.sum()) - 1) > 1e-4:
        raise ValueError(f"needed is a weight for each of {len(risks)} environments, adding up to 1, got {weights}")
    if not step > 0:
        raise ValueError(f"step must be positive, got {step}")
    grown: Tensor = torch.softmax(weights.log() + step * risks.detach(), 0)
    return grown


def _risks(risks: Tensor) -> None:
    if risks.ndim != 1 or len(risks) == 0:
        raise ValueError(f"needed is the risk of each environment, shape (e,), got {tuple(risks.shape)}")
    if not bool(torch.isfinite(risks).all()):
        raise ValueError(f"risks must be numbers, got {risks.tolist()}")
