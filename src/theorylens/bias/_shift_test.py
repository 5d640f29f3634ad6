"""Are the test inputs drawn from where the training inputs came from?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from theorylens.core import RUNGS, Need, Subject, UnsuitableError, Work, probe
from theorylens.results import Assumption, Conclusion, Intervals, Kind, Message, PValue, Result, Status, Verdict, Wall

from ._images import inputs_of
from ._two_sample import LEVEL, TwoSample, mmd_test

ROWS = 1000


def judge(found: TwoSample, n: int, m: int) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading of a test with ``n`` training and ``m`` test rows. Not rejecting is never "holds"."""
    if found.p > LEVEL:
        return _undecided(found, n, m)
    size, p = found.effect.value, claims(found).said
    reason = Message("TL505.differs", "test inputs differ from training inputs ({p})", p=p)
    text = (
        "No: test and training inputs differ ({p}); in kernel space their means lie {size:.2g} of the"
        " spread apart (squared; 95 % interval {lower:.2g} to {upper:.2g}). A certificate from the test split"
        " speaks of the test distribution only."
    )
    values = {"size": size, "lower": found.effect.lower, "upper": found.effect.upper}
    return Verdict.FAILS, reason, Message("TL505.reading_differs", text, p=p, **values)


def claims(found: TwoSample) -> PValue:
    statement = Message("TL505.tested", "training and test inputs come from one distribution")
    return PValue(statement=statement, p=found.p, decides=True)


def _undecided(found: TwoSample, n: int, m: int) -> tuple[Verdict, Message, Message]:
    p = claims(found).said
    text = "no difference found between {n} training and {m} test inputs ({p})"
    reason = Message("TL505.none_found", text, n=n, m=m, p=p)
    text = (
        "Undecided: no difference was found between {n} training and {m} test inputs ({p}), which does not show"
        " that there is none. An effect of {smallest:.2g} would have been found about four times in five or"
        " more; the 95 % interval reaches {upper:.2g}."
    )
    reading = Message(
        "TL505.reading_none", text, n=n, m=m, p=p, smallest=found.smallest, upper=found.effect.upper
    )  # fmt: skip
    return Verdict.DESCRIPTIVE, reason, reading


def _work(subject: Subject, rung: int | None) -> Work:
    if not (subject.has("train") and subject.has("test")):
        return Work()
    n = sum(min(ROWS, len(subject.split(role))) for role in ("train", "test"))
    return Work(flops=2.0 * n * n * ((rung or RUNGS[3]) + 1000), seconds=2e-5 * (rung or RUNGS[3]))


@probe(code="TL505", needs={Need.MODEL, Need.TRAIN, Need.TEST}, cost=_work, rungs=RUNGS[3:])
def probe_two_sample(subject: Subject, *, draws: int, rows: int = ROWS, rng: torch.Generator) -> Result:
    """Do the test inputs come from the same distribution as the training inputs?"""
    train, test = (_inputs(subject, role, rows) for role in ("train", "test"))
    if train.shape[1:] != test.shape[1:]:
        text = "training and test inputs have different shapes and cannot be compared"
        raise UnsuitableError(Message("TL505.shapes", text))
    pictures = train.ndim == 4
    x, y = _scaled(train.flatten(1).double(), test.flatten(1).double(), standardise=not pictures)
    if len(x) < 2 or len(y) < 2 or not bool((x != x[0]).any() | (y != x[0]).any()):
        raise UnsuitableError(Message("TL505.constant", "a comparison needs two rows in each split that differ"))
    found = mmd_test(x, y, draws, rng)
    verdict, reason, reading = judge(found, len(x), len(y))
    other, why, longer = _undecided(found, len(x), len(y))
    free = _exchangeable(subject)
    return Result(
        estimate=found.effect,
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=(_same(found, broken=found.p <= LEVEL), free),
        p_values=(claims(found),),
        otherwise=Conclusion(
            verdict=other, reason=why, reading=longer, assumptions=(_same(found, broken=False), free)
        ),
        references=(
            "Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012). A kernel two-sample test. JMLR 13:723.",
            "Phipson, Smyth (2010). Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9:39.",
        ),
        payload=(_picture(found),),
        settings={
            "p": found.p, "permutations": draws, "train rows": len(x), "test rows": len(y), "gamma": found.gamma,
            "inputs": "as given" if pictures else "each column divided by its spread",
            "smallest effect found 4 times in 5": found.smallest, "squared MMD": found.squared_mmd,
        },
    )  # fmt: skip


def _inputs(subject: Subject, role: str, rows: int) -> Tensor:
    found = inputs_of(subject, role, rows)
    if found is None:
        text = "the inputs are not one array of real numbers per example; this test compares distances between them"
        raise UnsuitableError(Message("TL505.unsuitable", text))
    return found


def _scaled(x: Tensor, y: Tensor, *, standardise: bool) -> tuple[Tensor, Tensor]:
    """Columns in units of their pooled spread: permuting rows leaves that unchanged, so the test stays exact."""
    if not standardise:
        return x, y
    spread = torch.cat([x, y]).std(0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return x / spread, y / spread


def _same(found: TwoSample, *, broken: bool) -> Assumption:
    statement = Message("TL505.same", "test inputs come from the distribution of the training inputs")
    status = Status.BROKEN if broken else Status.UNCHECKED
    return Assumption(statement=statement, status=status, evidence=claims(found).said)


def _exchangeable(subject: Subject) -> Assumption:
    statement = Message("TL505.exchangeable", "rows are independent draws, so that they may be permuted")
    grouped = [r for r in ("train", "test") if subject.split(r).distinct_units < len(subject.split(r))]
    if not grouped:
        return Assumption(statement=statement, status=Status.UNCHECKED)
    text = "rows of one unit are not independent, and units were declared in {splits}: the test rejects too often"
    evidence = Message("TL505.units", text, splits=", ".join(grouped))
    return Assumption(statement=statement, status=Status.BROKEN, evidence=evidence)


def _picture(found: TwoSample) -> Intervals:
    null = found.null.numpy() / found.spread
    low, high = np.quantile(null, [0.025, 0.975])
    return Intervals(
        label=Message("TL505.picture", "Difference of test from training inputs, beside that of shuffled splits"),
        names=(
            Message("TL505.name", "test against training"),
            Message("TL505.name.null", "shuffled"),
        ),
        values=np.asarray([found.effect.value, float(np.median(null))]),
        lower=np.asarray([found.effect.lower, low]),
        upper=np.asarray([found.effect.upper, high]),
        x_name=Message("TL505.effect", "squared distance of the means over the spread, in kernel space"),
        roles=("network", "shuffled"),
        walls=(Wall(at=0.0, name=Message("TL505.zero", "no difference")),),
    )
