"""Advice about training: longer, shorter, with other steps, with more data."""

from __future__ import annotations

import math

from theorylens.results import Estimate, Evidence, Message, Recommendation

from ._findings import UNTESTED, Advice, Findings, Strength, again, message, said, value

LEARNT = 1e-3  # a training error below this leaves the training loss little to teach
WORTH = 0.9  # doubling the training must promise a loss below this share of the present one
ROOM = 0.25  # of the stability limit; above that a larger step may already meet sharper directions of other rows
LARGE_GAP = 0.02  # two points of error; smaller gaps are rarely the first thing to work on
ONE_SIDED = 0.5  # share of the error that must lie in (or outside) the gap before advice takes its side


def train_longer(found: Findings) -> Advice | None:
    """The training loss was still falling when training stopped, and validation had not turned."""
    result = found.result("TL601")
    if result is None or result.estimate.upper >= 0 or message(result, "TL601.turned") is not None:
        return None
    left = 2**result.estimate.value
    if left > WORTH:
        return None
    learnt = found.number("TL104", "train")
    against: tuple[Evidence, ...] = ()
    if learnt is not None and learnt <= LEARNT:
        finding = Message("advice.learnt", "the training error is {train:.2%} already", train=learnt)
        against = (said("TL104", finding),)
    supports = [said("TL601", result.reason)]
    if (slope := message(found.result("TL303"), "TL303.slope")) is not None:
        supports.append(said("TL303", slope))
    effect = "if the power held, twice the training would leave {low:.0%} to {high:.0%} of the training loss; untested"
    low, high = sorted((2**result.estimate.lower, 2**result.estimate.upper))
    return Advice(
        strength=Strength.SUGGESTED if against else Strength.SHOWN,
        recommendation=Recommendation(
            id="train_longer",
            change=Message("advice.longer", "Train longer."),
            supports=tuple(supports),
            contradicts=against,
            effect=Message("advice.longer.effect", effect, low=low, high=high),
            command=again("TL601", "TL101"),
        ),
    )


def stop_earlier(found: Findings) -> Advice | None:
    """The validation loss had turned upwards before training stopped."""
    turned = message(found.result("TL601"), "TL601.turned")
    step, rise = value(turned, "step"), value(turned, "rise")
    if turned is None or step is None or rise is None:
        return None
    against: tuple[Evidence, ...] = ()
    gap = found.result("TL104")
    if gap is not None and gap.estimate.lower <= 0 <= gap.estimate.upper:
        against = (said("TL104", gap.reason),)
    change = "Stop near step {step}, where the validation loss was lowest."
    effect = "the validation loss was {share:.1%} lower there (measured); the effect on new examples is untested"
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="stop_earlier",
            change=Message("advice.stop", change, step=int(step)),
            supports=(said("TL601", turned),),
            contradicts=against,
            effect=Message("advice.stop.effect", effect, share=1 - 1 / (1 + rise)),
            command=again("TL601", "TL101"),
        ),
    )


def larger_steps(found: Findings) -> Advice | None:
    """The loss is still falling and the curvature leaves room for larger steps."""
    slope, sharp = found.result("TL601"), found.result("TL602")
    limit = value(message(sharp, "TL602.place.below"), "limit")
    if slope is None or sharp is None or limit is None or slope.estimate.upper >= 0:
        return None
    if sharp.estimate.upper >= ROOM * limit or sharp.estimate.value <= 0:
        return None
    finding = "the sharpness of {sharpness:.3g} is {share:.0%} of the stability limit {limit:.3g}"
    values = {"sharpness": sharp.estimate.value, "share": sharp.estimate.value / limit, "limit": limit}
    rose = message(sharp, "TL602.sharpened")
    return Advice(
        strength=Strength.SUGGESTED,
        recommendation=Recommendation(
            id="larger_steps",
            change=Message("advice.larger", "Try a larger learning rate, for instance twice the present one."),
            supports=(said("TL602", Message("advice.room", finding, **values)), said("TL601", slope.reason)),
            contradicts=(said("TL602", rose),) if rose is not None else (),
            effect=UNTESTED,
            command=again("TL601", "TL602"),
        ),
    )


def smaller_steps(found: Findings) -> Advice | None:
    """The loss rises at the end and the sharpness lies above what steps of this size can descend."""
    slope, sharp = found.result("TL601"), found.result("TL602")
    limit = value(message(sharp, "TL602.place.above"), "limit")
    if slope is None or sharp is None or limit is None or slope.estimate.lower <= 0:
        return None
    finding = "the sharpness of {sharpness:.3g} lies above the stability limit {limit:.3g}"
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="smaller_steps",
            change=Message("advice.smaller", "Lower the learning rate towards the end of training."),
            supports=(
                said("TL601", slope.reason),
                said("TL602", Message("advice.above", finding, sharpness=sharp.estimate.value, limit=limit)),
            ),
            effect=UNTESTED,
            command=again("TL601", "TL602"),
        ),
    )


