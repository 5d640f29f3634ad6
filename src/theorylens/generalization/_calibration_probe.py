"""TL120: are the confidences of the network honest on the test split?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from theorylens.core import RUNGS, Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Cell,
    Conclusion,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Payload,
    PValue,
    Result,
    Statistical,
    Status,
    Table,
    Verdict,
)

from ._answers import answers
from ._calibration import BINS, brier_parts, calibration_p, reliability, squared_calibration_error
from ._evidence import Evidence, drawn, evidence
from ._holdout import one_bound
from ._temperature import temperature

LEVEL = 0.05
PER_BIN = 20  # rows a bin needs before its accuracy says much
REFERENCES = (
    "Guo, Pleiss, Sun, Weinberger (2017). On calibration of modern neural networks. ICML.",
    "Kumar, Liang, Ma (2019). Verified uncertainty calibration. NeurIPS.",
    "Bröcker, Smith (2007). Increasing the reliability of reliability diagrams. Weather and Forecasting 22:651-661.",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stated:
    """What a network says about each row it answered: scores before the softmax (n, classes), and the true class."""

    scores: Tensor
    targets: Tensor

    @property
    def confidence(self) -> NDArray[np.float64]:
        return torch.softmax(self.scores, 1).amax(1).numpy()

    @property
    def correct(self) -> NDArray[np.float64]:
        return (self.scores.argmax(1) == self.targets).double().numpy()

    @property
    def loss(self) -> float:
        return float(torch.nn.functional.cross_entropy(self.scores, self.targets))

    def cooled(self, by: float) -> Stated:
        return Stated(scores=self.scores / by, targets=self.targets)


def stated(subject: Subject, role: str) -> Stated:
    """Scores and classes of the rows with a target; probabilities are taken back to scores.

    Raises
    ------
    UnsuitableError
        When the network is not a classifier of single rows, or a score is not finite.
    """
    found = answers(subject, role)
    if found.classes is None or (found.columns and found.outputs > 1):
        text = "confidences are read off a classifier with one answer per row; this task is {kind}"
        raise UnsuitableError(Message("TL120.unsuitable", text, kind=str(subject.judged.kind)))
    outputs, _ = subject.predictions(role)
    scores = outputs[found.rows].double().reshape(len(found.rows), -1)
    if scores.shape[1] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], 1)
    elif bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < 1e-4).all()):
        scores = scores.clamp_min(1e-300).log()
    if not bool(torch.isfinite(scores).all()):
        raise UnsuitableError(Message("TL120.not_finite", "some scores of the network are not finite"))
    return Stated(scores=scores, targets=found.classes)


def judge(p: float, gap: Estimate, error: float, n: int) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading; ``gap`` is mean confidence minus accuracy. Not rejecting is never "holds"."""
    expected = error - gap.value
    if p > LEVEL:
        return _undecided(p, gap, error, n)
    values: dict[str, Any] = {"expected": expected, "error": error, "n": n, "p": claims(p).said}
    reason = Message(
        "TL120.miscalibrated", "stated confidences are not the frequencies of right answers ({p})", p=values["p"]
    )
    if gap.lower > 0 or gap.upper < 0:
        texts = {
            True: "No, it is too sure: it expects to err on {expected:.2%} of {n} test rows and errs on {error:.2%} "
            "({p}). Dividing its scores by a temperature above 1 often mends that.",
            False: "No, it is too cautious: it expects to err on {expected:.2%} of {n} test rows, "
            "and errs on {error:.2%} ({p}). Dividing its scores by a temperature below 1 often mends that.",
        }
        return Verdict.FAILS, reason, Message("TL120.reading.biased", texts[gap.lower > 0], **values)
    text = (
        "No: on {n} test rows some confidences are too high and some too low ({p}), though on average it "
        "expects to err on {expected:.2%} and errs on {error:.2%}."
    )
    return Verdict.FAILS, reason, Message("TL120.reading.mixed", text, **values)


def claims(p: float) -> PValue:
    statement = Message("TL120.honest", "right answers come exactly as often as the confidences say")
    return PValue(statement=statement, p=p, decides=True)


def _undecided(p: float, gap: Estimate, error: float, n: int) -> tuple[Verdict, Message, Message]:
    said = claims(p).said
    reason = Message("TL120.none_found", "no miscalibration found on {n} test rows ({p})", n=n, p=said)
    text = (
        "Undecided: on {n} test rows no miscalibration was found ({p}), which does not show that there is "
        "none. The network expects to err on {expected:.2%} and errs on {error:.2%}; the difference of its mean "
        "confidence from its true accuracy lies between {lower:+.2%} and {upper:+.2%}."
    )
    values = {"expected": error - gap.value, "error": error, "lower": gap.lower, "upper": gap.upper}
    return Verdict.DESCRIPTIVE, reason, Message("TL120.reading.none", text, n=n, p=said, **values)


def _cost(subject: Subject, rung: int | None) -> Work:
    n = len(subject.split("test")) + (len(subject.split("validation")) if subject.has("validation") else 0)
    return Work(forwards=2.0 * n, flops=20.0 * len(subject.split("test")) * (rung or RUNGS[3]))


