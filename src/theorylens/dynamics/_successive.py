"""Successive gradients at a network: does the next step go the same way as this one, or back?

Method   pairs of gradients on independent batches, the second taken after a step along the first; the mean of their
         inner products is |∇L|² less lr (∇L'H∇L + tr(H Σ) / B) to first order, and changes sign where the noise of the
         steps undoes what their mean achieves
Source   Pflug (1990), Monatsh. Math. 110:297; Chee, Toulis (2018), AISTATS
Assumes  independent batches with replacement, plain SGD at the given learning rate
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from theorylens.core import Split, Task, objective, rng_for
from theorylens.numerics.objective import Objective
from theorylens.results import Estimate, Exact, Message, Statistical

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class SuccessiveGradients:
    """Inner products of pairs of batch gradients, in units of their mean squared norm.

    Attributes
    ----------
    rest
        Both gradients at the same parameters; shape (draws,).
    step
        The second one after a step of ``lr`` along the first; shape (draws,).
    exact
        Whether each batch held all rows: nothing is then sampled, and one pair is all.
    """

    rest: Floats
    step: Floats
    exact: bool

    @property
    def before(self) -> Estimate:
        """Mean without a step: the share of the mean gradient in a batch gradient, by squared length."""
        return self._mean(self.rest)

    @property
    def after(self) -> Estimate:
        """Mean after the step: above 0 drift, below 0 oscillation."""
        return self._mean(self.step)

    def _mean(self, values: Floats) -> Estimate:
        middle = float(values.mean())
        if self.exact:
            return Estimate(value=middle, uncertainty=Exact())
        n = len(values)
        half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
        method = Message("dynamics.pairs", "Student's t over {draws} independent pairs of batches", draws=n)
        interval = Statistical(lower=middle - half, upper=middle + half, level=LEVEL, method=method)
        return Estimate(value=middle, uncertainty=interval)


def successive_gradients(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    lr: float,
    batch_size: int,
    draws: int = 64,
    seed: int = 0,
) -> SuccessiveGradients:
    """Whether steps of SGD from these parameters drift or oscillate.

    Parameters
    ----------
    model, data, loss
        A network in evaluation mode; anything `Split` and `Task` take.
    lr, batch_size
        Of the steps. ``batch_size`` of all rows or more means gradient descent: one exact pair.
    draws
        Pairs of batches, at least 8.

    Raises
    ------
    ValueError
        ``lr`` not positive, ``batch_size`` below 1, fewer than 8 draws.
    RefusedError
        What `core.objective` refuses.
    """
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    split = Split.of(data)
    goal = objective(model, split, task)  # for its refusals, and for the loss as it settled it
    other = copy.deepcopy(model)

    def make(batch: Any) -> Objective:
        return Objective(other, [batch], goal.loss, goal.mean)

    generator = rng_for(seed, "dynamics.successive_gradients")
    return pairs(other, split, make, lr=lr, batch_size=batch_size, draws=draws, generator=generator)


def pairs(
    model: nn.Module,
    split: Split,
    goal: Callable[[Any], Objective],
    *,
    lr: float,
    batch_size: int,
    draws: int,
    generator: torch.Generator,
) -> SuccessiveGradients:
    """`successive_gradients` on a copy that may be moved; ``goal`` makes the objective of a batch."""
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr must be a positive number, got {lr}")
    if batch_size < 1 or draws < 8:
        raise ValueError(f"batch_size must be at least 1 and draws at least 8, got {batch_size} and {draws}")
    whole = batch_size >= len(split)
    leaves = {name: p for name, p in model.named_parameters() if p.requires_grad}
    kept = {name: p.detach().clone() for name, p in leaves.items()}

    def gradient() -> Callable[[], Tensor]:
        index = torch.arange(len(split)) if whole else torch.randint(len(split), (batch_size,), generator=generator)
        own = goal(split.take(index))
        return lambda: own.gradient().double()

    rest, step, squares = [], [], []
    for _ in range(1 if whole else draws):
        first, second = gradient(), gradient()
        g = first()
        here = second()
        _move(leaves, kept, g, lr)
        there = second()
        _move(leaves, kept, g, 0.0)
        rest.append(float(g @ here))
        step.append(float(g @ there))
        squares.append((float(g @ g) + float(here @ here)) / 2)
    scale = float(np.mean(squares)) or 1.0  # all gradients zero: the products are zero too
    return SuccessiveGradients(rest=np.array(rest) / scale, step=np.array(step) / scale, exact=whole)


def _move(leaves: Mapping[str, nn.Parameter], kept: Mapping[str, Tensor], g: Tensor, lr: float) -> None:
    """Set the parameters to where they were less ``lr`` times a flat gradient."""
    pieces = torch.split(g, [p.numel() for p in leaves.values()])
    with torch.no_grad():
        for (name, p), piece in zip(leaves.items(), pieces, strict=True):
            p.copy_(kept[name] - lr * piece.view_as(p).to(p.dtype))
