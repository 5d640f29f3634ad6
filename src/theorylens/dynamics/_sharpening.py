"""Sharpness along training: does the loss grow sharper, and does it settle where steps become unstable?

Method   largest Hessian eigenvalue at each checkpoint on the same rows, by Lanczos
Source   Cohen, Kaur, Li, Kolter, Talwalkar (2021), Gradient descent on neural networks typically occurs at the edge
         of stability, ICLR
Assumes  the limit 2/lr (with heavy-ball momentum (2 + 2 beta)/lr) belongs to steps along the full gradient
Breaks   small batches keep the sharpness below the limit; Adam has a limit on a rescaled Hessian only
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum

import numpy as np
import torch

from theorylens.core import Need, Subject, UnsuitableError, Work, probe, rng_for
from theorylens.landscape import StepRule, hessian_eigenvalues, step_rule
from theorylens.numerics.objective import Objective
from theorylens.results import (
    Assumption,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Result,
    Status,
    Table,
    Verdict,
    Wall,
)

ROWS = 512  # training rows the sharpness is taken over, the same at every checkpoint
CHECKPOINTS = 6  # at most, spread over training
TOLERANCE = 1e-2
PEAK = 1.5  # a sharpness this many times that of both ends is a peak
EDGE = 0.1  # within this share of the limit the sharpness is at it; measured hovering is within 2 %
PRODUCTS = 15  # per checkpoint, as seen on small networks
REFERENCES = (
    "Cohen, Kaur, Li, Kolter, Talwalkar (2021). Gradient descent on neural networks typically occurs at the edge of "
    "stability. ICLR.",
    "Cohen et al. (2022). Adaptive gradient methods at the edge of stability. arXiv:2207.14484.",
    "Polyak (1964). Some methods of speeding up the convergence of iteration methods. USSR Comput. Math. Math. Phys. "
    "4:1-17.",
)


class Course(Enum):
    """How the sharpness went from the first to the last checkpoint, beyond the residuals."""

    PEAKED = "peaked"
    SHARPENED = "sharpened"
    FLATTENED = "flattened"
    LEVEL = "level"


def sharpening(goals: Mapping[int, Objective], *, tolerance: float = TOLERANCE, seed: int = 0) -> dict[int, Estimate]:
    """Largest Hessian eigenvalue of each objective, by training step, ascending.

    Parameters
    ----------
    goals
        Step to the loss at that step's parameters (`core.objective`), on the same rows for a fair comparison.
    tolerance
        Largest error of each value relative to its size.
    seed
        Of the random start, which is the same for every step.

    Raises
    ------
    ValueError
        No objective given.
    """
    if not goals:
        raise ValueError("there is nothing to measure; give at least one step")
    found = {}
    for step in sorted(goals):
        generator = rng_for(seed, "dynamics.sharpening")
        found[step] = hessian_eigenvalues(goals[step], k=1, tolerance=tolerance, generator=generator).estimate()
    return found


def spread(steps: list[int], most: int = CHECKPOINTS) -> list[int]:
    """At most ``most`` of the steps, evenly by position, the first and the last among them.

    >>> spread([0, 10, 20, 30, 40, 50, 60, 70], 3)
    [0, 40, 70]
    """
    if most < 2:
        raise ValueError(f"at least the first and the last step are kept, got most={most}")
    ordered = sorted(steps)
    if len(ordered) <= most:
        return ordered
    places = np.linspace(0, len(ordered) - 1, most).round().astype(int)
    return [ordered[i] for i in places]


def course(found: Sequence[Estimate]) -> Course:
    """Whether a sharpness in between lies above both ends by more than half, else where the last lies to the first."""
    first, last, highest = found[0], found[-1], max(found, key=lambda e: e.value)
    if highest.lower > PEAK * max(first.upper, last.upper, 0.0):
        return Course.PEAKED
    if last.lower > first.upper:
        return Course.SHARPENED
    return Course.FLATTENED if last.upper < first.lower else Course.LEVEL


def judge(found: Mapping[int, Estimate], rule: StepRule) -> tuple[Verdict, Message]:
    """What the sharpness at some steps says, with the step rule at the last of them."""
    steps = sorted(found)
    first, last = found[steps[0]], found[steps[-1]]
    trouble = next((found[s].trouble for s in steps if found[s].trouble is not None), None)
    if trouble is not None:
        return Verdict.INCONCLUSIVE, Message("TL602.trouble", "no answer yet: {why}", why=trouble)
    if len(steps) < 2:
        text = "one checkpoint shows no course; keep checkpoints along training"
        return Verdict.INCONCLUSIVE, Message("TL602.single", text)
    went = course([found[s] for s in steps])
    place = _place(last.value, rule)
    if went is Course.PEAKED:
        top = max(steps, key=lambda step: found[step].value)
        text = "sharpness rose from {first:.3g} to {top:.3g} at step {step} and fell to {last:.3g}{place}"
        values = {"first": first.value, "last": last.value, "top": found[top].value, "step": top}
        return Verdict.DESCRIPTIVE, Message("TL602.peaked", text, place=place, **values)
    texts = {
        Course.SHARPENED: "sharpness rose from {first:.3g} to {last:.3g}{place}",
        Course.FLATTENED: "sharpness fell from {first:.3g} to {last:.3g}{place}",
        Course.LEVEL: "sharpness stayed level, {first:.3g} and {last:.3g}{place}",
    }
    said = Message(f"TL602.{went.value}", texts[went], first=first.value, last=last.value, place=place)
    return (Verdict.INCONCLUSIVE if went is Course.LEVEL else Verdict.DESCRIPTIVE), said


def _place(value: float, rule: StepRule) -> Message:
    if rule.limit is None:
        return Message("TL602.place.none", "; no stability limit to compare with")
    share = value / rule.limit
    if share > 1 + EDGE:
        return Message("TL602.place.above", ", above the stability limit {limit:.3g}", limit=rule.limit)
    if share >= 1 - EDGE:
        return Message("TL602.place.at", ", at the stability limit {limit:.3g}", limit=rule.limit)
    return Message("TL602.place.below", ", below the stability limit {limit:.3g}", limit=rule.limit)


def read(found: Mapping[int, Estimate], rule: StepRule) -> Message:
    """The reading: the course, then what the limit means for this optimiser."""
    steps = sorted(found)
    if len(steps) < 2:
        return Message("TL602.single_reading", "Unknown: a single checkpoint shows no course.")
    went = course([found[s] for s in steps])
    answers = {
        Course.PEAKED: Message(
            "TL602.for_a_while", "For a while: the loss was sharpest in between, and bends less now."
        ),
        Course.SHARPENED: Message("TL602.yes", "Yes: the loss bends more sharply at the end than at the start."),
        Course.FLATTENED: Message("TL602.no", "No: the loss bends less at the end than at the start."),
        Course.LEVEL: Message("TL602.level_reading", "No change of sharpness exceeds the error of its computation."),
    }
    return Message("TL602.reading", "{course} {limit}", course=answers[went], limit=_meaning(found, rule))


def _meaning(found: Mapping[int, Estimate], rule: StepRule) -> Message:
    if not rule.plain:
        text = "For an optimiser that rescales the gradient the limit applies to a rescaled Hessian, so none is drawn."
        return Message("TL602.rescaled", text)
    if rule.limit is None:
        return Message("TL602.no_lr", "The learning rate is not known, so no limit is drawn.")
    value = found[max(found)].value
    if abs(value / rule.limit - 1) <= EDGE:
        text = "It ends at {share:.2g} of the limit {limit:.3g} beyond which steps along the sharpest direction grow."
        return Message("TL602.edge", text, share=value / rule.limit, limit=rule.limit)
    if value < rule.limit:
        text = (
            "It ends at {share:.2g} of the limit {limit:.3g}: the steps were stable in every direction of these rows."
        )
        return Message("TL602.stable", text, share=value / rule.limit, limit=rule.limit)
    text = (
        "It ends at {share:.2g} times the limit {limit:.3g}: on a quadratic with these rows such steps would grow, so "
        "noise, other rows or higher derivatives hold them."
    )
    return Message("TL602.unstable", text, share=value / rule.limit, limit=rule.limit)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    rows = min(ROWS, len(subject.split("train")))
    taken = min(CHECKPOINTS, len(subject.checkpoints or ()))
    return Work(forwards=rows, gradients=rows, hvps=PRODUCTS * rows) * taken


@probe(code="TL602", needs={Need.MODEL, Need.TRAIN, Need.CHECKPOINTS}, cost=_cost, name="dynamics.sharpening")
def probe_sharpening(
    subject: Subject, *, rng: torch.Generator, rows: int = ROWS, checkpoints: int = CHECKPOINTS
) -> Result:
    """Does training make the loss sharper, and does it end at the edge of stability?

    Largest Hessian eigenvalue at up to ``checkpoints`` checkpoints, on the same choice of ``rows`` training rows.
    """
    del rng  # the start of Lanczos is keyed by its name, the same at every checkpoint
    steps = spread([int(step) for step in subject.checkpoints or ()], checkpoints)
    found: dict[int, Estimate] = {}
    for step in steps:
        there = subject.at(step)
        with there.studied():
            goal = there.objective("train", limit=rows)
            if not math.isfinite(goal.value):
                text = "the loss of the checkpoint at step {step} is {loss}; leave out checkpoints that diverged"
                raise UnsuitableError(Message("TL602.unsuitable", text, step=step, loss=str(goal.value)))
            found |= sharpening({step: goal})
    rules = {step: step_rule(subject, step) for step in steps}
    rule = rules[steps[-1]]
    verdict, reason = judge(found, rule)
    used = min(rows, len(subject.split("train")))
    return Result(
        estimate=found[steps[-1]],
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(found, rule),
        assumptions=_assumptions(rule, used, len(subject.split("train"))),
        references=REFERENCES,
        payload=(_curve(found, rules), _table(found, rules)),
        settings={"rows": used, "checkpoints": len(steps), "tolerance": TOLERANCE},
    )


def _assumptions(rule: StepRule, used: int, rows: int) -> tuple[Assumption, ...]:
    choice = Assumption(
        statement=Message("TL602.assume.rows", "the sharpness is that of the loss over the whole training split"),
        status=Status.MET if used == rows else Status.UNCHECKED,
        evidence=Message(
            "TL602.assume.rows.evidence",
            "{used} of {rows} rows were used; the band covers the iteration, not this choice", used=used, rows=rows,
        ),
    )  # fmt: skip
    if rule.limit is None:
        return (choice,)
    status = {True: Status.MET, False: Status.BROKEN, None: Status.UNCHECKED}[rule.full_batch]
    statement = Message("TL602.assume.full_batch", "every step was taken along the gradient over all training rows")
    return choice, Assumption(statement=statement, status=status)


def _curve(found: Mapping[int, Estimate], rules: Mapping[int, StepRule]) -> Curve:
    steps = np.array(sorted(found), dtype=np.float64)
    estimates = [found[int(s)] for s in steps]
    values, lower, upper = (np.array([getattr(e, name) for e in estimates]) for name in ("value", "lower", "upper"))
    lines = [Line(x=steps, y=values, lower=lower, upper=upper, name=Message("TL602.line", "sharpness"))]
    limits = [rules[int(s)].limit for s in steps]
    known = np.array([x if x is not None else np.nan for x in limits])
    walls: tuple[Wall, ...] = ()
    name = Message("TL602.limit", "stability limit")
    if np.isfinite(known).all() and np.ptp(known) < 1e-9 * known.max():
        walls = (Wall(at=float(known[0]), name=name),)
    elif np.isfinite(known).any():
        lines.append(Line(x=steps[np.isfinite(known)], y=known[np.isfinite(known)], name=name, role="theory"))
    drawn = np.concatenate([values, known[np.isfinite(known)]])
    return Curve(
        label=Message("TL602.figure", "Largest Hessian eigenvalue of the training loss along training"),
        lines=tuple(lines),
        x_name=Message("TL602.figure.x", "step"),
        y_name=Message("TL602.figure.y", "largest eigenvalue"),
        x_log=bool(steps[0] > 0 and steps[-1] > 50 * steps[0]),  # checkpoints kept at powers of a step
        y_log=bool((drawn > 0).all() and drawn.max() > 20 * drawn.min()),
        walls=walls,
    )


def _table(found: Mapping[int, Estimate], rules: Mapping[int, StepRule]) -> Table:
    return Table(
        label=Message("TL602.table", "Sharpness and the limit of stable steps at each checkpoint"),
        columns=(
            Message("TL602.table.step", "step"), Message("TL602.table.value", "largest eigenvalue"),
            Message("TL602.table.residual", "residual"), Message("TL602.table.limit", "stability limit"),
        ),
        rows=tuple((step, e.value, e.upper - e.value, _cell(rules[step].limit)) for step, e in sorted(found.items())),
    )  # fmt: skip


def _cell(limit: float | None) -> float | str:
    return "–" if limit is None else limit
