"""TL103: a bound from the training examples alone, because the networks that fit in a computer are finitely many.

Method   Occam's razor: Chernoff-kl for one network, a union over all bit patterns of its weights
Source   Blumer, Ehrenfeucht, Haussler, Warmuth (1987); kl form: Langford (2005), JMLR 6:273
Assumes  architecture and number format were fixed before the training examples were seen
Breaks   nothing; it is true and, for every network of useful size, vacuous
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from theorylens.core import Need, Subject, Work, probe
from theorylens.numerics.relative_entropy import kl, kl_inverse
from theorylens.results import (
    Assumption,
    Certificate,
    Curve,
    Estimate,
    Kind,
    Line,
    Message,
    Predictor,
    Result,
    Statistical,
    Verdict,
    Wall,
)

from ._asked import probability, share, whole
from ._evidence import Evidence, drawn, error_controls, evidence, hashes, ledger, upward
from ._holdout import Sample
from ._test_error import DELTA

CURVE_SECONDS = 0.4  # about what the curve of the bound over sizes takes
THEOREM = Message("theorem.weight_bits", "Occam's razor over all settings of the weights' bits")
REFERENCES = (
    "Blumer, Ehrenfeucht, Haussler, Warmuth (1987). Occam's razor. Information Processing Letters 24:377-380.",
    "Langford (2005). Tutorial on practical prediction theory for classification. JMLR 6:273-306.",
)


def occam_bound(empirical: float, nats: float, n: int, delta: float) -> float:
    """Upper bound on the error of a predictor that was chosen on the very examples it is judged on.

    Before any example is seen every predictor h gets a probability P(h), the sum being at most 1; ``nats`` is
    ln(1/P(h)). For one fixed h with error R, Chernoff gives P(kl(R_n || R) >= c and R_n < R) <= exp(-n c). With
    c(h) = (ln(1/P(h)) + ln(1/delta))/n the failures of all h together have probability at most the sum of
    exp(-n c(h)) = delta P(h), hence delta: with probability 1 - delta, for all h at once, R <= kl_inverse(R_n, c(h)).
    A class of N equally probable predictors has nats = ln N.

    Parameters
    ----------
    empirical
        Mean error on the n examples, in [0, 1].
    nats
        Length of the predictor's description, ln(1/P(h)), at least 0.
    n
        Number of independent examples.

    >>> round(occam_bound(0.0, math.log(1000), 1000, 0.05), 6)
    0.009855
    """
    if not 0 <= empirical <= 1:
        raise ValueError(f"the measured error must lie in [0, 1], got {empirical}")
    if not nats >= 0:
        raise ValueError(f"a description length must be at least 0 nats, got {nats}; is it -ln P instead of ln P?")
    n = whole("n", n)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, got {delta}")
    return kl_inverse(empirical, math.nextafter((nats + math.log(1 / delta)) / n * (1 + 1e-15), math.inf))


def weight_bits(model: nn.Module) -> int:
    """Bits of everything training may have written: parameters and buffers, each storage once."""
    tensors = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    return sum(8 * t.numel() * t.element_size() for t in tensors.values())


def affordable_bits(empirical: float, trivial: float, n: int, delta: float) -> float:
    """Longest description, in bits, whose `occam_bound` lies below ``trivial``; negative when there is none."""
    empirical, trivial = share("empirical", empirical), share("trivial", trivial)
    n, delta = whole("n", n), probability("delta", delta)
    if empirical >= trivial:
        return -math.inf
    return (n * kl(empirical, trivial) - math.log(1 / delta)) / math.log(2)


def _cost(subject: Subject, rung: int | None) -> Work:
    return Work(forwards=2.0 * len(subject.split("train")), seconds=CURVE_SECONDS)


@probe(code="TL103", needs={Need.MODEL, Need.TRAIN}, cost=_cost)
def probe_weight_bits(
    subject: Subject, *, rng: torch.Generator, delta: float = DELTA, comparisons: int = 1
) -> Result:  # fmt: skip
    """What do the training examples alone guarantee, when every bit of the weights may have been fitted?

    The bound holds for all networks of this architecture and number format at once, hence for the trained one.
    ``comparisons`` architectures judged on the same training split share ``delta``.
    """
    del rng  # nothing is sampled
    found = evidence(subject, "train")
    bits, share = weight_bits(subject.net), delta / comparisons
    bound, sample = _largest(found, bits, share)
    verdict, reason = judge(bound, found.trivial, bits, share=found.is_share)
    budget = affordable_bits(sample.mean, _unit(found.trivial, found), sample.n, share)
    name = subject.judged.error_name
    return Result(
        estimate=_estimate(found, bits, share, name),
        kind=Kind.CERTIFICATE,
        verdict=verdict,
        reason=reason,
        reading=_reading(found, bound, bits, budget),
        assumptions=_assumptions(found, sample.n),
        controls=error_controls(
            subject, ("train",), lambda other: _estimate(evidence(other, "train"), bits, share, name)
        ),
        references=REFERENCES,
        payload=(_curve(found, sample, bits, budget, share),),
        certificate=Certificate(
            theorem=THEOREM.text, bound=bound, empirical=found.rescaled(sample.mean), n=sample.n, delta=delta,
            ledger=ledger(delta, comparisons, Message("ledger.train", "draw of the training examples")),
            comparisons=comparisons, loss=name, loss_range=found.error_range, trivial=found.trivial, split="train",
            hashes=hashes(subject), predictor=Predictor.THIS_MODEL,
        ),
        settings={
            "delta": delta, "comparisons": comparisons, "bits": bits, "units": sample.n, "trivial": found.trivial,
            "affordable_bits": budget if math.isfinite(budget) else None,
        },
    )  # fmt: skip


def judge(bound: float, trivial: float, bits: int, *, share: bool = True) -> tuple[Verdict, Message]:
    """Vacuous is the rule and no fault of the network: counting bits knows nothing of how training chooses."""
    if bound >= trivial:
        text = "{bits:,} free bits are too many for this number of examples: true, and no better than a constant guess"
        return Verdict.VACUOUS, Message("TL103.vacuous", text, bits=bits)
    texts = {
        True: "the bound of {bound:.2%} lies below {trivial:.2%}, the error of a constant guess",
        False: "the bound of {bound:.4g} lies below {trivial:.4g}, the error of a constant guess",
    }
    return Verdict.HOLDS, Message("TL103.holds", texts[share], bound=upward(bound, share=share), trivial=trivial)


def _largest(found: Evidence, bits: int, delta: float) -> tuple[float, Sample]:
    """The bound in the error's units, from the way of counting that gives the larger one."""
    best, sample = max(
        ((occam_bound(s.mean, bits * math.log(2), s.n, delta), s) for s in found.samples), key=lambda pair: pair[0]
    )  # fmt: skip
    return found.rescaled(best), sample


