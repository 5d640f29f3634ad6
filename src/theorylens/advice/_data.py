"""Advice about the data: whether training and test come from one source."""

from __future__ import annotations

from theorylens.results import Evidence, Message, Recommendation, Verdict

from ._findings import UNTESTED, Advice, Findings, Strength, again, said

LEVEL = 0.05  # of the two-sample test, when it says its p-value but no verdict


def find_the_shift(found: Findings) -> Advice | None:
    """A two-sample test tells training inputs from test inputs."""
    result, p = found.result("TL505"), found.number("TL505", "p")
    if result is None or not (result.verdict is Verdict.FAILS or (p is not None and p <= LEVEL)):
        return None
    change = "Find out how training and test rows were collected; split again at random unless the difference is meant."
    gap = found.result("TL104")
    supports, against = [said("TL505", result.reason)], list[Evidence]()
    if gap is not None and gap.estimate.lower <= 0 <= gap.estimate.upper:
        against.append(said("TL104", gap.reason))
    elif gap is not None and gap.estimate.lower > 0:
        supports.append(said("TL104", gap.reason))
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="find_the_shift",
            change=Message("advice.find_shift", change),
            supports=tuple(supports),
            contradicts=tuple(against),
            effect=UNTESTED,
            command=again("TL505", "TL104"),
        ),
    )
