"""Advice about the data: whether training saw what the network is judged on."""

from __future__ import annotations

from theorylens.results import Evidence, Message, Recommendation, Verdict

from ._findings import UNTESTED, Advice, Findings, Strength, again, message, said, value

FAR_WORSE = 2.0  # times the error of all rows; less than that is what errors of classes differ by anyway


def find_the_shift(found: Findings) -> Advice | None:
    """A two-sample test tells training inputs from test inputs."""
    result = found.result("TL505")
    if result is None or result.verdict is not Verdict.FAILS:
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


def train_every_class(found: Findings) -> Advice | None:
    """Classes of the other splits that training never saw."""
    result = found.result("TL503")
    if result is None or result.verdict is not Verdict.FAILS:
        return None
    change = "Add training examples of the classes that training never saw, or take these out of the other splits."
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="train_every_class",
            change=Message("advice.every_class", change),
            supports=(said("TL503", result.reason),),
            effect=UNTESTED,
            command=again("TL503", "TL101"),
        ),
    )


def worst_group_first(found: Findings) -> Advice | None:
    """One class or group is shown to err at least twice as often as all rows together."""
    result, whole = found.result("TL124"), found.result("TL101")
    worst = message(result, "TL124.reading.singled_out")
    lower = value(worst, "lower")
    if worst is None or lower is None or whole is None or lower < FAR_WORSE * whole.estimate.value:
        return None
    change = "Look at the wrong answers in {name} first; add training examples of it or weight them up."
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="worst_group_first",
            change=Message("advice.worst_group", change, name=worst.values["name"]),
            supports=(said("TL124", worst),),
            effect=UNTESTED,
            command=again("TL124", "TL503"),
        ),
    )
