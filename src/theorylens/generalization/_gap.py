"""TL104: how much more often the network errs on new examples than on those it was trained on.

The error on the training examples is a known number: they are what the network was fitted to, not a sample that
estimates something. What is uncertain is its error on new examples; the interval of the gap is the exact interval of
that error, shifted by the training error. (Bounding both errors as if both were samples would only make it wider.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy import stats

from theorylens.core import Need, Subject, Work, probe
from theorylens.results import Cell, Estimate, Intervals, Kind, Message, Result, Statistical, Table, Verdict, Wall

from ._evidence import THEOREMS, Evidence, drawn, error_controls, evidence, unused
from ._holdout import one_bound
from ._test_error import DELTA

REFERENCES = (
    "Clopper, Pearson (1934). The use of confidence or fiducial limits illustrated in the case of the binomial. "
    "Biometrika 26:404-413.",
)
FEW = 30  # below that Student's t says little about a mean of skewed losses


def gap(train: Evidence, test: Evidence, delta: float, unit: str = "") -> Estimate:
    """Expected error minus measured training error, with an interval that covers it with probability 1 - delta.

    Each end of the test error's exact interval takes delta/2. Where rows have copies both ways of counting are covered.
    """
    low, high = test.error_range
    ways = test.samples
    known = mean_error(train)
    lower = min(one_bound(s, delta / 2, side="lower") for s in ways)
    upper = max(one_bound(s, delta / 2) for s in ways)
    name = THEOREMS["binomial" if all(s.binary for s in ways) else "kl"]
    method = Message("method.two_sided", "{theorem}, two-sided, minus the training error", theorem=name)
    ends = (low + (high - low) * lower - known, low + (high - low) * upper - known)
    value = mean_error(test) - known
    return Estimate(
        value=value, unit=unit,
        uncertainty=Statistical(
            lower=min(math.nextafter(ends[0], -math.inf), value), upper=max(math.nextafter(ends[1], math.inf), value),
            level=1 - delta, method=method,
        ),
    )  # fmt: skip


def mean_error(found: Evidence) -> float:
    """Mean over units of the mean error of their rows, in the error's own units."""
    units = np.unique(found.units, return_inverse=True)[1]
    per_unit = np.bincount(units, found.answers.errors.numpy()) / np.bincount(units)
    return math.fsum(per_unit) / len(per_unit)


def judge(estimate: Estimate, shared: int) -> tuple[Verdict, Message]:
    """What the interval says about the sign of the gap."""
    if shared:
        text = "{n} test inputs were also used for training or choosing, which hides part of the gap"
        return Verdict.INCONCLUSIVE, Message("TL104.shared", text, n=shared)
    if estimate.lower > 0:
        return Verdict.DESCRIPTIVE, Message("TL104.gap", "errors are more frequent on new examples")
    if estimate.upper < 0:
        text = "errors are less frequent on new examples than on the training ones; do both come from one source?"
        return Verdict.DESCRIPTIVE, Message("TL104.reverse", text)
    return Verdict.DESCRIPTIVE, Message("TL104.none", "the test split shows no difference between old and new examples")


def _cost(subject: Subject, rung: int | None) -> Work:
    rows = len(subject.split("train")) + len(subject.split("test"))
    return Work(forwards=4.0 * rows)  # errors and losses; the controls need errors only


@probe(code="TL104", needs={Need.TRAIN, Need.TEST}, cost=_cost)
def probe_gap(subject: Subject, *, rng: torch.Generator, delta: float = DELTA) -> Result:
    """How much worse is it on new examples than on those it was trained on?"""
    del rng  # nothing is sampled
    train = evidence(subject, "train")
    test = evidence(subject, "test", against=("train", "validation"))
    name = subject.judged.error_name
    estimate = gap(train, test, delta, name)
    verdict, reason = judge(estimate, len(test.shared_rows))
    counted = test.samples[-1].n
    return Result(
        estimate=estimate,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=_reading(estimate, train, test),
        assumptions=(unused(test), drawn(test, counted)),
        controls=error_controls(
            subject,
            ("train", "test"),
            lambda other: gap(evidence(other, "train"), evidence(other, "test"), delta, name),
        ),
        references=REFERENCES,
        payload=(_forest(train, test, estimate), _table(subject, train, test, estimate)),
        settings={
            "delta": delta, "train": mean_error(train), "test": mean_error(test), "units": counted,
            "shared": len(test.shared_rows), "low": test.error_range[0], "high": test.error_range[1],
        },
    )  # fmt: skip


