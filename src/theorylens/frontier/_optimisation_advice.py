"""How should this network be trained? Learning rate, batch, schedule and regularisation from measurements of it.

Nothing here is looked up by size: the rate comes from a range test beside 2/λ, the batch from the gradient noise scale,
the schedule from the number of steps planned, regularisation from the gap of a trained network. What was not measured
is not recommended on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from theorylens.bias import gradient_noise_scale
from theorylens.core import Split, Task, objective, rng_for
from theorylens.dynamics import (
    RangeTest,
    ScaledRate,
    Schedule,
    cosine_annealing,
    max_stable_lr,
    range_test,
    scale_learning_rate,
    warmup,
)
from theorylens.landscape import hessian_eigenvalues
from theorylens.results import Estimate, Evidence, Message, Recommendation
from theorylens.training import Optimisation

from ._loss_gap import loss_gap

ROWS = 512  # over which curvature and gradient noise are measured
MARGIN = 3.0  # the rate stays this factor below the edge: divergence begins before, by a factor 2 on a quadratic
WARM = 0.05  # share of the steps spent warming up, when the rate exceeds what the start allows
LARGEST = 4096  # examples in a batch
COMMAND = "theorylens audit subject.py:make --only dynamics,bias,landscape"


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimisationAdvice:
    """Recommended settings with the measurements behind them.

    Attributes
    ----------
    lr, batch_size
        None where nothing measured supports a number.
    schedule
        Over ``horizon`` steps.
    regularise
        Whether a gap was measured that regularisation could close; None when no trained network was given.
    range_test, sharpness, noise_scale, gap
        The measurements: range test, largest Hessian eigenvalue and noise scale at ``model``, mean loss on validation
        less that on training of the trained network.
    recommendations
        One sentence per setting, each with its evidence.
    """

    lr: float | None
    batch_size: int | None
    schedule: Schedule
    regularise: bool | None
    range_test: RangeTest
    sharpness: Estimate
    noise_scale: Estimate
    gap: Estimate | None
    recommendations: tuple[Recommendation, ...]


def recommend_optimisation(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    horizon: int,
    optimisation: Optimisation = Optimisation(),  # noqa: B008 - frozen
    trained: nn.Module | None = None,
    validation: Any = None,
    seed: int = 0,
) -> OptimisationAdvice:
    """Measure a network and its data, and say how to train it.

    Parameters
    ----------
    model
        Where training would start, in evaluation mode.
    data, loss
        Anything `Split` and `Task` take.
    horizon
        Optimiser steps that are planned.
    optimisation
        Optimiser, momentum and batch size to start from; its rate is not used.
    trained, validation
        A network trained before with this setting, and validation data, for the gap.

    Raises
    ------
    ValueError
        ``horizon`` below 1, no rows, or ``trained`` without ``validation``.
    RefusedError
        What `core.objective` refuses.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1 step, got {horizon}")
    split = Split.of(data)
    if len(split) < 2:
        raise ValueError(f"there must be at least 2 rows to measure noise on, got {len(split)}")
    if trained is not None and validation is None:
        raise ValueError("the gap of a trained network needs validation=; give the validation data")
    task = loss if isinstance(loss, Task) else Task(loss=loss)
    rows = Split.of(split.take(split.subset(min(ROWS, len(split))))) if len(split) > ROWS else split
    tested = range_test(model, split, task, optimisation=optimisation, seed=seed)
    sharpness = _sharpness(model, rows, task)
    noise = gradient_noise_scale(model, rows, task)
    gap = None if trained is None else loss_gap(trained, split, validation, task)
    batch, batch_said = _batch(noise, optimisation, len(split))
    lr, lr_said, stable = _rate(tested, sharpness, optimisation, batch, noise)
    schedule, schedule_said = _schedule(horizon, lr, stable)
    said = [r for r in (lr_said, batch_said, schedule_said, _regularisation(gap)) if r is not None]
    return OptimisationAdvice(
        lr=lr, batch_size=batch, schedule=schedule, regularise=None if gap is None else gap.lower > 0,
        range_test=tested, sharpness=sharpness, noise_scale=noise, gap=gap, recommendations=tuple(said),
    )  # fmt: skip


def _sharpness(model: nn.Module, rows: Split, task: Task) -> Estimate:
    goal = objective(model, rows, task)
    return hessian_eigenvalues(goal, k=1, tolerance=1e-2, generator=rng_for(0, "frontier.sharpness")).estimate()


def _batch(noise: Estimate, optimisation: Optimisation, rows: int) -> tuple[int | None, Recommendation | None]:
    """The power of two next to the noise scale, when that is determined."""
    if noise.trouble is not None or not (math.isfinite(noise.value) and noise.value > 0):
        return None, None
    size = min(2 ** max(0, round(math.log2(noise.value))), rows, LARGEST)
    finding = "gradient noise equals the gradient at a batch of {scale:.3g} ({lower:.3g} to {upper:.3g})"
    values = {"scale": noise.value, "lower": noise.lower, "upper": noise.upper}
    effect = (
        "about twice the steps that gradients over all rows would take, and twice the examples that tiny batches "
        "would; the noise scale grows during training (theory, untested here)"
    )
    change = Message("optimise.batch", "Use batches of about {size} examples, not many more.", size=size)
    return size, Recommendation(
        id="batch_from_noise",
        change=change,
        supports=(Evidence(code="bias.gradient_noise_scale", finding=Message("optimise.noise", finding, **values)),),
        effect=Message("optimise.batch.effect", effect),
        command=COMMAND,
    )


