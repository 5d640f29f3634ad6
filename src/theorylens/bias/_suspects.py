"""Training labels that look wrong to a classifier that saw neither the row nor the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.core import Need, Subject, UnsuitableError, Work, probe
from theorylens.results import (
    Assumption,
    Cell,
    Estimate,
    Intervals,
    Kind,
    Message,
    Result,
    Status,
    Table,
    Unknown,
    Verdict,
)

from ._classified import Classified, classified
from ._images import inputs_of
from ._label_noise import suspected_labels
from ._left_out import LeaveOneOut, LeftOut
from ._long_tail import share

ROWS = 1000
FEWEST = 40  # rows with a class: fewer leave nothing to learn the classes from
PLANTED = 0.05  # share of the labels flipped on purpose
AT_LEAST = 20  # of them: fewer say nothing on what is found
# A search that misses every second wrong label tells nothing by finding none, and one that flags random labels no more
# often than the given ones knows nothing of the classes.
USEFUL = 0.5
SHOWN = 20
REFERENCES = (
    "Northcutt, Jiang, Chuang (2021). Confident learning: estimating uncertainty in dataset labels. JAIR 70:1373-1411.",
    "Hastie, Tibshirani, Friedman (2009). The Elements of Statistical Learning, section 7.10.",
)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What was found among ``rows`` rows: labels suspected, those on which the network answers the label all the same,
    and how many of the planted ones were found.
    """

    rows: int
    suspected: int
    kept_by_network: int
    planted: int
    found: int


def judge(s: Search) -> tuple[Verdict, Message, Message]:
    """Verdict, reason and reading."""
    power = share(s.found, s.planted)
    check = Message(
        "TL512.check",
        "Of {planted} labels flipped on purpose, {found} were found (95 % interval {lower:.0%} to {upper:.0%}).",
        planted=s.planted, found=s.found, lower=power.lower, upper=power.upper,
    )  # fmt: skip
    if power.value < USEFUL or power.lower <= s.suspected / s.rows:
        reason = Message(
            "TL512.weak", "wrong labels cannot be told here: {found} of {planted} planted ones were found",
            found=s.found, planted=s.planted,
        )  # fmt: skip
        text = (
            "Undecided: a classifier of the inputs alone cannot tell wrong labels here: it suspects {suspected} of the"
            " {rows} given ones. {check}"
        )
        reading = Message("TL512.reading_weak", text, suspected=s.suspected, rows=s.rows, check=check)
        return Verdict.INCONCLUSIVE, reason, reading
    if s.suspected == 0:
        reason = Message("TL512.none", "none of {rows} labels looks wrong", rows=s.rows)
        text = "None of {rows} labels looks wrong. {check}"
        return Verdict.DESCRIPTIVE, reason, Message("TL512.reading_none", text, rows=s.rows, check=check)
    reason = Message(
        "TL512.some", "{suspected} of {rows} labels look wrong ({share:.1%})",
        suspected=s.suspected, rows=s.rows, share=s.suspected / s.rows,
    )  # fmt: skip
    text = (
        "{suspected} of {rows} labels look wrong: the row resembles another class. {kept} {check} Look at them: a flag"
        " is no proof."
    )
    kept = _kept(s.kept_by_network)
    reading = Message("TL512.reading_some", text, suspected=s.suspected, rows=s.rows, kept=kept, check=check)
    return Verdict.DESCRIPTIVE, reason, reading


def _kept(rows: int) -> Message:
    if rows == 0:
        return Message("TL512.kept_none", "The network answers another class on all of them.")
    text = "The network answers the given label on {rows} of them: it learnt those by heart, or sees more."
    return Message("TL512.kept", text, rows=rows)


def _cost(subject: Subject, rung: int | None) -> Work:
    del rung
    n = min(ROWS, len(subject.split("train")))
    return Work(forwards=n, flops=30.0 * n**3, seconds=1e-4 * n)


