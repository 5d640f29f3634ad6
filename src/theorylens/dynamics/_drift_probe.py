"""Do steps from here still drift downhill, or do they undo one another? Judge and probe at the trained network."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from theorylens.core import Need, Subject, UnsuitableError, Work, controls, probe
from theorylens.landscape import step_rule
from theorylens.numerics.objective import Objective
from theorylens.results import (
    Assumption,
    Control,
    Estimate,
    Intervals,
    Kind,
    Message,
    Result,
    Role,
    Status,
    Table,
    Verdict,
)

from ._convergence import pl_ratio
from ._successive import SuccessiveGradients, pairs

DRAWS = 64  # pairs of batches
USUAL = 32  # examples in a batch when nobody said
SMALL = 1e-12  # of the mean squared norm: an exact product of zero but for rounding
REFERENCES = (
    "Pflug (1990). Non-asymptotic confidence bounds for stochastic approximation algorithms with constant step size. "
    "Monatsh. Math. 110:297-314.",
    "Chee, Toulis (2018). Convergence diagnostics for stochastic gradient descent with constant learning rate. "
    "AISTATS.",
    "Karimi, Nutini, Schmidt (2016). Linear convergence of gradient and proximal-gradient methods under the "
    "Polyak-Łojasiewicz condition. ECML PKDD.",
)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How training stepped: learning rate with momentum counted in, examples per step, whether that was said."""

    lr: float
    batch: int
    known: bool


def judge(after: Estimate) -> tuple[Verdict, Message]:
    """What the mean inner product of successive gradients says."""
    values = {"value": after.value, "lower": after.lower, "upper": after.upper}
    if after.lower > SMALL:
        text = "successive steps go the same way: {value:.2g} of a step's square ({lower:.2g} to {upper:.2g})"
        return Verdict.DESCRIPTIVE, Message("TL604.drift", text, **values)
    if after.upper < -SMALL:
        text = "successive steps undo one another: {value:.2g} of a step's square ({lower:.2g} to {upper:.2g})"
        return Verdict.DESCRIPTIVE, Message("TL604.oscillation", text, **values)
    text = "whether steps drift or oscillate cannot be told: {lower:.2g} to {upper:.2g} of a step's square"
    return Verdict.INCONCLUSIVE, Message("TL604.undecided", text, lower=after.lower, upper=after.upper)


def read(found: SuccessiveGradients, steps: Steps) -> Message:
    """The reading: drift or oscillation, and what the learning rate has to do with it."""
    after, before = found.after, found.before
    if after.lower > SMALL:
        text = "Yes: at learning rate {lr:.3g} a further step still goes where the last one went."
        return Message("TL604.yes", text, lr=steps.lr)
    if after.upper < -SMALL and before.lower > SMALL:
        text = (
            "No: at learning rate {lr:.3g} the next step turns back, although the gradient has a direction here; a "
            "smaller learning rate would follow it."
        )
        return Message("TL604.no_lr", text, lr=steps.lr)
    if after.upper < -SMALL:
        text = (
            "No: at learning rate {lr:.3g} steps undo one another, and no mean gradient can be told from its noise "
            "here; only a smaller learning rate or larger batches get closer."
        )
        return Message("TL604.no", text, lr=steps.lr)
    text = "Cannot be told from {draws} pairs of batches of {batch}."
    return Message("TL604.cannot", text, draws=len(found.step), batch=steps.batch)


def how_it_stepped(subject: Subject) -> Steps | None:
    """Learning rate and batch of the last steps; None where the rate is unknown or steps are rescaled."""
    rule = step_rule(subject)
    if rule.lr is None or not rule.plain:
        return None
    settings = (subject.recipe.settings if subject.recipe is not None else None) or {}
    batch = settings.get("batch_size")
    size = batch if isinstance(batch, int) and not isinstance(batch, bool) and batch >= 1 else None
    return Steps(lr=rule.lr / (1 - rule.momentum), batch=size or USUAL, known=size is not None)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    steps = how_it_stepped(subject)
    if steps is None or subject.model is None:
        return Work(seconds=0.01)
    rows = len(subject.split("train"))
    gradients = 3 * rows if steps.batch >= rows else 3 * DRAWS * steps.batch
    return Work(gradients=2 * gradients + rows, forwards=rows)


