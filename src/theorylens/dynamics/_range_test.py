"""Learning-rate range test: up to which rate does training descend, and from which does it diverge?

Method   a copy of the network takes one step each at rates that grow geometrically; after each the loss over the same
         fixed rows is taken, so that the curve is not the noise of its batches
Source   Smith (2017), Cyclical learning rates for training neural networks, WACV; Bengio (2012), arXiv:1206.5533
Assumes  the first steps of training; the rate that later, sharper regions allow may be lower
Breaks   a single run: the edge moves with the number of steps and with the order of the batches
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from theorylens.core import Split, Task, global_randomness_kept, key_seed, objective, seed_everything, studied
from theorylens.numerics.memory import Batch, to_device
from theorylens.numerics.objective import LossSum, Objective
from theorylens.results import Curve, Line, Message, Wall
from theorylens.training import Optimisation

Floats = NDArray[np.float64]
ROWS = 256  # whose loss is taken after every step
AWAY = 10.0  # multiple of the first loss at which the run is given up
ROUNDING = 1e-6  # share of the first loss within which two losses are the same
DESCENT = 0.02  # share of the first loss: a smaller fall is none


@dataclass(frozen=True, kw_only=True, eq=False)
class RangeTest:
    """Loss after steps of growing size.

    Attributes
    ----------
    rates
        Learning rate of each step taken; shape (s,).
    losses
        Over the fixed rows after the step, infinite where it is no number; shape (s,).
    first
        Loss before any step.
    """

    rates: Floats
    losses: Floats
    first: float

    @property
    def lowest(self) -> float | None:
        """The largest rate after which the loss was lowest; None when it never fell by 2 %."""
        at = self._lowest
        return float(self.rates[at]) if self.losses[at] < (1 - DESCENT) * self.first else None

    @property
    def _lowest(self) -> int:
        return int(np.flatnonzero(self.losses <= self.losses.min() + ROUNDING * abs(self.first))[-1])

    @property
    def steepest(self) -> float | None:
        """The rate up to ``lowest`` at which the loss fell most from one step to the next."""
        if self.lowest is None:
            return None
        values = np.concatenate([[self.first], self.losses[: self._lowest + 1]])
        return float(self.rates[int(np.argmin(np.diff(values)))])

    @property
    def edge(self) -> float | None:
        """The first rate, after the lowest loss, that took the loss above where it began; None when none did.

        Divergence begins between ``lowest`` and here: what was learnt before has to be lost first.
        """
        after = self._lowest
        above = np.flatnonzero(self.losses[after:] > self.first)
        return float(self.rates[after + int(above[0])]) if len(above) else None

    def curve(self) -> Curve:
        """Loss over learning rate, up to where the run was given up."""
        shown = np.isfinite(self.losses)
        return Curve(
            label=Message("dynamics.range", "Loss after steps of growing size, one step at each rate"),
            lines=(Line(x=self.rates[shown], y=self.losses[shown], name=Message("dynamics.range.line", "loss")),),
            x_name=Message("dynamics.range.x", "learning rate"),
            y_name=Message("dynamics.range.y", "loss"),
            x_log=True,
            walls=(Wall(at=self.first, name=Message("dynamics.range.first", "before the first step")),),
        )


def range_test(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    lowest: float = 1e-4,
    highest: float = 10.0,
    steps: int = 60,
    optimisation: Optimisation = Optimisation(),  # noqa: B008 - frozen
    seed: int = 0,
) -> RangeTest:
    """Take one step at each of ``steps`` learning rates from ``lowest`` to ``highest``, on a copy of ``model``.

    Parameters
    ----------
    model
        Where training would start, in evaluation mode; it is left as it is. Steps are taken in training mode.
    data, loss
        Anything `Split` and `Task` take.
    optimisation
        Optimiser, momentum, weight decay and batch size of the steps; its rate and schedule are not used.
    seed
        Of the batches.

    Raises
    ------
    ValueError
        Rates that are not positive and growing, fewer than 10 steps, no rows.

    >>> rows = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [-1.0]])
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(net.weight)
    >>> found = range_test(net, rows, "mse", steps=40)  # curvature 2: beyond rate 1 the error grows
    >>> 1.0 < found.lowest < found.edge  # from rounding at first
    True
    """
    if not (0 < lowest < highest and math.isfinite(highest)) or steps < 10:
        raise ValueError(
            f"needed are 0 < lowest < highest and at least 10 steps, got {lowest}, {highest} and {steps} steps"
        )
    split = Split.of(data)
    goal = objective(model, split, loss if isinstance(loss, Task) else Task(loss=loss))
    rates = np.geomspace(lowest, highest, steps)
    return climb(model, split, goal.loss, goal.mean, rates, optimisation, key_seed(seed, "dynamics.range_test"))


def climb(
    model: nn.Module,
    split: Split,
    loss: LossSum,
    mean: bool,
    rates: Floats,
    optimisation: Optimisation,
    seed: int,
) -> RangeTest:
    """`range_test` with the loss as an `Objective` takes it."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    rule = optimisation.build([p for p in other.parameters() if p.requires_grad])
    device = next(other.parameters()).device
    fixed = Objective(other, [split.take(split.subset(min(ROWS, len(split))))], loss, mean)
    losses: list[float] = []

    def look() -> float:
        with studied(other):
            value = Objective(other, fixed.batches, loss, mean).value
        return value if math.isfinite(value) else math.inf

    first = look()
    with global_randomness_kept():
        for step, rate in enumerate(rates):
            seed_everything(key_seed(seed, step))
            index = torch.randint(len(split), (min(optimisation.batch_size, len(split)),), generator=generator)
            for group in rule.param_groups:
                group["lr"] = float(rate)
            alive = _advance(other, rule, to_device(split.take(index), device), loss, mean)
            losses.append(look() if alive else math.inf)
            if not losses[-1] <= AWAY * abs(first):
                break
    return RangeTest(rates=rates[: len(losses)], losses=np.array(losses), first=first)


def _advance(model: nn.Module, rule: torch.optim.Optimizer, batch: Batch, loss: LossSum, mean: bool) -> bool:
    """One step in training mode; whether its loss was a number."""
    model.train()
    rule.zero_grad(set_to_none=True)
    total, weight = loss(model, batch)
    value = total / weight.clamp(min=1e-30) if mean else total
    if not bool(torch.isfinite(value)):
        return False
    value.backward()  # type: ignore[no-untyped-call]
    rule.step()
    model.eval()
    return True
