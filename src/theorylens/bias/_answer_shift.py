"""Do the network's answers on the test split look like those on the validation split, class by class?"""

from __future__ import annotations

import numpy as np
import torch

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Conclusion,
    Estimate,
    Intervals,
    Kind,
    Message,
    Payload,
    PValue,
    Result,
    Status,
    Table,
    Unknown,
    Verdict,
    Wall,
)

from ._classified import Classified, classified
from ._distances import FeatureShift, feature_shift
from ._label_shift import LabelShift, label_shift

ROWS = 5000
LEVEL = 0.05
FEWEST = 20  # rows in each split
SHOWN = 40  # classes of one picture
REFERENCES = (
    "Rabanser, Günnemann, Lipton (2019). Failing loudly: an empirical study of methods for detecting dataset shift. "
    "NeurIPS.",
    "Lipton, Wang, Smola (2018). Detecting and correcting for label shift with black box predictors. ICML.",
    "Holm (1979). A simple sequentially rejective multiple test procedure. Scand. J. Stat. 6:65-70.",
)


def judge(found: FeatureShift, n: int, m: int) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading of tests on ``n`` validation and ``m`` test rows."""
    k = int(np.argmin(found.p))
    p = claims(found)[k].said
    if found.smallest <= LEVEL:
        worst = k + (1 if len(found.p) == 1 else 0)  # of two classes the second is tested
        reason = Message("TL513.differs", "the answers differ, most clearly for class {worst} ({p})", worst=worst, p=p)
        text = (
            "No: the network's probabilities are distributed differently, most clearly for class {worst}, by {gap:.2f}"
            " of all rows ({p}). Its test errors need not be those of the data it was chosen on."
        )
        gap = float(found.statistics[k])
        return Verdict.FAILS, reason, Message("TL513.reading_differs", text, worst=worst, gap=gap, p=p)
    return _undecided(found, n, m)


def _undecided(found: FeatureShift, n: int, m: int) -> tuple[Verdict, Message, Message]:
    p = claims(found)[int(np.argmin(found.p))].said
    reason = Message("TL513.none", "no class shows a difference ({p})", p=p)
    text = (
        "Undecided: no difference of the network's answers was found between {n} validation and {m} test rows"
        " ({p}), which does not show that there is none."
    )
    return Verdict.DESCRIPTIVE, reason, Message("TL513.reading_none", text, n=n, m=m, p=p)


def claims(found: FeatureShift) -> tuple[PValue, ...]:
    """One test for each class; the verdict rests on the most surprising one."""
    text = "the probability of class {number} is distributed alike in both splits"
    first, least = (1 if len(found.p) == 1 else 0), int(np.argmin(found.p))
    return tuple(
        PValue(
            statement=Message("TL513.tested", text, number=k + first), p=float(found.p[k]),
            among_own=float(found.adjusted[k]), decides=k == least,
        )
        for k in range(len(found.p))
    )  # fmt: skip


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    if not (subject.has("validation") and subject.has("test")):
        return Work()
    return Work(
        forwards=float(sum(min(ROWS, len(subject.split(role))) for role in ("validation", "test"))), seconds=0.05
    )


@probe(code="TL513", needs={Need.VALIDATION, Need.TEST}, cost=_cost)
def probe_answer_shift(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """Does the network answer on the test split as it does on the validation split?

    Kolmogorov-Smirnov test of the probability of each class with Holm's adjustment; class shares of the test split
    from its answers alone.
    """
    del rng  # nothing is sampled
    one, other = (classified(subject, role, rows, "TL513") for role in ("validation", "test"))
    if min(len(one.labels), len(other.labels)) < FEWEST:
        text = "needs {least} rows with a class in the validation and test splits; give more"
        raise UnsuitableError(Message("TL513.few", text, least=FEWEST))
    first = one.probabilities[:, 1:] if one.classes == 2 else one.probabilities  # the two of a pair say the same
    second = other.probabilities[:, 1:] if other.classes == 2 else other.probabilities
    if not bool(torch.isfinite(first).all() and torch.isfinite(second).all()):
        raise UnsuitableError(
            Message("TL513.infinite", "some outputs are not finite; look for overflow in the network")
        )
    found = feature_shift(first, second)
    verdict, reason, reading = judge(found, len(one.labels), len(other.labels))
    other_verdict, said, longer = _undecided(found, len(one.labels), len(other.labels))
    why = Message("TL513.unknown", "the largest of several differences; its p-value says how surprising it is")
    return Result(
        estimate=Estimate(value=float(found.statistics.max()), uncertainty=Unknown(why=why)),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=_assumptions(subject, found, broken=found.smallest <= LEVEL),
        p_values=claims(found),
        otherwise=Conclusion(
            verdict=other_verdict, reason=said, reading=longer, assumptions=_assumptions(subject, found, broken=False)
        ),
        references=REFERENCES,
        payload=(_table(found, one.classes), *_shares(one, other)),
        settings={
            "p": found.smallest, "classes tested": len(found.p), "validation rows": len(one.labels),
            "test rows": len(other.labels),
        },
    )  # fmt: skip


def _assumptions(subject: Subject, found: FeatureShift, *, broken: bool) -> tuple[Assumption, ...]:
    same = Assumption(
        statement=Message("TL513.assume.same", "both splits come from one distribution"),
        status=Status.BROKEN if broken else Status.UNCHECKED,
        evidence=claims(found)[int(np.argmin(found.p))].said,
    )
    grouped = any(subject.split(r).distinct_units < len(subject.split(r)) for r in ("validation", "test"))
    free = Assumption(
        statement=Message("TL513.assume.rows", "rows are independent draws, and neither split was trained on"),
        status=Status.BROKEN if grouped else Status.UNCHECKED,
    )
    return same, free


def _table(found: FeatureShift, classes: int) -> Table:
    order = np.argsort(found.adjusted, kind="stable")[:SHOWN]
    first = 1 if classes == 2 else 0
    return Table(
        label=Message("TL513.table", "Difference of the probability of each class, most surprising first"),
        columns=(
            Message("TL513.table.class", "class"), Message("TL513.table.gap", "largest difference"),
            Message("TL513.table.p", "p"), Message("TL513.table.adjusted", "p after Holm, among classes"),
        ),
        rows=tuple(
            (str(k + first), float(found.statistics[k]), float(found.p[k]), float(found.adjusted[k])) for k in order
        ),
    )  # fmt: skip


def _shares(one: Classified, other: Classified) -> tuple[Payload, ...]:
    """Ratio of class shares read off the answers; nothing where they cannot be."""
    found = _label_shift(one, other)
    if found is None or len(found.weights) > SHOWN:
        return ()
    return (
        Intervals(
            label=Message(
                "TL513.figure", "Share of each class in the test over the validation split, from the answers alone"
            ),
            names=tuple(str(k) for k in range(len(found.weights))),
            values=found.weights,
            lower=found.lower,
            upper=found.upper,
            x_name=Message("TL513.figure.x", "ratio of shares, with 95 % intervals"),
            walls=(Wall(at=1.0, name=Message("TL513.wall", "no change")),),
        ),
    )


def _label_shift(one: Classified, other: Classified) -> LabelShift | None:
    try:
        return label_shift(one.labels, one.answers, other.answers, one.classes)
    except ValueError:  # a class without a validation row, or answers that hardly depend on the class
        return None
