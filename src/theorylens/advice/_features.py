"""Advice about what the network computes: shifts, features no better than at the start."""

from __future__ import annotations

from theorylens.results import Evidence, Message, Recommendation

from ._findings import UNTESTED, Advice, Findings, Strength, again, apart, said

SHIFTED = 0.02  # share of decisions a one-pixel shift changes; below it shifts are not what to work on


def pool_or_augment(found: Findings) -> Advice | None:
    """Many decisions change when the image moves by one pixel."""
    result = found.result("TL501")
    if result is None or result.estimate.lower <= SHIFTED:
        return None
    against: list[Evidence] = []
    start = result.control("init")
    if start is not None and start.estimate.lower > result.estimate.upper:
        finding = "training has lowered it from {init:.1%} already"
        against = [said("TL501", Message("advice.shift.lowered", finding, init=start.estimate.value))]
    change = "Augment with one-pixel shifts, or pool with a blur before each stride."
    finding = "moving the image by one pixel changes {share:.1%} of the decisions ({lower:.1%} to {upper:.1%})"
    values = {"share": result.estimate.value, "lower": result.estimate.lower, "upper": result.estimate.upper}
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="pool_or_augment",
            change=Message("advice.shift", change),
            supports=(said("TL501", Message("advice.shift.found", finding, **values)),),
            contradicts=tuple(against),
            effect=Message("advice.shift.effect", "steadier decisions; the effect on the error is untested"),
            command=again("TL501", "TL101"),
        ),
    )


def no_shifts(found: Findings) -> Advice | None:
    """Decisions hardly depend on one-pixel shifts: augmenting with them is not worth it."""
    result = found.result("TL501")
    if result is None or result.estimate.upper >= SHIFTED:
        return None
    finding = "moving the image by one pixel changes at most {upper:.1%} of the decisions"
    effect = "at most {upper:.1%} of the decisions could become steadier (computed)"
    upper = result.estimate.upper
    return Advice(
        strength=Strength.SPARED,
        recommendation=Recommendation(
            id="no_shifts",
            change=Message("advice.no_shifts", "Do not spend effort on small shifts; decisions hardly depend on them."),
            supports=(said("TL501", Message("advice.no_shifts.found", finding, upper=upper)),),
            effect=Message("advice.no_shifts.effect", effect, upper=upper),
            command=again("TL501"),
        ),
    )


def train_the_features(found: Findings) -> Advice | None:
    """The classes are read off the last hidden layer no better than before training, and the kernel did not turn.

    A kernel that aligned with the labels shows that the features were trained: the probe is then at its ceiling.
    """
    probe = found.result("TL202")
    start = probe.control("init") if probe is not None else None
    if probe is None or start is None or apart(probe.estimate, start.estimate):
        return None
    change = (
        "Let training change the features (a larger learning rate or a smaller initial scale), or keep them fixed and "
        "fit a linear classifier on top."
    )
    finding = (
        "a linear classifier reads {value:.1%} off the last hidden layer and {init:.1%} before training, no difference "
        "within the error"
    )
    values = {"value": probe.estimate.value, "init": start.estimate.value}
    supports = [said("TL202", Message("advice.features.found", finding, **values))]
    kernel = found.result("TL401")
    begun = kernel.control("init") if kernel is not None else None
    if kernel is not None and begun is not None:
        if apart(kernel.estimate, begun.estimate):
            return None
        values = {"value": kernel.estimate.value, "init": begun.estimate.value}
        finding = "the alignment of the tangent kernel is {value:.2f}, at initialisation {init:.2f}"
        supports.append(said("TL401", Message("advice.alignment", finding, **values)))
    return Advice(
        strength=Strength.SUGGESTED,
        recommendation=Recommendation(
            id="train_the_features",
            change=Message("advice.features", change),
            supports=tuple(supports),
            effect=UNTESTED,
            command=again("TL202", "TL401"),
        ),
    )