def decay_the_rate(found: Findings) -> Advice | None:
    """Steps undo one another although the gradient still has a direction: the learning rate holds the loss up."""
    drift = found.result("TL604")
    if drift is None or message(drift, "TL604.no_lr") is None:
        return None
    supports, against = [said("TL604", drift.reason)], list[Evidence]()
    slope = found.result("TL601")
    if slope is not None and slope.estimate.upper < 0:
        against.append(said("TL601", slope.reason))
    learnt = found.number("TL104", "train")
    if learnt is not None and learnt <= LEARNT:
        fitted = Message("advice.learnt", "the training error is {train:.2%} already", train=learnt)
        against.append(said("TL104", fitted))
    change = "Let the learning rate fall to zero by the last step (cosine or linear) instead of stopping at this one."
    return Advice(
        strength=Strength.SUGGESTED,
        recommendation=Recommendation(
            id="decay_the_rate",
            change=Message("advice.decay", change),
            supports=tuple(supports),
            contradicts=tuple(against),
            effect=UNTESTED,
            command=again("TL604", "TL601"),
        ),
    )


def lower_at_the_end(found: Findings) -> Advice | None:
    """Training settled at the edge of stability: there the learning rate sets how sharply the loss may bend."""
    sharp = found.result("TL602")
    limit = value(message(sharp, "TL602.place.at"), "limit")
    decayed = message(found.result("TL604"), "TL604.no_lr") is not None  # `decay_the_rate` says the same on more
    if sharp is None or limit is None or decayed:
        return None
    finding = "the sharpness of {sharpness:.3g} is that of the stability limit {limit:.3g}: the rate holds it there"
    at = Message("advice.edge.found", finding, sharpness=sharp.estimate.value, limit=limit)
    slope = found.result("TL601")
    falling = slope is not None and slope.estimate.upper < 0
    change = (
        "Keep the learning rate until the end of training and lower it only for the last steps: lower from the start "
        "means sharper, larger means flatter."
    )
    effect = (
        "at half the rate the sharpness may rise to {twice:.3g} (computed); what that does to the error is untested"
    )
    return Advice(
        strength=Strength.SUGGESTED,
        recommendation=Recommendation(
            id="lower_at_the_end",
            change=Message("advice.edge", change),
            supports=(said("TL602", at),),
            contradicts=(said("TL601", slope.reason),) if slope is not None and falling else (),
            effect=Message("advice.edge.effect", effect, twice=2 * limit),
            command=again("TL602", "TL601"),
        ),
    )


def close_the_gap(found: Findings) -> Advice | None:
    """Most of the error appears only on new examples: more data or more regularisation, not a larger network."""
    gap, train, test = _errors(found)
    if gap is None or test <= 0 or gap.lower <= LARGE_GAP or gap.lower < ONE_SIDED * test:
        return None
    finding = "the error rises from {train:.2%} on training examples to {test:.2%} on new ones"
    change = "Collect more training examples, or regularise more: augmentation, weight decay."
    effect = "closing the gap entirely would win {lower:.2%} to {upper:.2%}; how much of it can be closed is untested"
    return Advice(
        strength=Strength.SHOWN,
        recommendation=Recommendation(
            id="close_the_gap",
            change=Message("advice.gap", change),
            supports=(said("TL104", Message("advice.gap.found", finding, train=train, test=test)),),
            effect=Message("advice.gap.effect", effect, lower=gap.lower, upper=gap.upper),
            command=again("TL104"),
        ),
    )


def no_regularisation(found: Findings) -> Advice | None:
    """The network errs on its training examples about as often as on new ones: the gap is not the problem."""
    gap, train, _ = _errors(found)
    if gap is None or train <= LARGE_GAP or gap.upper > ONE_SIDED * train:
        return None
    finding = "the error is {train:.2%} on the training examples already; new ones add at most {upper:.2%}"
    change = "Do not regularise more; it fits its training examples too badly."
    effect = "closing the gap entirely would win at most {upper:.2%} (computed)"
    upper = max(0.0, gap.upper)
    return Advice(
        strength=Strength.SPARED,
        recommendation=Recommendation(
            id="no_regularisation",
            change=Message("advice.no_regularisation", change),
            supports=(said("TL104", Message("advice.underfits", finding, train=train, upper=upper)),),
            effect=Message("advice.no_regularisation.effect", effect, upper=upper),
            command=again("TL104"),
        ),
    )


def _errors(found: Findings) -> tuple[Estimate | None, float, float]:
    """The gap's interval and both errors, when they are shares and no test row was seen before."""
    result = found.result("TL104")
    train, test = found.number("TL104", "train"), found.number("TL104", "test")
    share = (found.number("TL104", "low"), found.number("TL104", "high")) == (0.0, 1.0)
    if result is None or train is None or test is None or not share or found.number("TL104", "shared"):
        return None, math.nan, math.nan
    return result.estimate, train, test
