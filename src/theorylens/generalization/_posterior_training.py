"""Train a Gaussian posterior: the bounded cross-entropy of drawn networks plus the price of leaving the prior.

Method   mean of min(-ln p, -ln P) / -ln P plus sqrt((KL + ln(2 sqrt(n) / delta)) / 2n), by the one training loop
Source   Dziugaite, Roy (2017), UAI; Perez-Ortiz et al. (2021), JMLR 22:227 (bounded cross-entropy)
Assumes  nothing: any posterior may be certified, however it was found; only its bound is a theorem
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from theorylens.core import Split, Task, UnsuitableError
from theorylens.results import Message
from theorylens.training import Optimisation, fit

from ._answers import IGNORED
from ._gaussian_posterior import GaussianPosterior

LEAST = 1e-5  # probability below which the cross-entropy is cut: it is then bounded and its gradient ends


@dataclass(frozen=True, kw_only=True)
class PosteriorTraining:
    """How the posterior is trained; ``price`` multiplies the term that a divergence costs (1: as in the bound)."""

    optimisation: Optimisation = field(
        default_factory=lambda: Optimisation(optimizer="adam", lr=1e-4, batch_size=100, epochs=5)
    )
    price: float = 1.0


def train_posterior(
    posterior: GaussianPosterior, task: Task, data: Split, *, n: int, delta: float, how: PosteriorTraining, seed: int
) -> None:  # fmt: skip
    """Train ``posterior`` in place on ``data``.

    Parameters
    ----------
    task
        A settled task of a classifier; its forward is kept, its loss replaced.
    data
        What is learnt from; may hold the rows of the bound and of the prior.
    n
        Number of units the bound will count, which sets the price of a divergence.

    Raises
    ------
    UnsuitableError
        The task is not a classification with one score per class, or with one logit.
    """
    if task.kind != "classification":
        text = "a posterior is trained with the cross-entropy of a classifier; this task is {kind}"
        raise UnsuitableError(Message("certify.not_classification", text, kind=str(task.kind)))
    constant = math.log(2 * math.sqrt(n) / delta)

    def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        values, counted = bounded_cross_entropy(outputs, targets)
        cost = torch.sqrt((posterior.divergence() + constant) / (2 * n))
        return values + how.price * cost.to(values.dtype), counted

    fit(posterior, data, replace(task, loss=loss), how.optimisation, seed=seed)


def bounded_cross_entropy(outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy cut at -ln(1e-5) and divided by it, in [0, 1], and which examples count; shapes (n,)."""
    if outputs.numel() == targets.numel():
        values = F.binary_cross_entropy_with_logits(
            outputs.reshape(targets.shape), targets.to(outputs.dtype), reduction="none"
        )
        counted = torch.ones_like(values)
    else:
        values = F.cross_entropy(outputs, targets, reduction="none")
        counted = (targets != IGNORED).to(values.dtype)
    limit = -math.log(LEAST)
    return values.clamp(max=limit) / limit, counted
