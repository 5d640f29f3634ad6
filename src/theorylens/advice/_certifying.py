"""Advice about certificates: what makes one valid, and what would make it tighter."""

from __future__ import annotations

import math

from theorylens.results import Certificate, Evidence, Message, Recommendation, Verdict

from ._findings import UNTESTED, Advice, Findings, Strength, again, said

SLACK = 0.01  # a bound within one point of the measured error is not limited by the size of the test split
SLACK_SHARE = 0.25  # nor is one within a quarter of the measured error
MANY = 5  # models judged on one split; below that the price is under a third of the logarithm at delta 5 %
BALANCED = 0.6  # of the even level; above it the largest class is common, not dominating
TOO_LONG = 10.0  # times the description the examples could pay for; nearer than that shrinking may be worth a thought


def separate_test_rows(found: Findings) -> Advice | None:
    """Test inputs that also occur in training or validation: the certificate does not hold until they are gone."""
    supports: list[Evidence] = []
    shared, rows = found.number("TL101", "shared"), found.number("TL101", "rows")
    if shared and rows is not None:
        finding = Message("advice.shared", "{n} of {rows} test rows were seen before", n=int(shared), rows=int(rows))
        supports.append(said("TL101", finding))
    overlap = found.result("TL504")
    if overlap is not None and overlap.settings.get("split") == "test" and overlap.estimate.value > 0:
        supports.append(said("TL504", overlap.reason))
    if not supports:
        return None
    change = "Take the test inputs that also occur in training or validation out of the test split."
    return Advice(
        strength=Strength.VALIDITY,
        recommendation=Recommendation(
            id="separate_test_rows",
            change=Message("advice.separate", change),
            supports=tuple(supports),
            effect=Message("advice.separate.effect", "the certificate can hold; its value is untested"),
            command="theorylens check subject.py:make",
        ),
    )


def units_for(empirical: float, bound: float, n: int, target: float) -> float:
    """Units that bring the bound down to ``target`` if the measured error, in [0, 1), stays.

    A Chernoff bound solves n kl(e || bound) = ln(1/delta); the exact tail solves it with a somewhat smaller right side
    that falls slowly with n. Reading that side off the present bound makes the answer exact for the one and slightly
    too many for the other.
    """
    if not 0 <= empirical < target < bound <= 1:
        raise ValueError(f"needed is 0 <= error < target < bound <= 1, got {empirical}, {target} and {bound}")
    return n * _kl(empirical, min(bound, 1 - 1e-12)) / _kl(empirical, target)


def _kl(q: float, p: float) -> float:
    first = q * math.log(q / p) if q else 0.0
    return first + (1 - q) * math.log((1 - q) / (1 - p))


def more_test_units(found: Findings) -> Advice | None:
    """The bound lies far above the measured error only because the test split is small."""
    result = found.result("TL101")
    bound = result.certificate if result is not None and result.verdict is not Verdict.INCONCLUSIVE else None
    if bound is None or bound.loss_range != (0.0, 1.0):
        return None
    slack = bound.bound - bound.empirical
    if bound.empirical >= bound.trivial or slack <= max(SLACK, SLACK_SHARE * bound.empirical):
        return None
    target = bound.empirical + slack / 2
    units = math.ceil(units_for(bound.empirical, bound.bound, bound.n, target))
    change = "Test on about {units} independent units instead of {n}."
    finding = "the bound lies {slack:.2%} above the measured {error:.2%} because only {n} units were tested"
    effect = "if the measured error stays, the bound falls from {bound:.2%} to about {target:.2%} (computed)"
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="more_test_units",
            change=Message("advice.units", change, units=units, n=bound.n),
            supports=(said("TL101", Message("advice.slack", finding, slack=slack, error=bound.empirical, n=bound.n)),),
            effect=Message("advice.units.effect", effect, bound=bound.bound, target=target),
            command=again("TL101"),
        ),
    )


def fresh_test_split(found: Findings) -> Advice | None:
    """Many models were judged on one test split: each further one makes every bound larger."""
    result = found.result("TL101")
    bound = result.certificate if result is not None else None
    if bound is None or bound.comparisons < MANY:
        return None
    change = "Set a fresh test split aside before judging more models; choose among them on validation."
    finding = Message("advice.compared", "{count} models were judged on this test split", count=bound.comparisons)
    effect = "paying for {count} models costs as much as losing {lost:.0%} of the test units (Chernoff, computed)"
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="fresh_test_split",
            change=Message("advice.fresh", change),
            supports=(said("TL101", finding),),
            effect=Message("advice.fresh.effect", effect, count=bound.comparisons, lost=_lost(bound)),
            command=again("TL101"),
        ),
    )


def _lost(bound: Certificate) -> float:
    """Share of units whose loss would cost a Chernoff bound what the comparisons cost."""
    alone = math.log(1 / bound.delta)
    return 1 - alone / (alone + math.log(bound.comparisons))


def state_an_error(found: Findings) -> Advice | None:
    """A constant guess is right so often that the error says little: judge by class."""
    result = found.result("TL101")
    bound = result.certificate if result is not None else None
    classes = found.facts.classes if found.facts is not None else None
    if bound is None or classes is None or classes < 2 or bound.loss.lower() != "0-1 loss":
        return None
    even = 1 - 1 / classes
    if bound.trivial >= even * BALANCED:
        return None
    change = "Judge it by class: state Task(error=...) that weighs classes alike, or collect examples of the rare ones."
    finding = (
        "a guess that ignores the input errs on {trivial:.2%} only; with {classes} equally frequent classes it would "
        "err on {even:.2%}"
    )
    against = "even so its bound of {bound:.2%} lies below that guess"
    better = Message("advice.still_below", against, bound=bound.bound)
    values = {"trivial": bound.trivial, "classes": classes, "even": even}
    supports = [said("TL101", Message("advice.trivial", finding, **values))]
    if (balance := found.result("TL503")) is not None:
        supports.append(said("TL503", balance.reason))
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="state_an_error",
            change=Message("advice.by_class", change),
            supports=tuple(supports),
            contradicts=(said("TL101", better),) if not bound.vacuous else (),
            effect=UNTESTED,
            command=again("TL101", "TL503"),
        ),
    )


def no_smaller_network(found: Findings) -> Advice | None:
    """Counting weights says nothing here; shrinking the network for that number's sake is not worth it."""
    result = found.result("TL103")
    bits, affordable = found.number("TL103", "bits"), found.number("TL103", "affordable_bits")
    if result is None or result.verdict is not Verdict.VACUOUS or not bits or not affordable or affordable < 1:
        return None
    if bits < TOO_LONG * affordable:
        return None
    change = "Do not make the network smaller for the sake of a bound that counts its weights."
    finding = "the weights have {bits:.3g} bits; these examples could pay for {affordable:.3g}"
    effect = "the description would have to become {times:.0f} times shorter before that bound says anything (computed)"
    return Advice(
        strength=Strength.SPARED,
        recommendation=Recommendation(
            id="no_smaller_network",
            change=Message("advice.no_smaller", change),
            supports=(said("TL103", Message("advice.bits", finding, bits=bits, affordable=affordable)),),
            effect=Message("advice.no_smaller.effect", effect, times=bits / affordable),
            command=again("TL103"),
        ),
    )
