"""TL102: the same test errors under other theorems: what the exact tail gains, and what a cruder one costs."""

from __future__ import annotations

import math
from typing import Any

import torch

from theorylens.core import Need, Subject, Work, probe
from theorylens.numerics.concentration import hoeffding
from theorylens.results import Kind, Message, Payload, Result, Table

from ._evidence import THEOREMS, Evidence, error_controls, estimated, evidence, upward
from ._holdout import HoldoutBound
from ._test_error import DELTA, assumptions, certificate_of, judge, settings, wrong_rows

REFERENCES = (
    "Hoeffding (1963). Probability inequalities for sums of bounded random variables. JASA 58:13-30.",
    "Langford (2005). Tutorial on practical prediction theory for classification. JMLR 6:273-306.",
)


def _cost(subject: Subject, rung: int | None) -> Work:
    return Work(forwards=2.0 * len(subject.split("test")))


@probe(code="TL102", needs={Need.TEST}, cost=_cost)
def probe_chernoff_kl(
    subject: Subject, *, rng: torch.Generator, delta: float = DELTA, comparisons: int = 1
) -> Result:  # fmt: skip
    """Do other theorems allow a smaller bound from the same test examples?

    Chernoff-kl (valid for any error in a known range) with the binomial tail and Hoeffding's inequality beside it. Each
    holds with the stated confidence on its own; the smallest of several may not be picked afterwards.
    """
    del rng  # nothing is sampled
    found = evidence(subject, "test", against=("train", "validation"))
    bound = found.bound(delta, comparisons, method="kl")
    exact = found.bound(delta, comparisons)
    crude = hoeffding_bound(found, delta / comparisons)
    verdict, reason = judge(bound.bound, found.trivial, len(found.shared_rows), share=found.is_share)
    name = subject.judged.error_name
    return Result(
        estimate=estimated(bound, name),
        kind=Kind.CERTIFICATE,
        verdict=verdict,
        reason=reason,
        reading=_reading(found, bound, exact, crude),
        assumptions=assumptions(found, bound, comparisons),
        controls=error_controls(
            subject,
            ("test",),
            lambda other: estimated(evidence(other, "test").bound(delta, comparisons, method="kl"), name),
        ),
        references=REFERENCES,
        payload=(_side_by_side(bound, exact, crude),),
        certificate=certificate_of(subject, found, bound, delta, comparisons),
        settings={**settings(found, bound, delta, comparisons), "hoeffding": crude, "headline": exact.bound},
        examples=wrong_rows(found),
    )


def hoeffding_bound(found: Evidence, delta: float) -> float:
    """Mean plus Hoeffding's radius, the larger of the ways to count rows, clipped to the error's range."""
    return found.rescaled(
        max(min(1.0, math.nextafter(s.mean + hoeffding(s.n, delta), math.inf)) for s in found.samples)
    )


def _reading(found: Evidence, bound: HoldoutBound, exact: HoldoutBound, crude: float) -> Message:
    share = found.is_share
    values: dict[str, Any] = {"kl": upward(bound.bound, share=share), "hoeffding": upward(crude, share=share)}
    if exact.method == "kl":
        texts = {
            True: "No other is needed: the error is not simply right or wrong, so Chernoff–kl ({kl:.2%}) is what is "
            "quoted; Hoeffding gives {hoeffding:.2%}.",
            False: "No other is needed: the error is not simply right or wrong, so Chernoff–kl ({kl:.4g}) is what is "
            "quoted; Hoeffding gives {hoeffding:.4g}.",
        }
        return Message("TL102.reading.kl", texts[share], **values)
    text = (
        "No: the exact binomial tail gives {exact:.2%}, Chernoff–kl {kl:.2%} and Hoeffding {hoeffding:.2%}; "
        "each holds on its own, not jointly."
    )
    return Message("TL102.reading", text, exact=upward(exact.bound, share=share), **values)


def _side_by_side(bound: HoldoutBound, exact: HoldoutBound, crude: float) -> Payload:
    columns = (
        Message("table.theorem", "theorem"), Message("table.units", "units"), Message("table.bound", "bound"),
        Message("table.measured", "measured error"), Message("table.confidence", "confidence"),
    )  # fmt: skip
    trust = 1 - bound.delta
    rows = [
        (THEOREMS["kl"], bound.n, bound.bound, bound.empirical, trust),
        (Message("theorem.hoeffding", "Hoeffding"), bound.n, crude, bound.empirical, trust),
    ]
    if exact.method == "binomial":
        rows.insert(0, (THEOREMS["binomial"], exact.n, exact.bound, exact.empirical, trust))
    text = "Bounds from the same test errors; each holds with its confidence on its own, they do not hold jointly"
    return Table(label=Message("TL102.table", text), columns=columns, rows=tuple(rows))