def _reading(estimate: Estimate, train: Evidence, test: Evidence) -> Message:
    share = test.is_share
    values: dict[str, Any] = {
        "lower": estimate.lower, "upper": estimate.upper, "train": mean_error(train), "test": mean_error(test),
    }  # fmt: skip
    if len(test.shared_rows):
        texts = {
            True: "Unknown: {train:.2%} on the training examples and {test:.2%} on the test examples, some of which "
            "were seen before.",
            False: "Unknown: {train:.4g} on the training examples and {test:.4g} on the test examples, some of which "
            "were seen before.",
        }
        return Message("TL104.reading.shared", texts[share], train=values["train"], test=values["test"])
    texts = {
        True: "By {lower:.2%} to {upper:.2%} in error: {train:.2%} on the training examples, {test:.2%} measured on "
        "the test examples.",
        False: "By {lower:.4g} to {upper:.4g} in error: {train:.4g} on the training examples, {test:.4g} measured on "
        "the test examples.",
    }
    return Message("TL104.reading", texts[share], **values)


def _forest(train: Evidence, test: Evidence, estimate: Estimate) -> Intervals:
    """Training error as a point, test error with its interval, and the trivial level."""
    known = mean_error(train)
    return Intervals(
        label=Message("TL104.forest", "Error on the training examples (known) and on new ones (exact interval)"),
        names=(Message("name.train", "training"), Message("name.test", "test")),
        values=np.array([known, mean_error(test)]),
        lower=np.array([known, known + estimate.lower]), upper=np.array([known, known + estimate.upper]),
        x_name=Message("axis.error", "error"), roles=("network", "network"),
        walls=(Wall(at=test.trivial, name=Message("wall.trivial", "trivial level")),),
    )  # fmt: skip


def _table(subject: Subject, train: Evidence, test: Evidence, estimate: Estimate) -> Table:
    known = mean_error(train)
    loss = [_loss_row(subject, found) for found in (train, test)]
    unknown = Message("table.exact", "known")
    rows: tuple[tuple[Cell, ...], ...] = (
        (Message("table.train_error", "training error"), known, unknown, unknown),
        (Message("table.test_error", "test error"), mean_error(test), known + estimate.lower, known + estimate.upper),
        (Message("table.train_loss", "training loss"), loss[0][0], unknown, unknown),
        (Message("table.test_loss", "test loss"), *loss[1]),
    )
    columns = tuple(Message(f"table.{n}", n) for n in ("quantity", "measured", "lower", "upper"))
    text = (
        "Training and test; the interval of the error is exact, that of the loss approximate (Student's t over units)"
    )
    return Table(label=Message("TL104.table", text), columns=columns, rows=rows)


def _loss_row(subject: Subject, found: Evidence) -> tuple[Cell, Cell, Cell]:
    """Mean loss over units with a 95 % interval of Student's t; no interval below `FEW` units."""
    units = np.unique(found.units, return_inverse=True)[1]
    losses = subject.scores(found.role).losses.numpy()[found.answers.rows.numpy()]
    per_unit = np.bincount(units, losses) / np.bincount(units)
    mean = float(per_unit.mean())
    if len(per_unit) < FEW:
        return mean, "-", "-"
    half = float(stats.t.ppf(0.975, len(per_unit) - 1) * per_unit.std(ddof=1) / math.sqrt(len(per_unit)))
    return mean, mean - half, mean + half
