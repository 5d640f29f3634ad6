"""TL123: how many classes must be named for the true one to be among them?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.core import Need, Subject, Work, probe
from theorylens.numerics.binomial import clopper_pearson_interval
from theorylens.results import (
    Assumption,
    Control,
    Estimate,
    Intervals,
    Kind,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
    Wall,
)

from ._calibration_probe import stated
from ._conformal import conformal_sets, conformal_threshold
from ._evidence import error_controls, evidence

Numbers = NDArray[Any]
ALPHA = 0.05  # share of rows whose true class may be missed
ALPHAS = (0.2, 0.1, 0.05, 0.02, 0.01)
LEVEL = 0.05
REFERENCES = (
    "Vovk, Gammerman, Shafer (2005). Algorithmic learning in a random world. Springer.",
    "Lei, G'Sell, Rinaldo, Tibshirani, Wasserman (2018). Distribution-free predictive inference for regression. "
    "JASA 113:1094-1111.",
)


def judge(
    missed: float, lower: float, size: float, classes: int, *, alpha: float = ALPHA
) -> tuple[Verdict, Message, Message]:  # fmt: skip
    """``missed``: share of test rows whose true class is not named, ``lower`` end of its interval."""
    values = {"alpha": alpha, "size": size, "missed": missed, "classes": classes}
    if lower > alpha:
        text = (
            "the true class is missed more often than {alpha:.0%}: test and validation rows differ, or were both used"
        )
        reason = Message("TL123.broken", text, alpha=alpha)
        text = (
            "Not as promised: sets of {size:.2f} of {classes} classes miss the true one on {missed:.2%} of the test "
            "rows, where {alpha:.0%} were allowed. Then validation and test rows are not alike."
        )
        return Verdict.FAILS, reason, Message("TL123.reading.broken", text, **values)
    reason = Message("TL123.size", "{size:.2f} of {classes} classes on average", size=size, classes=classes)
    text = (
        "About {size:.2f} of {classes} classes: sets that may miss the true class {alpha:.0%} of the time miss it on "
        "{missed:.2%} of the test rows. Below 1 some sets are empty: the network errs less often than was allowed."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL123.reading.size", text, **values)


def _cost(subject: Subject, rung: int | None) -> Work:
    return Work(forwards=2.0 * (len(subject.split("test")) + len(subject.split("validation"))))


@probe(code="TL123", needs={Need.VALIDATION, Need.TEST}, cost=_cost)
def probe_conformal(subject: Subject, *, rng: torch.Generator, alpha: float = ALPHA) -> Result:
    """How many classes must be named for the true one to be among them nineteen times in twenty?"""
    del rng  # nothing is sampled
    sizes, missed, threshold = _sets(subject, alpha)
    n, count = len(sizes), int(missed.sum())
    # What the promise bounds is the chance over validation and test rows; given the validation rows it varies.
    lower, upper = clopper_pearson_interval(count, n, LEVEL)
    spread = _spread(len(subject.split("validation")), alpha)
    verdict, reason, reading = judge(count / n, lower - spread, float(sizes.mean()), subject.classes or 0, alpha=alpha)
    return Result(
        estimate=_estimate(sizes),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_exchangeable(subject),),
        controls=_controls(subject, alpha),
        references=REFERENCES,
        payload=(_missed(count / n, lower, upper, alpha), _table(subject)),
        settings={"alpha": alpha, "threshold": threshold, "held_out": len(subject.split("validation")), "rows": n},
        examples=tuple(int(i) for i in np.flatnonzero(missed)[:50]),
    )


def _sets(subject: Subject, alpha: float) -> tuple[Numbers, Numbers, float]:
    held, new = stated(subject, "validation"), stated(subject, "test")
    chances = torch.softmax(held.scores, 1)
    true = chances.gather(1, held.targets[:, None])[:, 0].numpy()
    threshold = conformal_threshold(true, alpha)
    named = conformal_sets(torch.softmax(new.scores, 1).numpy(), threshold)
    return named.sum(1), ~named[np.arange(len(named)), new.targets.numpy()], threshold


def _spread(held: int, alpha: float) -> float:
    """Two standard deviations of the chance of missing, given the held-out rows: it is beta distributed."""
    return 2 * float(np.sqrt(alpha * (1 - alpha) / (held + 2)))


def _estimate(sizes: Numbers) -> Estimate:
    if len(sizes) < 2:
        return Estimate(value=float(sizes.mean()), uncertainty=Unknown(why=Message("TL123.one", "one row only")))
    half = 1.96 * float(sizes.std(ddof=1)) / float(np.sqrt(len(sizes)))
    mean = float(sizes.mean())
    method = Message("method.normal_rows", "normal approximation over test rows, at this threshold")
    return Estimate(
        value=mean, unit="classes",
        uncertainty=Statistical(lower=mean - half, upper=mean + half, level=1 - LEVEL, method=method),
    )  # fmt: skip


def _controls(subject: Subject, alpha: float) -> tuple[Control, ...]:
    return error_controls(subject, ("validation", "test"), lambda other: _estimate(_sets(other, alpha)[0]))


def _exchangeable(subject: Subject) -> Assumption:
    statement = Message(
        "TL123.exchangeable", "validation and test rows are exchangeable, and neither was used for fitting"
    )
    found = evidence(subject, "test", against=("train", "validation"))
    if shared := len(found.shared_rows):
        said = Message("TL123.shared", "{n} test inputs occur in another split", n=shared)
        return Assumption(statement=statement, status=Status.BROKEN, evidence=said)
    text = "early stopping and choices made on the validation split weaken it; they leave no trace here"
    return Assumption(statement=statement, evidence=Message("TL123.choices", text))


def _missed(value: float, lower: float, upper: float, alpha: float) -> Intervals:
    return Intervals(
        label=Message("TL123.missed", "Share of test rows whose true class is not named, and what was allowed"),
        names=(Message("name.test", "test"),), values=np.array([value]), lower=np.array([lower]),
        upper=np.array([upper]), x_name=Message("axis.missed", "true class not named"), roles=("network",),
        walls=(Wall(at=alpha, name=Message("wall.allowed", "allowed")),),
    )  # fmt: skip


def _table(subject: Subject) -> Table:
    columns = (
        Message("table.allowed", "may be missed"), Message("table.missed", "is missed on test"),
        Message("table.classes_named", "classes named, mean"), Message("table.empty", "sets without a class"),
    )  # fmt: skip
    rows = []
    for alpha in ALPHAS:
        sizes, missed, _ = _sets(subject, alpha)
        rows.append((alpha, float(missed.mean()), float(sizes.mean()), int((sizes == 0).sum())))
    return Table(label=Message("TL123.table", "What other promises cost"), columns=columns, rows=tuple(rows))
