"""Sharpness seen by small batches, and the Fisher-Rao norm: two numbers made of single examples' gradients.

Source   Foret et al. (2021), ICLR, section 4.1 (m-sharpness); Liang, Poggio, Rakhlin, Stokes (2019), Fisher-Rao metric,
         geometry, and complexity of neural networks, AISTATS
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from theorylens.core import Split, Task, objective, rng_for
from theorylens.results import Enclosure, Estimate, Message

from ._escape_run import slopes
from ._expected_sharpness import Scale
from ._worst_case import largest_rise


def m_sharpness(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    m: int,
    radius: float,
    scale: Scale = "absolute",
    steps: int = 1,
    seed: int = 0,
) -> Estimate:
    """The mean over shards of ``m`` examples of the largest rise of the shard's own loss within a ball, from below.

    Each shard may go its own worst way, so this is at least `worst_case_sharpness` of the whole up to what ascent
    misses; m = n is that. The shards are a random partition of all rows; a ragged last one counts for its examples.

    Parameters
    ----------
    m
        Examples in a shard, at least 1.
    radius, scale
        As in `worst_case_sharpness`.
    steps
        Ascent steps on each shard: 1 goes along its gradient as SAM does.
    """
    if m < 1:
        raise ValueError(f"m must be at least 1, got {m}")
    split, task = Split.of(data), loss if isinstance(loss, Task) else Task(loss=loss)
    order = torch.randperm(len(split), generator=rng_for(seed, "landscape.m_sharpness"))
    whole = objective(model, split, task, batch_size=m)
    total = weight = 0.0
    for index in torch.split(order, m):
        goal = replace(whole, batches=[split.take(index)])
        found = largest_rise(
            goal, radius=radius, scale=scale, starts=1, steps=steps,
            generator=rng_for(seed, "landscape.m_sharpness", int(index[0])),
        )  # fmt: skip
        share = goal.denominator if goal.mean else float(len(index))
        total += share * found.estimate.value
        weight += share
    value = total / weight
    why = Message(
        "landscape.m_sharpness",
        "each shard's rise is what {steps} ascent steps found; the largest there is may be larger",
        steps=steps,
    )
    trouble = None
    if not math.isfinite(value):
        trouble = Message(
            "landscape.worst_case.infinite", "the loss becomes infinite within the ball; take a smaller one"
        )
    return Estimate(value=value, uncertainty=Enclosure(lower=value, upper=math.inf, why=why), trouble=trouble)


def fisher_rao_norm(model: nn.Module, data: Any, loss: Any) -> float:
    """Fisher-Rao norm w'Fw, F being the second moment of the examples' gradients: the mean of (w . g_i)².

    For networks of positively homogeneous layers it depends on the function alone: rescaling layers, or units, against
    each other leaves w . g_i as it is. Costs one gradient for each example.

    >>> rows = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = net.load_state_dict({"weight": torch.ones(1, 1)})
    >>> fisher_rao_norm(net, rows, "mse")  # w . g_i = 2 x_i²: the mean of 4 and 64
    34.0
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=1)
    here = torch.cat([p.detach().reshape(-1) for p in goal.parameters.values()]).double()
    return math.fsum(each**2 for each in slopes(goal, here)) / goal.examples
