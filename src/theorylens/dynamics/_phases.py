"""Which phases did training go through? Judge and probe on the record of the training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Conclusion,
    Curve,
    Estimate,
    History,
    Kind,
    Line,
    Message,
    PValue,
    Result,
    Statistical,
    Status,
    Table,
    Verdict,
)

from ._change_points import FEWEST, ChangePoints, change_points
from ._loss_slope import Floats, Slope
from ._progress import TRAINING

LEVEL = 0.05
SECONDS = 1.5  # at most six changes on 120 stretches; 0.2 to 1.5 seconds on one idle core
MANY = 40  # records below which few changes could be seen
CORRELATED = 0.9  # above it the record hardly tells its noise: 7 % false changes in simulation
REFERENCES = (
    "Andrews (1993). Tests for parameter instability and structural change with unknown change point. Econometrica "
    "61:821-856.",
    "Bai, Perron (1998). Estimating and testing linear models with multiple structural changes. Econometrica 66:47-78.",
    "Besag, Clifford (1991). Sequential Monte Carlo p-values. Biometrika 78:301-304.",
)


def judge(found: ChangePoints) -> tuple[Verdict, Message]:
    """What the change points of a record say."""
    if not found.steps:
        text = "no change of course beyond noise in the record"
        return Verdict.INCONCLUSIVE, Message("TL603.none", text)
    last = f"{found.steps[-1]}"
    steps = ", ".join(map(str, found.steps[:-1]))
    if not steps:
        text = "the course changes at step {last} ({p})"
        return Verdict.DESCRIPTIVE, Message("TL603.one", text, last=last, p=claims(found)[0].said)
    text = "the course changes at steps {steps} and {last} (the least certain with {p})"
    least = claims(found)[len(found.steps) - 1].said
    return Verdict.DESCRIPTIVE, Message("TL603.several", text, steps=steps, last=last, p=least)


def claims(found: ChangePoints) -> tuple[PValue, ...]:
    """The tests in their order; each is made only when those before it were small, so the largest so far counts."""
    first = Message("TL603.tested", "the record is one smooth law with noise")
    text = "changes of course: {count}; what is left is noise"
    p = [*found.p_values, found.next_p_value]
    return tuple(
        PValue(
            statement=Message("TL603.tested.next", text, count=k) if k else first, p=value,
            among_own=max(p[: k + 1]), decides=k < len(found.steps),
        )
        for k, value in enumerate(p)
    )  # fmt: skip


def _otherwise(found: ChangePoints, assumptions: tuple[Assumption, ...]) -> Conclusion | None:
    if not found.steps:
        return None
    steps = ", ".join(map(str, found.steps))
    text = "a change of course near step {steps} is no surprise among all tests of this run ({p})"
    reason = Message("TL603.not_in_run", text, steps=steps, p=claims(found)[len(found.steps) - 1].said)
    reading = Message("TL603.reading.not_in_run", "Undecided: {reason}.", reason=reason)
    return Conclusion(verdict=Verdict.INCONCLUSIVE, reason=reason, reading=reading, assumptions=assumptions)


def read(found: ChangePoints) -> Message:
    """The reading: how many phases, and what distinguishes them."""
    if not found.steps:
        text = "One, as far as the record shows: one smooth law of decay with noise describes all of it."
        return Message("TL603.reading.none", text)
    first = (
        "{phases} phases: one smooth law with noise would show breaks like these in fewer than one record of twenty."
    )
    said = Message("TL603.reading.count", first, phases=len(found.steps) + 1)
    known = [p.estimate.value for p in found.phases if p is not None]
    if len(known) < len(found.phases):
        return said
    fast = int(np.argmin(known))
    text = "{count} The loss falls fastest in phase {number}, by {rate:.2g} of itself per step."
    if not known[fast] < 0:
        return said
    return Message("TL603.reading", text, count=said, number=fast + 1, rate=-math.expm1(known[fast]))


def _cost(subject: Subject, rung: int | None) -> Work:
    del subject, rung
    return Work(seconds=SECONDS)


@probe(code="TL603", needs={Need.HISTORY}, cost=_cost, name="dynamics.phases")
def probe_phases(subject: Subject, *, rng: torch.Generator) -> Result:
    """Did training go through phases, or is its course one law with noise?

    Change points of the recorded training loss against one smooth law of decay with correlated noise.
    """
    history = subject.history
    assert isinstance(history, History)
    name = next((n for n in TRAINING if n in history.series), None)
    if name is None or len(history.steps) < FEWEST:
        text = "the history has no training loss at {least} steps or more; record a series {name}"
        raise UnsuitableError(Message("TL603.unsuitable", text, least=FEWEST, name=TRAINING[0]))
    losses = history.series[name]
    if not np.isfinite(losses).all():
        text = "{bad} of {n} recorded losses are not finite; give the record up to where the run diverged"
        raise UnsuitableError(Message("TL603.not_finite", text, bad=int((~np.isfinite(losses)).sum()), n=len(losses)))
    seed = int(torch.randint(1 << 31, (1,), generator=rng))
    found = change_points(history.steps, losses, level=LEVEL, seed=seed)
    verdict, reason = judge(found)
    method = Message("TL603.method", "breaks accepted one after the other, each at level {level:.0%}", level=LEVEL)
    count = float(len(found.steps))
    interval = Statistical(lower=count, upper=math.inf, level=1 - LEVEL, method=method)
    return Result(
        estimate=Estimate(value=count, uncertainty=interval, unit="changes of course"),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(found),
        assumptions=_assumptions(found, len(losses)),
        p_values=claims(found),
        otherwise=_otherwise(found, _assumptions(found, len(losses))),
        references=REFERENCES,
        payload=(_curve(history.steps.astype(np.float64), losses, found), _table(found, history)),
        settings={"series": name, "level": LEVEL, "next_p_value": found.next_p_value},
    )


def _assumptions(found: ChangePoints, n: int) -> tuple[Assumption, ...]:
    noise = Assumption(
        statement=Message("TL603.assume.noise", "the noise of the log loss is correlated from record to record only"),
    )
    enough = Assumption(
        statement=Message("TL603.assume.enough", "records enough to tell a change from noise"),
        status=Status.MET if n >= MANY and found.correlation <= CORRELATED else Status.UNCHECKED,
        evidence=Message(
            "TL603.assume.enough.evidence",
            "{n} records, correlation {correlation:.2f} from one to the next; in simulation 1 % of records without a "
            "change show one under white noise, up to 7 % at a correlation of 0.9",
            n=n, correlation=found.correlation,
        ),
    )  # fmt: skip
    return noise, enough


def _curve(steps: Floats, losses: Floats, found: ChangePoints) -> Curve:
    law = Line(x=found.at, y=found.fitted, name=Message("TL603.line.law", "law with its breaks"), role="theory")
    return Curve(
        label=Message("TL603.figure", "The training loss, and one smooth law with the breaks that were found"),
        lines=(Line(x=steps, y=losses, name=Message("TL603.line.loss", "training loss")), law),
        x_name=Message("TL603.figure.x", "step"),
        y_name=Message("TL603.figure.y", "loss"),
        y_log=bool((losses > 0).all()),
    )


def _table(found: ChangePoints, history: History) -> Table:
    starts = [int(history.steps[0]), *found.steps]
    p_values: Sequence[float] = [math.nan, *found.p_values]
    rows = tuple(
        (number + 1, start, p, *_slope(phase))
        for number, (start, p, phase) in enumerate(zip(starts, p_values, found.phases, strict=True))
    )
    return Table(
        label=Message("TL603.table", "The phases, with the rate at which the loss changes in each"),
        columns=(
            Message("TL603.table.phase", "phase"), Message("TL603.table.start", "from step"),
            Message("TL603.table.p", "p-value"), Message("TL603.table.rate", "rate per step"),
            Message("TL603.table.lower", "lower end"), Message("TL603.table.upper", "upper end"),
        ),
        rows=rows,
    )  # fmt: skip


def _slope(phase: Slope | None) -> tuple[float, float, float]:
    if phase is None or not isinstance(phase.estimate.uncertainty, Statistical):
        return (math.nan if phase is None else phase.estimate.value), math.nan, math.nan
    return phase.estimate.value, phase.estimate.lower, phase.estimate.upper
