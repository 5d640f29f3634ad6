"""Escape measured: gradient descent started beside a saddle of a real network, against what linear theory says.

Method   full-batch steps from the saddle plus a small step along its escape direction, with noise when asked for
Source   the closed forms of `gd_escape_steps` and `mean_exit_time`; Daneshmand, Kohler, Lucchi, Hofmann (2018), ICML
         (correlated negative curvature: noise must have variance along the direction)
Assumes  the network is at a critical point; its gradient along the direction is taken into the prediction
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn

from theorylens.core import Task, objective, rng_for
from theorylens.numerics.counting import count
from theorylens.numerics.objective import Objective, flatten
from theorylens.results import Estimate, Exact, Message, Statistical, Unknown

from ._displaced import Displaced
from ._escape_direction import EscapeDirection, goal_direction
from ._escape_time import gd_escape_steps, mean_exit_time


@dataclass(frozen=True, kw_only=True, eq=False)
class EscapeRun:
    """Steps that it took, and steps that theory says.

    Attributes
    ----------
    steps
        Mean number of steps until the displacement along ``direction`` reached the radius: exact for one run without
        noise, with Student's t over runs with noise. Its ``trouble`` says when runs were cut off.
    predicted
        `gd_escape_steps` with the slope of the loss counted as distance, or `mean_exit_time` per learning rate.
    direction
        The escape direction of the saddle.
    runs
        Steps of each run; ``max_steps`` where it was cut off.
    """

    steps: Estimate
    predicted: float
    direction: EscapeDirection
    runs: tuple[int, ...]


def escape_time(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    lr: float,
    radius: float,
    distance: float = 0.0,
    noise: float = 0.0,
    runs: int = 8,
    max_steps: int = 10_000,
    seed: int = 0,
    batch_size: int = 256,
) -> EscapeRun:
    """How many steps gradient descent takes to leave the saddle a network is at, measured and predicted.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`; the network should be at a critical point.
    lr, radius, distance
        Step size; displacement along the escape direction that counts as having left, and that at the start.
    noise
        Standard deviation of a normal draw added to every coordinate of the gradient. Without noise one run is made
        and ``distance`` must be positive.

    Raises
    ------
    ValueError
        Nothing bends downwards, a start beyond the radius, a start exactly at the saddle without noise.

    The prediction is linear: it holds while the curvature along the direction stays what it is at the saddle.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    found = goal_direction(goal, tolerance=1e-3, generator=rng_for(seed, "landscape.escape_time"))
    if found is None:
        raise ValueError("no direction bends downwards at these parameters, so there is no saddle to escape from")
    predicted = predicted_steps(found, lr=lr, radius=radius, distance=distance, noise=noise)
    if runs < 1 or max_steps < 1:
        raise ValueError(f"runs and max_steps must be at least 1, got {runs} and {max_steps}")
    generator = rng_for(seed, "landscape.escape_time", 1)
    around = Displaced(goal)
    steps = tuple(
        _one_run(around, found, lr, radius, distance, noise, max_steps, generator)
        for _ in range(runs if noise > 0 else 1)
    )
    return EscapeRun(steps=_mean(steps, max_steps, noise), predicted=predicted, direction=found, runs=steps)


def predicted_steps(direction: EscapeDirection, *, lr: float, radius: float, distance: float, noise: float) -> float:
    """Linear theory: without noise the slope acts like a start farther out by |slope / curvature|."""
    if noise > 0:
        spread = noise * math.sqrt(lr)  # a step adds lr noise xi, an Euler step of length lr adds spread sqrt(lr) xi
        return mean_exit_time(direction.curvature, noise=spread, start=distance, radius=radius) / lr
    ahead = abs(direction.slope / direction.curvature)
    return gd_escape_steps(direction.curvature, lr=lr, distance=distance + ahead, radius=radius + ahead)


def _one_run(
    around: Displaced, found: EscapeDirection, lr: float, radius: float, distance: float, noise: float,
    max_steps: int, generator: torch.Generator,
) -> int:  # fmt: skip
    place = distance * found.vector
    for step in range(max_steps):
        if abs(float(place @ found.vector)) >= radius:
            return step
        slope = around.gradient(place)
        if noise > 0:
            slope = slope + noise * torch.randn(around.size, generator=generator).to(slope)
        place = place - lr * slope
    return max_steps


def _mean(steps: tuple[int, ...], max_steps: int, noise: float) -> Estimate:
    cut = sum(s == max_steps for s in steps)
    trouble = None
    if cut:
        text = "{cut} of {runs} runs had not left after {steps:,} steps; allow more steps (max_steps)"
        trouble = Message("landscape.escape.cut", text, cut=cut, runs=len(steps), steps=max_steps)
    value = math.fsum(steps) / len(steps)
    if noise == 0:
        return Estimate(value=value, uncertainty=Exact(), trouble=trouble)
    if len(steps) < 2 or cut:
        text = "the mean of {runs} runs, {cut} of them cut off, has no interval"
        why = Message("landscape.escape.few", text, runs=len(steps), cut=cut)
        return Estimate(value=value, uncertainty=Unknown(why=why), trouble=trouble)
    half = float(stats.t.ppf(0.975, len(steps) - 1)) * float(np.std(steps, ddof=1)) / math.sqrt(len(steps))
    method = Message("landscape.escape.runs", "Student's t over {runs} runs", runs=len(steps))
    limits = Statistical(lower=value - half, upper=value + half, level=0.95, method=method)
    return Estimate(value=value, uncertainty=limits)


def noise_along(model: nn.Module, data: Any, loss: Any, direction: Float[Tensor, "p"]) -> float:
    """Second moment of the examples' gradients along a unit direction: the mean of (v . g_i)².

    Stochastic gradients leave a saddle by themselves only when this is not small along its escape direction
    (correlated negative curvature); the variance of the mean gradient of a batch of b is about this over b.

    Parameters
    ----------
    direction
        Flat, of any length; it is normalised.
    """
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=1)
    length = float(torch.linalg.vector_norm(direction.double()))
    if direction.shape != (goal.size,) or not (math.isfinite(length) and length > 0):
        raise ValueError(
            f"a direction of shape {tuple(direction.shape)} and length {length:.3g} was given; needed is a finite one "
            f"of shape ({goal.size},)"
        )
    unit = direction.double() / length
    return math.fsum(each**2 for each in slopes(goal, unit)) / goal.examples


def slopes(goal: Objective, direction: Tensor) -> list[float]:
    """Slope v . g_i of each example along v, scaled so that their mean is v . g of the whole loss."""
    leaves = list(goal.parameters.values())
    scale = goal.examples / goal.denominator
    found = []
    for batch in goal.on_device():
        with torch.enable_grad():
            loss = goal.loss(goal.model, batch)[0]
            slope = flatten(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))
        found.append(scale * float(slope.double() @ direction))
        count(gradients=1)
    return found