@probe(code="TL604", needs={Need.MODEL, Need.TRAIN}, cost=_cost, name="dynamics.drift")
def probe_drift(subject: Subject, *, rng: torch.Generator, draws: int = DRAWS) -> Result:
    """Would further steps of the same kind still descend?

    Inner products of gradients on independent batches, the second after a step of SGD along the first, at the learning
    rate and batch size of the end of training.
    """
    steps = how_it_stepped(subject)
    if steps is None:
        text = (
            "the size of a plain step is not known; record lr in the history or give it in the settings of the "
            "recipe (steps of Adam and the like are rescaled, so this test does not fit them)"
        )
        raise UnsuitableError(Message("TL604.unsuitable", text))
    state = rng.get_state()

    def compute(other: Subject) -> SuccessiveGradients:
        rng.set_state(state)  # the same batches for the network and its control
        return successive(other, steps, draws, rng)

    found = compute(subject)
    goal = subject.objective("train")
    norm = float(torch.linalg.vector_norm(goal.gradient().double()))
    verdict, reason = judge(found.after)
    beside = controls(subject, lambda other: compute(other).after)
    return Result(
        estimate=found.after,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(found, steps),
        assumptions=_assumptions(steps, subject),
        controls=beside,
        references=REFERENCES,
        payload=(_intervals(found, beside), _table(norm, goal.value, steps, len(found.step))),
        settings={"lr": steps.lr, "batch": steps.batch, "draws": len(found.step)},
    )


def successive(subject: Subject, steps: Steps, draws: int, rng: torch.Generator) -> SuccessiveGradients:
    """`successive_gradients` of a subject, on a copy of its network."""
    goal = subject.objective("train")
    if not math.isfinite(goal.value):
        text = "the loss on the training split is {loss}; load weights from before the run diverged"
        raise UnsuitableError(Message("TL604.not_finite", text, loss=str(goal.value)))
    model = copy.deepcopy(subject.net).eval()

    def make(batch: Any) -> Objective:
        return Objective(model, [batch], goal.loss, goal.mean)

    split = subject.split("train")
    return pairs(model, split, make, lr=steps.lr, batch_size=steps.batch, draws=draws, generator=rng)


def _assumptions(steps: Steps, subject: Subject) -> tuple[Assumption, ...]:
    batch = Assumption(
        statement=Message("TL604.assume.batch", "training took {batch} examples per step", batch=steps.batch),
        status=Status.UNCHECKED,
        evidence=None if steps.known else Message("TL604.assume.batch.evidence", "nothing was said; 32 is a guess"),
    )
    rule = step_rule(subject)
    plain = Assumption(
        statement=Message("TL604.assume.plain", "momentum acts like a learning rate larger by 1 / (1 − momentum)"),
        status=Status.MET if rule.momentum == 0 else Status.UNCHECKED,
        evidence=Message("TL604.assume.plain.evidence", "momentum {momentum:.2g}", momentum=rule.momentum),
    )
    return batch, plain


def _intervals(found: SuccessiveGradients, beside: tuple[Control, ...]) -> Intervals:
    rows: list[tuple[Message, Estimate, Role]] = [
        (Message("TL604.row.before", "both at the trained network"), found.before, "network"),
        (Message("TL604.row.after", "the second after a step"), found.after, "network"),
    ]
    rows += [(control.name, control.estimate, control.role) for control in beside]
    return Intervals(
        label=Message("TL604.figure", "Mean inner product of two batch gradients, as a share of their square"),
        names=tuple(name for name, _, _ in rows),
        values=np.array([e.value for _, e, _ in rows]),
        lower=np.array([e.lower for _, e, _ in rows]),
        upper=np.array([e.upper for _, e, _ in rows]),
        x_name=Message("TL604.figure.x", "share of the square"),
        roles=tuple(role for _, _, role in rows),
    )


def _table(norm: float, loss: float, steps: Steps, draws: int) -> Table:
    ratio = float(pl_ratio([norm], [loss])[0]) if loss > 0 else math.nan
    rows: tuple[tuple[Message, float], ...] = (
        (Message("TL604.table.lr", "learning rate, momentum counted in"), steps.lr),
        (Message("TL604.table.batch", "examples per step"), float(steps.batch)),
        (Message("TL604.table.draws", "pairs of batches"), float(draws)),
        (Message("TL604.table.loss", "training loss"), loss),
        (Message("TL604.table.norm", "gradient norm over all training rows"), norm),
        (Message("TL604.table.pl", "squared gradient over twice the loss (the constant µ of a PL inequality)"), ratio),
    )
    return Table(
        label=Message("TL604.table", "The step, and the gradient at the trained network"),
        columns=(Message("TL604.table.what", "quantity"), Message("TL604.table.value", "value")),
        rows=rows,
    )
