"""The order in which a network learnt its training examples, against how hard each is for a simple classifier."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
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
)

from ._classified import classified
from ._learning_order import FEWEST, LearningOrder, learning_order, time_to_fit
from ._suspects import judged_rows

Floats = NDArray[np.float64]
ROWS = 500
RECORDS = 3  # places on the run: two only part the learnt from the others
REFERENCES = (
    "Arpit et al. (2017). A closer look at memorization in deep networks. ICML.",
    "Kalimeris et al. (2019). SGD on neural networks learns functions of increasing complexity. NeurIPS.",
    "Bonett, Wright (2000). Sample size requirements for estimating Pearson, Kendall and Spearman correlations. "
    "Psychometrika 65:23-28.",
)


def judge(found: LearningOrder) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading."""
    rho = found.correlation
    values = {"rho": rho.value, "lower": rho.lower, "upper": rho.upper}
    never = Message("TL511.never", "{never:.0%} of the examples are not learnt at the end.", never=found.never)
    if rho.lower > 0:
        reason = Message(
            "TL511.simple", "simple examples were learnt first (rank correlation {rho:.2f})", rho=rho.value
        )
        text = (
            "Yes: examples that are hard for a kernel classifier were learnt later (rank correlation {rho:.2f},"
            " {lower:.2f} to {upper:.2f}). {never}"
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL511.reading_simple", text, never=never, **values)
    if rho.upper < 0:
        reason = Message("TL511.complex", "hard examples were learnt first (rank correlation {rho:.2f})", rho=rho.value)
        text = (
            "No: examples that are hard for a kernel classifier were learnt earlier (rank correlation {rho:.2f},"
            " {lower:.2f} to {upper:.2f}). {never}"
        )
        return Verdict.DESCRIPTIVE, reason, Message("TL511.reading_complex", text, never=never, **values)
    reason = Message(
        "TL511.open", "no order by difficulty is told from none ({lower:.2f} to {upper:.2f})",
        lower=rho.lower, upper=rho.upper,
    )  # fmt: skip
    text = (
        "Undecided: the rank correlation of difficulty and time to fit is {rho:.2f}, and its interval of {lower:.2f} to"
        " {upper:.2f} covers 0. {never}"
    )
    return Verdict.INCONCLUSIVE, reason, Message("TL511.reading_open", text, never=never, **values)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    n = min(ROWS, len(subject.split("train")))
    return Work(forwards=n * (2 + len(subject.checkpoints or ())), flops=20.0 * n**3, seconds=1e-4 * n)


@probe(code="TL511", needs={Need.MODEL, Need.TRAIN, Need.CHECKPOINTS}, cost=_cost)
def probe_learning_order(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """Were simple examples learnt before hard ones?

    Difficulty: the margin a kernel classifier of the inputs leaves each row when that row is left out.
    """
    del rng  # nothing is sampled
    known, classifier = judged_rows(subject, rows, "TL511")
    scores = classifier.fit(known.labels, known.classes).scores
    at = np.arange(len(known.labels))
    own = scores[at, known.labels]
    others = scores.copy()
    others[at, known.labels] = -np.inf
    difficulty = others.max(1) - own
    steps, right = _answers(subject, rows)
    if len(steps) < RECORDS:
        text = "needs {least} checkpoints to see an order, there are {found}; keep more, from the first steps on"
        raise UnsuitableError(Message("TL511.records", text, least=RECORDS, found=len(steps)))
    times = time_to_fit(right, steps)
    if len(times) < FEWEST or len(np.unique(times)) < 2:
        text = "all examples were learnt at the same checkpoint; keep more checkpoints, from the first steps on"
        raise UnsuitableError(Message("TL511.at_once", text))
    found = learning_order(times, difficulty)
    verdict, reason, reading = judge(found)
    return Result(
        estimate=found.correlation,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=_assumptions(subject),
        references=REFERENCES,
        payload=(_curve(steps, right, difficulty), _table(found, steps)),
        settings={"rows": len(times), "checkpoints": len(steps), "never learnt": found.never},
    )


def _answers(subject: Subject, rows: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Steps and which rows are right at each: the start if it is known, then every checkpoint."""
    places = [(step, subject.at(step)) for step in sorted(subject.checkpoints or ())]
    start = subject.initial()
    if start is not None and start.own and places[0][0] > 0:
        places = [(0, start.subject), *places]
    right = []
    for _, place in places:
        seen = classified(place, "train", rows, "TL511")
        right.append(seen.answers == seen.labels)
    return np.array([step for step, _ in places], dtype=np.float64), np.stack(right)


def _assumptions(subject: Subject) -> tuple[Assumption, ...]:
    split = subject.split("train")
    free = Assumption(
        statement=Message("TL511.assume.rows", "rows are independent draws (for the interval)"),
        status=Status.BROKEN if split.distinct_units < len(split) else Status.UNCHECKED,
    )
    measure = Assumption(
        statement=Message("TL511.assume.measure", "what is hard for a kernel on the inputs is complex for the network"),
    )
    return free, measure


def _curve(steps: Floats, right: NDArray[np.bool_], difficulty: Floats) -> Curve:
    order = np.argsort(difficulty, kind="stable")
    third = max(1, len(order) // 3)
    parts = (
        (order[:third], Message("TL511.simplest", "simplest third")),
        (order[-third:], Message("TL511.hardest", "hardest third")),
    )
    late = steps > 0
    shown = late if late.sum() > 1 else np.ones_like(late)
    return Curve(
        label=Message("TL511.figure", "Share of the training examples answered right, by their difficulty"),
        lines=tuple(Line(x=steps[shown], y=right[shown][:, rows].mean(1), name=name) for rows, name in parts),
        x_name=Message("TL511.figure.x", "step"),
        y_name=Message("TL511.figure.y", "share answered right"),
        x_log=bool(late.sum() > 1),
    )


def _table(found: LearningOrder, steps: Floats) -> Table:
    rho: Estimate = found.correlation
    rows = (
        (Message("TL511.row.rho", "rank correlation of difficulty and time to fit"), rho.value),
        (Message("TL511.row.lower", "lower end"), rho.lower),
        (Message("TL511.row.upper", "upper end"), rho.upper),
        (Message("TL511.row.first", "share right from the first checkpoint on"), found.at_once),
        (Message("TL511.row.never", "share wrong at the end"), found.never),
        (Message("TL511.row.records", "checkpoints"), float(len(steps))),
    )
    assert math.isfinite(rho.value)
    return Table(
        label=Message("TL511.table", "The order of learning in numbers"),
        columns=(Message("TL511.table.what", "quantity"), Message("TL511.table.value", "value")),
        rows=rows,
    )
