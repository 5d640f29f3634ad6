"""The average of the last checkpoints against the last one, on validation rows: judge and probe."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from theorylens.core import Need, Subject, UnsuitableError, Work, probe, read_state
from theorylens.results import (
    Assumption,
    Curve,
    Estimate,
    Exact,
    Kind,
    Line,
    Message,
    Result,
    Statistical,
    Status,
    Table,
    Unknown,
    Verdict,
    Wall,
)

from ._averaging import average_weights, update_statistics

LATE = 0.5  # checkpoints from this share of training on are averaged, and the last two in any case
FEWEST = 2  # states an average needs to differ from the last
MOST = 12  # checkpoints looked at
ROWS = 2048  # training rows from which statistics of batch normalisation are taken anew
BATCH = 256  # rows at a time for those: training-mode statistics depend on it, so it is fixed
FEW_UNITS = 10  # independent units below which no interval is given: Student's t needs a mean close to normal
REFERENCES = (
    "Izmailov, Podoprikhin, Garipov, Vetrov, Wilson (2018). Averaging weights leads to wider optima and better "
    "generalization. UAI.",
    "Polyak, Juditsky (1992). Acceleration of stochastic approximation by averaging. SIAM J. Control Optim. "
    "30:838-855.",
)
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Validation losses of the last network and of the average, and the mean of their difference (average - last).

    ``steps`` are those of the checkpoints that were averaged.
    """

    last: float
    average: float
    difference: Estimate
    steps: tuple[int, ...]

    @property
    def late(self) -> bool:
        """Whether all of them are of the second half of training; else they are the last two, far apart."""
        return self.steps[0] >= LATE * self.steps[-1]


def judge(found: Comparison) -> tuple[Verdict, Message]:
    """Whether the average has a lower validation loss than the last network, beyond the noise of the rows."""
    values = {
        "average": found.average, "last": found.last, "n": len(found.steps), "start": found.steps[0],
        "end": found.steps[-1],
    }  # fmt: skip
    if found.difference.trouble is not None:
        return Verdict.INCONCLUSIVE, Message("TL307.trouble", "no answer: {why}", why=found.difference.trouble)
    if found.difference.upper < 0:
        text = (
            "the average of {n} checkpoints (steps {start} to {end}) has validation loss {average:.3g}, the last one "
            "{last:.3g}"
        )
        return Verdict.HOLDS, Message("TL307.better", text, **values)
    if found.difference.lower > 0:
        text = (
            "the average of {n} checkpoints (steps {start} to {end}) is worse: validation loss {average:.3g} against "
            "{last:.3g}"
        )
        return (Verdict.FAILS if found.late else Verdict.INCONCLUSIVE), Message("TL307.worse", text, **values)
    text = (
        "the average of {n} checkpoints (steps {start} to {end}) and the last one are not told apart: validation loss "
        "{average:.3g} and {last:.3g}"
    )
    return Verdict.INCONCLUSIVE, Message("TL307.alike", text, **values)


def read(found: Comparison) -> Message:
    """The reading: the answer, the interval, what to make of it."""
    low, high = found.difference.lower, found.difference.upper
    if not (math.isfinite(low) and math.isfinite(high)):
        text = "Open: a difference of {value:.3g} in validation loss, from too few rows for an interval."
        return Message("TL307.reading.open", text, value=found.difference.value)
    if high < 0:
        answer = Message("TL307.yes", "Yes, the average can replace the last network at no cost in use.")
    elif low > 0 and not found.late:
        text = (
            "Not these: only the last checkpoint is of the second half of training, so those averaged (steps {start} "
            "and {end}) are far apart; averages of neighbouring ones may do better."
        )
        answer = Message("TL307.far", text, start=found.steps[0], end=found.steps[-1])
    elif low > 0:
        answer = Message("TL307.no", "No, these checkpoints do not lie in one basin, or training had not settled.")
    else:
        answer = Message("TL307.open", "Open: these rows cannot tell.")
    text = "{answer} Averaging changes the validation loss by {value:.3g} (from {low:.3g} to {high:.3g})."
    return Message("TL307.reading", text, answer=answer, value=found.difference.value, low=low, high=high)


def paired(average: Floats, last: Floats, units: NDArray[np.int64]) -> Estimate:
    """Mean over rows of ``average - last``, with Student's t over units: rows of one unit are not independent."""
    if not (np.isfinite(average).all() and np.isfinite(last).all()):
        why = Message("TL307.infinite", "a validation loss is not finite; look at the outputs of the network")
        return Estimate(value=math.inf, uncertainty=Unknown(why=why), trouble=why)
    count = int(units.max()) + 1
    gap = average - last
    value = math.fsum(gap) / len(gap)
    # Sums over units of (gap - mean): their variance is that of the mean of all rows, also for units of unequal size.
    sums = np.bincount(units, weights=gap - value, minlength=count)
    if not np.any(sums):
        return Estimate(value=value, uncertainty=Exact())
    method = Message("TL307.paired", "Student's t over {n} pairs of independent units", n=count)
    half = math.inf
    if count >= FEW_UNITS:
        spread = math.sqrt(math.fsum(sums**2) * count / (count - 1)) / len(gap)
        half = float(stats.t.ppf(0.975, count - 1)) * spread
    limits = Statistical(lower=value - half, upper=value + half, level=0.95, method=method)
    return Estimate(value=value, uncertainty=limits)