@probe(code="TL120", needs={Need.TEST}, cost=_cost, rungs=RUNGS[3:])
def probe_calibration(subject: Subject, *, draws: int, rng: torch.Generator) -> Result:
    """When the network states a confidence, is it right that often?"""
    said = stated(subject, "test")
    found = evidence(subject, "test", against=("train", "validation"))
    n = len(said.targets)
    bins = max(1, min(BINS, n // PER_BIN))
    numbers = np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=rng)))
    p = calibration_p(said.confidence, said.correct, bins=bins, draws=draws, rng=numbers)
    gap = overconfidence(said, found)
    verdict, reason, reading = judge(p, gap, 1 - float(said.correct.mean()), n)
    other, why, longer = _undecided(p, gap, 1 - float(said.correct.mean()), n)
    drawn_, alone = drawn(found, found.samples[0].n), _independent(found)
    return Result(
        estimate=gap,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(drawn_, _honest(p, broken=p <= LEVEL), alone),
        p_values=(claims(p),),
        otherwise=Conclusion(
            verdict=other, reason=why, reading=longer, assumptions=(drawn_, _honest(p, broken=False), alone)
        ),
        references=REFERENCES,
        payload=_drawings(subject, said, bins),
        settings={"p": p, "draws": draws, "bins": bins, "rows": n},
    )


def overconfidence(said: Stated, found: Evidence) -> Estimate:
    """Mean confidence minus accuracy; the interval is that of the accuracy, for these rows' confidences."""
    number = np.unique(found.units, return_inverse=True)[1]
    weight = 1 / np.bincount(number)[number] / (number.max() + 1)  # units weigh alike
    error, mean = float(weight @ (1 - said.correct)), float(weight @ said.confidence)
    low = min(one_bound(sample, LEVEL / 2, side="lower") for sample in found.samples)
    high = max(one_bound(sample, LEVEL / 2) for sample in found.samples)
    value = mean - (1 - error)
    method = Message("method.accuracy", "exact interval of the accuracy, at the confidences of these rows")
    interval = Statistical(
        lower=min(value, mean - 1 + low), upper=max(value, mean - 1 + high), level=1 - LEVEL, method=method
    )
    return Estimate(value=value, uncertainty=interval)


def _honest(p: float, *, broken: bool) -> Assumption:
    status = Status.BROKEN if broken else Status.UNCHECKED
    return Assumption(statement=claims(p).statement, status=status, evidence=claims(p).said)


def _independent(found: Evidence) -> Assumption:
    statement = Message("TL120.independent", "rows are independent, so that labels may be drawn one by one")
    units = len(np.unique(found.units))
    if units == len(found.units):
        return Assumption(statement=statement)
    text = "{rows} rows belong to {units} units: the test rejects too often"
    evidence_ = Message("TL120.units", text, rows=len(found.units), units=units)
    return Assumption(statement=statement, status=Status.BROKEN, evidence=evidence_)


def _drawings(subject: Subject, said: Stated, bins: int) -> tuple[Payload, ...]:
    forms: list[tuple[Message, Stated]] = [(Message("TL120.as_is", "as it is"), said)]
    fitted = None
    if subject.has("validation"):
        held = stated(subject, "validation")
        fitted = temperature(held.scores, held.targets)
        if fitted.trouble is None:
            name = Message("TL120.cooled", "scores divided by {t:.3g}", t=fitted.value)
            forms.append((name, said.cooled(fitted.value)))
    return _diagram(forms, bins), _table(forms, bins)


def _diagram(forms: Sequence[tuple[Message, Stated]], bins: int) -> Curve:
    lines = []
    for number, (name, form) in enumerate(forms):
        found = reliability(form.confidence, form.correct, bins=bins)
        low, high = (found.lower, found.upper) if number == 0 else (None, None)
        lines.append(Line(x=found.confidence, y=found.accuracy, name=name, lower=low, upper=high))
    ends = np.array([min(float(line.x.min()) for line in lines), 1.0])
    lines.append(Line(x=ends, y=ends, name=Message("TL120.perfect", "right as often as stated"), role="theory"))
    return Curve(
        label=Message("TL120.diagram", "Share of right answers against stated confidence, in bins of equal size"),
        lines=tuple(lines), x_name=Message("axis.confidence", "stated confidence"),
        y_name=Message("axis.accuracy", "share of right answers"),
    )  # fmt: skip


def _table(forms: Sequence[tuple[Message, Stated]], bins: int) -> Table:
    columns = (
        Message("table.form", "scores"), Message("table.cross_entropy", "cross-entropy"),
        Message("table.squared", "squared calibration error, without bias"),
        Message("table.reliability", "Brier: reliability"), Message("table.resolution", "Brier: resolution"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for name, form in forms:
        parts = brier_parts(form.confidence, form.correct, bins=bins)
        squared = squared_calibration_error(form.confidence, form.correct, bins=bins)
        rows.append((name, form.loss, squared, parts.reliability, parts.resolution))
    return Table(label=Message("TL120.table", "Test split; the temperature is fitted on the validation split"),
                 columns=columns, rows=tuple(rows))  # fmt: skip
