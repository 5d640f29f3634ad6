"""Is the training loss still falling, and did the validation loss turn? Judge and probe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Curve,
    Estimate,
    History,
    Kind,
    Line,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
)

from ._loss_slope import LEAST, SHORT, Floats, Slope, last_part, loss_slope

SHARE = 0.5  # the last half of training, by step: a factor 2 in the step is the least that shows a power law
TRAINING = ("train_loss", "loss", "batch_loss")  # names of the training loss, the first that was recorded counts
REFERENCES = (
    "Prais, Winsten (1954). Trend estimators and serial correlation. Cowles Commission discussion paper 383.",
    "Kendall (1954). Note on bias in the estimation of autocorrelation. Biometrika 41:403-404.",
    "Schmeiser (1982). Batch size effects in the analysis of simulation output. Oper. Res. 30:556-568.",
)


@dataclass(frozen=True, kw_only=True)
class Turning:
    """The lowest validation loss and what came after it.

    Attributes
    ----------
    step, lowest, last
        Step and value of the minimum, the last value.
    slope
        Of log loss over the last part of training, None with fewer than 8 records there.
    """

    step: int
    lowest: float
    last: float
    slope: Estimate | None

    @property
    def rises(self) -> bool:
        """Whether the rise at the end is more than noise."""
        return self.slope is not None and self.slope.lower > 0


def turning(steps: NDArray[np.int64], losses: Floats, share: float = SHARE) -> Turning:
    """Where a validation loss was lowest, and whether it rises over the last ``share`` of the steps.

    Steps at which it was not recorded may be NaN. The rise is judged on a part of training that does not depend on
    where the minimum lies: a slope that starts at a minimum picked from noise always points upwards.

    Raises
    ------
    ValueError
        An infinite loss, or none at all.

    >>> turning(np.arange(5), np.array([3.0, 2.0, 1.0, 1.5, 2.0])).step
    2
    """
    known = ~np.isnan(losses)
    if not known.any() or np.isinf(losses).any():
        raise ValueError("the validation loss was never recorded, or is infinite somewhere")
    steps, losses = steps[known], losses[known]
    at = int(np.argmin(losses))
    late_steps, late = last_part(steps, losses, share) if steps[-1] > 0 else (np.zeros(0), np.zeros(0))
    fit = len(late) >= LEAST and bool((late > 0).all())
    slope = loss_slope(late_steps, late).estimate if fit else None
    return Turning(step=int(steps[at]), lowest=float(losses[at]), last=float(losses[-1]), slope=slope)


def judge(slope: Estimate) -> tuple[Verdict, Message]:
    """What a slope with its interval says about the training loss."""
    if slope.trouble is not None:
        return Verdict.INCONCLUSIVE, Message("TL601.trouble", "no answer: {why}", why=slope.trouble)
    values = {"value": slope.value, "lower": slope.lower, "upper": slope.upper}
    if slope.upper < 0:
        text = "still falling, as the step to the power {value:.2g} ({lower:.2g} to {upper:.2g})"
        return Verdict.DESCRIPTIVE, Message("TL601.falling", text, **values)
    if slope.lower > 0:
        text = "rising, as the step to the power {value:.2g} ({lower:.2g} to {upper:.2g})"
        return Verdict.DESCRIPTIVE, Message("TL601.rising", text, **values)
    text = "flat within its noise: the power of the step lies between {lower:.2g} and {upper:.2g}"
    return Verdict.INCONCLUSIVE, Message("TL601.flat", text, lower=slope.lower, upper=slope.upper)


def read(slope: Estimate, turned: Turning | None) -> Message:
    """The reading: the training loss first, then the validation loss."""
    return Message("TL601.reading", "{training} {validation}", training=_training(slope), validation=_turned(turned))


def _training(slope: Estimate) -> Message:
    if slope.trouble is not None:
        return Message("TL601.unknown", "Unknown, for the reason given.")
    if slope.upper < 0:
        times = 2 ** (-1 / slope.value) if -1 / slope.value < 1000 else math.inf
        if times > 1000:
            text = "Yes, but slowly: at this power halving the loss takes more than 1000 times the training so far."
            return Message("TL601.yes_slowly", text)
        text = "Yes: if this power held, halving the loss would take {times:.2g} times the training so far."
        return Message("TL601.yes", text, times=times)
    if slope.lower > 0:
        return Message("TL601.no_rising", "No: the training loss rises over the last half of training.")
    text = "Not that the record shows: over the last half its slope cannot be told from noise."
    return Message("TL601.not_shown", text)


def _turned(turned: Turning | None) -> Message:
    if turned is None:
        return Message("TL601.no_validation", "No validation loss was recorded.")
    rise = turned.last / turned.lowest - 1 if turned.lowest > 0 else math.inf
    if turned.rises:
        text = "The validation loss was lowest at step {step}, rises and ends {rise:.1%} higher."
        return Message("TL601.turned", text, step=turned.step, rise=rise)
    if turned.last == turned.lowest:
        return Message("TL601.still_lowest", "The validation loss is lowest at the end.")
    if turned.slope is None:
        text = "The validation loss was lowest at step {step}; the last half has too few records for a slope."
        return Message("TL601.turn_unknown", text, step=turned.step)
    text = "The validation loss was lowest at step {step}; a rise since then cannot be told from noise."
    return Message("TL601.no_turn", text, step=turned.step)


def _cost(subject: Subject, rung: int | None) -> Work:
    del subject, rung
    return Work(seconds=0.02)


@probe(code="TL601", needs={Need.HISTORY}, cost=_cost, name="dynamics.loss_slope")
def probe_loss_slope(subject: Subject, *, rng: torch.Generator) -> Result:
    """Is the training loss still falling at the end of training?

    Slope of the log loss over the last half of the recorded steps, with an interval for correlated noise.
    """
    del rng  # nothing is sampled
    history = subject.history
    assert isinstance(history, History)
    name = next((n for n in TRAINING if n in history.series), None)
    if name is None or len(history.steps) < 2 or history.steps[-1] <= 0:
        text = "the history has no training loss over steps; record a series {name} at two steps or more"
        raise UnsuitableError(Message("TL601.unsuitable", text, name=TRAINING[0]))
    losses = history.series[name]
    power, rate = (fitted(history.steps, losses, scale) for scale in ("log-log", "log-linear"))
    turned = _validation(history)
    verdict, reason = judge(power.estimate)
    return Result(
        estimate=power.estimate,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(power.estimate, turned),
        assumptions=_assumptions(power),
        references=REFERENCES,
        payload=(_curve(history, name, power), _table(power, rate, turned)),
        settings={"series": name, "share": SHARE, "points": power.points},
    )


def fitted(steps: NDArray[np.int64], losses: Floats, scale: str) -> Slope:
    """`loss_slope` over the last half; a loss without a logarithm becomes trouble."""
    x, y = last_part(steps, losses, SHARE)
    bad = np.flatnonzero(~(np.isfinite(y) & (y > 0)))
    if len(bad) or len(x) < 2:
        text = "{bad} of {n} recorded losses of the last half have no logarithm; the run may have diverged or reached 0"
        why = Message("TL601.no_logarithm", text, bad=len(bad), n=len(x))
        nothing = Estimate(value=math.nan, uncertainty=Unknown(why=why), trouble=why)
        return Slope(estimate=nothing, intercept=math.nan, correlation=math.nan, points=len(x))
    return loss_slope(x, y, scale="log-log" if scale == "log-log" else "log-linear")


def _validation(history: History) -> Turning | None:
    losses = history.series.get("validation_loss")
    if losses is None or np.isnan(losses).all() or np.isinf(losses).any():
        return None
    return turning(history.steps, losses)


def _assumptions(power: Slope) -> tuple[Assumption, ...]:
    many = power.points >= SHORT
    stationary = Assumption(
        statement=Message("TL601.assume.stationary", "the noise of the loss is alike over the last half of training"),
    )
    enough = Assumption(
        statement=Message("TL601.assume.enough", "records enough for the interval to cover as often as it says"),
        status=Status.MET if many and power.correlation < 0.95 else Status.UNCHECKED,
        evidence=Message(
            "TL601.assume.enough.evidence",
            "{points} records, correlation {correlation:.2f} from one to the next; simulated coverage of 95 % "
            "intervals falls to 91 % with 12 records at 0.9",
            points=power.points, correlation=power.correlation,
        ),
    )  # fmt: skip
    return stationary, enough


def _curve(history: History, name: str, power: Slope) -> Curve:
    late = history.steps > 0  # a logarithmic axis has no 0
    steps = history.steps[late].astype(np.float64)
    lines = [Line(x=steps, y=history.series[name][late], name=Message("TL601.line.training", "training"))]
    validation = history.series.get("validation_loss")
    if validation is not None and np.isfinite(validation[late]).any():
        seen = np.isfinite(validation[late])
        lines.append(Line(x=steps[seen], y=validation[late][seen], name=Message("TL601.line.validation", "validation")))
    if math.isfinite(power.intercept):
        x = steps[steps >= (1 - SHARE) * steps[-1]]
        y = np.exp(power.intercept) * x**power.estimate.value
        lines.append(Line(x=x, y=y, name=Message("TL601.line.law", "power law"), role="theory"))
    return Curve(
        label=Message("TL601.figure", "The loss over training, with the power of the step fitted to its last half"),
        lines=tuple(lines),
        x_name=Message("TL601.figure.x", "step"),
        y_name=Message("TL601.figure.y", "loss"),
        x_log=True,
        y_log=True,
    )


def _table(power: Slope, rate: Slope, turned: Turning | None) -> Table:
    rows: list[tuple[Message, float, float, float]] = [
        (Message("TL601.row.power", "power of the step"), *_limits(power.estimate)),
        (Message("TL601.row.rate", "rate per step"), *_limits(rate.estimate)),
    ]
    if turned is not None and turned.slope is not None:
        rows.append((Message("TL601.row.validation", "power of the step, validation loss"), *_limits(turned.slope)))
    return Table(
        label=Message("TL601.table", "Slopes of the log loss over the last half of training"),
        columns=(
            Message("TL601.table.what", "slope"), Message("TL601.table.value", "value"),
            Message("TL601.table.lower", "lower end"), Message("TL601.table.upper", "upper end"),
        ),
        rows=tuple(rows),
    )  # fmt: skip


def _limits(estimate: Estimate) -> tuple[float, float, float]:
    if isinstance(estimate.uncertainty, Statistical):
        return estimate.value, estimate.lower, estimate.upper
    return estimate.value, math.nan, math.nan