def late_steps(steps: list[int]) -> list[int]:
    """The checkpoints that are averaged: those in the second half of training, and at least the last two."""
    trained = [s for s in steps if s > 0]
    late = [s for s in trained if s >= LATE * trained[-1]] if trained else []
    return late if len(late) >= FEWEST else trained[-FEWEST:]


def _shown(steps: list[int]) -> list[int]:
    if len(steps) <= MOST:
        return steps
    return [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, MOST).round().astype(int))]


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    looked = min(MOST, len(subject.checkpoints or ())) + 2
    rows = min(ROWS, len(subject.split("train"))) if subject.has("train") else 0
    return Work(forwards=looked * len(subject.split("validation")) + rows)


@probe(
    code="TL307", needs={Need.MODEL, Need.TRAIN, Need.VALIDATION, Need.CHECKPOINTS}, cost=_cost,
    name="landscape.averaged_checkpoints",
)  # fmt: skip
def probe_averaged_checkpoints(subject: Subject, *, rng: torch.Generator) -> Result:
    """Would the average of the last checkpoints do better than the last one?

    Validation loss of the averaged weights, statistics of batch normalisation taken anew, against the last checkpoint.
    """
    del rng  # nothing is drawn
    steps = sorted(subject.checkpoints or {})
    chosen = late_steps(steps)
    if len(chosen) < FEWEST:
        text = "needs at least {few} checkpoints after step 0, has {n}; give more to Subject"
        raise UnsuitableError(Message("TL307.unsuitable", text, few=FEWEST, n=len(chosen)))
    # The checkpoints are read one after the other: one state in memory besides the running mean.
    states = (read_state((subject.checkpoints or {})[step]) for step in chosen)
    model = copy.deepcopy(subject.net)
    model.load_state_dict(average_weights(states))
    renewed = update_statistics(
        model, subject.split("train"), batch_size=BATCH, limit=ROWS, forward=subject.judged.forward
    )
    averaged = _losses(replace(
        subject, model=model, init=None, checkpoints=None, history=None, recipe=None, outputs=None, shuffled=None
    ))  # fmt: skip
    course = {step: _losses(subject.at(step)) for step in _shown(steps)}
    last = course[steps[-1]]
    units = subject.split("validation").unit_numbers
    found = Comparison(
        last=float(last.mean()), average=float(averaged.mean()), difference=paired(averaged, last, units),
        steps=tuple(chosen),
    )  # fmt: skip
    verdict, reason = judge(found)
    return Result(
        estimate=found.difference,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=read(found),
        assumptions=_assumptions(subject, renewed, chosen),
        references=REFERENCES,
        payload=(_curve(course, found), _table(found)),
        settings={"checkpoints": len(chosen), "from_step": chosen[0], "statistics_batch": BATCH},
    )


def _losses(subject: Subject) -> Floats:
    with subject.studied():
        return subject.scores("validation").losses.numpy()


def _assumptions(subject: Subject, renewed: int, steps: list[int]) -> tuple[Assumption, ...]:
    chosen = Assumption(
        statement=Message("TL307.assume.validation", "the validation rows had no part in training"),
        evidence=Message("TL307.assume.validation.evidence", "as declared"),
    )
    normal = Assumption(statement=Message("TL307.assume.normal", "the mean difference over units is close to normal"))
    norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in subject.net.modules())
    statistics = Assumption(
        statement=Message("TL307.assume.statistics", "running statistics belong to the averaged weights"),
        status=Status.MET,
        evidence=Message("TL307.assume.statistics.renewed", "{n} were taken anew from training rows", n=renewed)
        if norms
        else Message("TL307.assume.statistics.none", "there are none"),
    )
    if steps[0] < LATE * steps[-1]:  # the reading says so
        return chosen, normal, statistics
    late = Assumption(
        statement=Message("TL307.assume.late", "the averaged checkpoints are of the second half of training"),
        status=Status.MET,
        evidence=Message("TL307.assume.late.evidence", "steps {first} to {last}", first=steps[0], last=steps[-1]),
    )
    return chosen, late, normal, statistics


def _curve(course: dict[int, Floats], found: Comparison) -> Curve:
    return Curve(
        label=Message("TL307.figure", "Validation loss at the checkpoints, and that of their average"),
        lines=(
            Line(
                x=np.array(list(course), dtype=np.float64), y=np.array([float(v.mean()) for v in course.values()]),
                name=Message("TL307.figure.course", "checkpoints"),
            ),
        ),
        x_name=Message("TL307.figure.x", "step"),
        y_name=Message("TL307.figure.y", "validation loss"),
        walls=(Wall(at=found.average, name=Message("TL307.wall", "average of the last")),),
    )  # fmt: skip


def _table(found: Comparison) -> Table:
    rows: list[tuple[Message, float]] = [
        (Message("TL307.row.last", "last checkpoint"), found.last),
        (Message("TL307.row.average", "average"), found.average),
        (Message("TL307.row.difference", "difference"), found.difference.value),
        (Message("TL307.row.low", "from"), found.difference.lower),
        (Message("TL307.row.high", "to"), found.difference.upper),
    ]
    return Table(
        label=Message("TL307.table", "Validation loss of the last checkpoint and of the average"),
        columns=(Message("TL307.table.who", "network"), Message("TL307.table.loss", "validation loss")),
        rows=tuple(rows),
    )