def _unit(value: float, found: Evidence) -> float:
    low, high = found.error_range
    return (value - low) / (high - low)


def _estimate(found: Evidence, bits: int, delta: float, name: str) -> Estimate:
    bound, sample = _largest(found, bits, delta)
    said = Message("method.all_networks", "holds for all networks of this architecture at once, one-sided")
    interval = Statistical(lower=-math.inf, upper=bound, level=1 - delta, method=said)
    return Estimate(value=found.rescaled(sample.mean), uncertainty=interval, unit=name)


def _reading(found: Evidence, bound: float, bits: int, budget: float) -> Message:
    values: dict[str, Any] = {"bits": bits, "n": len(found.units)}
    if bound < found.trivial:
        return Message("TL103.reading.holds", "Something: {n} examples outweigh {bits:,} bits of weights.", **values)
    if budget < 1:
        text = (
            "Nothing: from {n} examples not even a description of one bit would bring the bound below a constant guess."
        )
        return Message("TL103.reading.none", text, n=values["n"])
    text = (
        "Nothing here, which is no fault of the network: {n:,} examples could pay for a description of at most "
        "{budget:,.0f} bits, and the weights have {bits:,}."
    )
    return Message("TL103.reading", text, budget=budget, **values)


def _assumptions(found: Evidence, n: int) -> tuple[Assumption, ...]:
    fixed = "architecture, number format and preprocessing were fixed without the training examples"
    return Assumption(statement=Message("assume.fixed", fixed)), drawn(found, n)


def _curve(found: Evidence, sample: Sample, bits: int, budget: float, delta: float) -> Curve:
    """The bound against the length of the description: where it stops being vacuous, and where this network stands."""
    longest = 2 * max(bits, budget if math.isfinite(budget) else 0.0, 2.0)
    lengths = np.unique(np.round(np.logspace(0, math.log10(longest), 120)))

    def at(length: float) -> float:
        return found.rescaled(occam_bound(sample.mean, length * math.log(2), sample.n, delta))

    line = Line(
        x=lengths, y=np.array([at(x) for x in lengths]), role="theory",
        name=Message("line.occam", "bound at this training error"),
    )  # fmt: skip
    here = Line(x=np.array([float(bits)]), y=np.array([at(bits)]), name=Message("line.network", "this network"))
    label = "Bound against the number of bits that describe the network; below the trivial level it says something"
    walls = (Wall(at=found.trivial, name=Message("wall.trivial", "trivial level")),)
    return Curve(
        label=Message("TL103.curve", label), lines=(line, here), x_name=Message("axis.bits", "bits"),
        y_name=Message("axis.bound", "bound"), x_log=True, walls=walls,
    )  # fmt: skip