def _rate(
    tested: RangeTest, sharpness: Estimate, optimisation: Optimisation, batch: int | None, noise: Estimate
) -> tuple[float | None, Recommendation | None, float | None]:
    """A rate below the edge, moved to the recommended batch; with the rate that the start's curvature allows."""
    plain = optimisation.optimizer == "sgd"
    stable = max_stable_lr(sharpness.value, optimisation.momentum) if plain and sharpness.lower > 0 else None
    if tested.lowest is None:
        return None, None, stable
    found = min(tested.lowest, math.inf if tested.edge is None else tested.edge / MARGIN)
    moved = _moved(found, optimisation, batch, noise)
    supports = [Evidence(code="dynamics.range_test", finding=_range_finding(tested, optimisation.batch_size))]
    contradicts: list[Evidence] = []
    if stable is not None:
        finding = "the sharpest direction at the start is stable up to {stable:.3g} (2/λ, λ = {sharpness:.3g})"
        said = Message("optimise.stable", finding, stable=stable, sharpness=sharpness.value)
        (contradicts if moved.lr > stable else supports).append(Evidence(code="landscape.eigenvalues", finding=said))
    if moved.warning is not None:
        contradicts.append(Evidence(code="dynamics.scale_learning_rate", finding=moved.warning))
    return (
        moved.lr,
        Recommendation(
            id="rate_from_range",
            change=Message("optimise.rate", "Start from a learning rate of about {lr:.2g}.", lr=moved.lr),
            supports=tuple(supports),
            contradicts=tuple(contradicts),
            effect=Message("optimise.untested", "untested beyond the range test"),
            command=COMMAND,
        ),
        stable,
    )


def _moved(lr: float, optimisation: Optimisation, batch: int | None, noise: Estimate) -> ScaledRate:
    if batch is None or optimisation.optimizer_name not in ("sgd", "adam", "adamw"):
        return ScaledRate(lr=lr, rule="none", warning=None)
    return scale_learning_rate(
        lr, optimisation.batch_size, batch, optimizer=optimisation.optimizer_name, noise_scale=noise
    )  # fmt: skip


def _range_finding(tested: RangeTest, batch: int) -> Message:
    values = {"lowest": tested.lowest or math.nan, "batch": batch}
    if tested.edge is None:
        text = "at batch {batch} the loss fell up to a rate of {lowest:.3g} and never diverged"
        return Message("optimise.range.open", text, **values)
    text = "at batch {batch} the loss fell up to a rate of {lowest:.3g} and had diverged at {edge:.3g}"
    return Message("optimise.range", text, edge=tested.edge, **values)


def _schedule(horizon: int, lr: float | None, stable: float | None) -> tuple[Schedule, Recommendation]:
    """Cosine to zero over the horizon; a warm-up when the rate exceeds what the start's curvature allows."""
    rise = round(WARM * horizon) if lr is not None and stable is not None and lr > stable else 0
    if rise >= horizon:
        rise = 0
    schedule = warmup(rise, cosine_annealing(horizon - rise))
    planned = Message("optimise.horizon", "{horizon} steps are planned", horizon=horizon)
    supports = [Evidence(code="horizon", finding=planned)]
    change = Message("optimise.schedule", "Let the learning rate fall to zero along a cosine by the last step.")
    if rise:
        text = "Warm up over {rise} steps, then let the learning rate fall to zero along a cosine by the last step."
        change = Message("optimise.schedule.warm", text, rise=rise)
        reason = Message(
            "optimise.warm", "the rate lies above the stable {stable:.3g} of the start", stable=stable or 0.0
        )
        supports.append(Evidence(code="landscape.eigenvalues", finding=reason))
    effect = "noise of the last steps in proportion to their size; which shape is best for this network is untested"
    return schedule, Recommendation(
        id="schedule_from_horizon",
        change=change,
        supports=tuple(supports),
        effect=Message("optimise.schedule.effect", effect),
        command=COMMAND,
    )


def _regularisation(gap: Estimate | None) -> Recommendation | None:
    if gap is None:
        return None
    values = {"gap": gap.value, "lower": gap.lower, "upper": gap.upper}
    text = "the loss is {gap:.3g} higher on validation than on training ({lower:.3g} to {upper:.3g})"
    evidence = Evidence(code="frontier.loss_gap", finding=Message("optimise.gap", text, **values))
    if gap.lower > 0:
        change = Message("optimise.regularise", "Regularise more: weight decay, augmentation, or more examples.")
        effect = Message("optimise.gap.effect", "at most {gap:.3g} of the loss; how much is untested", gap=gap.value)
    else:
        change = Message("optimise.no_regularise", "Do not regularise more; no gap to close was measured.")
        effect = Message("optimise.gap.none", "at most {upper:.3g} of the loss", upper=max(0.0, gap.upper))
    return Recommendation(
        id="regularise_from_gap", change=change, supports=(evidence,), effect=effect, command=COMMAND
    )  # fmt: skip