@probe(code="TL512", needs={Need.MODEL, Need.TRAIN}, cost=_cost)
def probe_suspected_labels(subject: Subject, *, rng: torch.Generator, rows: int = ROWS) -> Result:
    """Which training labels look wrong, and would wrong ones be found?

    Confident learning on left-out scores of a kernel classifier of the inputs; labels flipped on purpose are the check.
    """
    known, classifier = judged_rows(subject, rows, "TL512")
    suspected = _suspects(classifier.fit(known.labels, known.classes), known.labels)
    planted = torch.randperm(len(known.labels), generator=rng)[: _enough(len(known.labels))].numpy()
    spoiled = known.labels.copy()
    spoiled[planted] = (
        spoiled[planted] + torch.randint(1, known.classes, (len(planted),), generator=rng).numpy()
    ) % known.classes
    found = np.intersect1d(_suspects(classifier.fit(spoiled, known.classes), spoiled), planted)
    left = classifier.fit(known.labels, known.classes)
    agrees = int((known.answers[suspected] == known.labels[suspected]).sum())
    search = Search(
        rows=len(known.labels), suspected=len(suspected), kept_by_network=agrees, planted=len(planted), found=len(found)
    )
    verdict, reason, reading = judge(search)
    why = Message("TL512.unknown", "a flag is no proof, and some wrong labels are missed")
    return Result(
        estimate=Estimate(value=len(suspected) / len(known.labels), uncertainty=Unknown(why=why)),
        kind=Kind.DESCRIPTION,
        verdict=verdict,
        reason=reason,
        reading=reading,
        assumptions=_assumptions(left.accuracy(known.labels)),
        references=REFERENCES,
        payload=(_shares(search), *_table(known, left, suspected)),
        settings={
            "rows": len(known.labels), "planted": len(planted), "planted found": len(found),
            "left-out accuracy": left.accuracy(known.labels),
        },
        examples=tuple(int(known.rows[i]) for i in suspected),
    )  # fmt: skip


def judged_rows(subject: Subject, rows: int, code: str) -> tuple[Classified, LeaveOneOut]:
    """Training rows with a class, and the left-out classifier of their inputs.

    Raises
    ------
    UnsuitableError
        No classification, inputs that are not one array of numbers per row, or too few rows or classes.
    """
    known = classified(subject, "train", rows, code)
    inputs = inputs_of(subject, "train", rows)
    if inputs is None:
        text = "the inputs are not one array of real numbers per example, which the classifier of inputs needs"
        raise UnsuitableError(Message(f"{code}.inputs", text))
    if len(known.labels) < FEWEST or len(np.unique(known.labels)) < 2:
        text = "needs {least} training rows of at least 2 classes; give more rows"
        raise UnsuitableError(Message(f"{code}.few", text, least=FEWEST))
    try:
        return known, LeaveOneOut(inputs.cpu()[known.kept])
    except ValueError as error:
        text = "half of the inputs are equal, or some are not finite: they cannot be compared by distance"
        raise UnsuitableError(Message(f"{code}.alike", text)) from error


def _suspects(left: LeftOut, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return suspected_labels(labels, left.probabilities)


def _enough(rows: int) -> int:
    """How many labels are flipped on purpose: of any rows, so that random labels are no easier to find than given."""
    return max(AT_LEAST, round(PLANTED * rows))


def _assumptions(accuracy: float) -> tuple[Assumption, ...]:
    alike = Assumption(
        statement=Message("TL512.assume.alike", "rows of a class resemble each other in the inputs"),
        status=Status.UNCHECKED,
        evidence=Message(
            "TL512.assume.alike.evidence",
            "left out, {accuracy:.1%} of the rows are given their label",
            accuracy=accuracy,
        ),
    )
    even = Assumption(
        statement=Message("TL512.assume.even", "wrong labels are scattered, like the planted ones"),
    )
    return alike, even


def _shares(s: Search) -> Intervals:
    rows = [
        (Message("TL512.share.suspected", "labels that look wrong"), share(s.suspected, s.rows)),
        (Message("TL512.share.found", "planted wrong labels found"), share(s.found, s.planted)),
    ]
    if s.suspected:
        kept = Message("TL512.share.kept", "suspects the network answers by their label")
        rows.append((kept, share(s.kept_by_network, s.suspected)))
    return Intervals(
        label=Message("TL512.figure", "Suspected labels, and the check on labels flipped on purpose"),
        names=tuple(name for name, _ in rows),
        values=np.array([e.value for _, e in rows]),
        lower=np.array([e.lower for _, e in rows]),
        upper=np.array([e.upper for _, e in rows]),
        x_name=Message("TL512.figure.x", "share, with exact binomial intervals"),
    )


def _table(known: Classified, left: LeftOut, suspected: NDArray[np.int64]) -> tuple[Table, ...]:
    if not len(suspected):
        return ()
    rows: list[tuple[Cell, ...]] = []
    for i in suspected[:SHOWN]:
        own, best = left.probabilities[i, known.labels[i]], left.probabilities[i].max()
        stays = known.answers[i] == known.labels[i]
        answer = Message("TL512.stays", "the label") if stays else Message("TL512.other", "another class")
        rows.append((int(known.rows[i]), float(own), float(best), answer))
    return (
        Table(
            label=Message("TL512.table", "The most suspicious labels, as the other rows see them"),
            columns=(
                Message("TL512.table.row", "row"), Message("TL512.table.own", "probability of its label"),
                Message("TL512.table.best", "of the suspected class"), Message("TL512.table.answer", "network answers"),
            ),
            rows=tuple(rows),
        ),
    )  # fmt: skip
